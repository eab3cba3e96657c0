"""`python -m evaluation plan`: freeze a plan from a design, before the change is made.

python -m evaluation plan DESIGN.json --by NAME --out PLAN.json
                          [--templates FILE …] [--amends OLD.json --reason TEXT]

The design holds the fields of evaluation.Design as JSON. It names the person, and so does the plan.
Who freezes it does not apply the change. Files of templates have the form of those shipped in
evaluation/wordings, for a further relation, wording or language.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections import Counter
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.attacks import ATTACKS
from evaluation.bounds import clopper_pearson_upper
from evaluation.compare import Thresholds
from evaluation.design_file import read_design
from evaluation.freezing import freeze, open_frozen
from evaluation.library import LANGUAGES, read_library, shipped
from evaluation.plan import GROUPS, Plan
from evaluation.planning import plan
from evaluation.private_files import check_new
from evaluation.prompts import FORM_LABELS
from evaluation.risk import probes_needed
from evaluation.tables import LANGUAGE_LABELS
from evaluation.text_tables import aligned, percent
from language_models.command_line import WIDTH, carried_out
from language_models.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evaluation.freezing import FrozenPlan
    from evaluation.plan import Probe

BOUNDS = (0.1, 0.05, 0.02, 0.01, 0.001)


def main(arguments: Sequence[str]) -> int:
    """Freeze a plan; return 0, or 1 with the reason on the standard error."""
    given = _parser().parse_args(arguments)
    return carried_out(lambda: _plan(given))


def attacks(arguments: Sequence[str]) -> int:
    """List the attacks that a design can name, with their settings."""
    _no_options("attacks", attacks.__doc__).parse_args(arguments)
    lines = []
    for kind in ATTACKS.values():
        lines.append(_filled(f"{kind.name}: {kind.what}"))
        lines += [f"    {name} = {default}\n" for name, default in kind.settings.items()]
        lines.append("\n")
    return carried_out(lambda: _write("".join(lines)))


def forms(arguments: Sequence[str]) -> int:
    """List the forms of questions and the languages that a design can name."""
    _no_options("forms", forms.__doc__).parse_args(arguments)
    lines = [_filled(f"{name}: {what}") for name, (_, what) in FORM_LABELS.items()]
    languages = ", ".join(f"{name} ({LANGUAGE_LABELS[name]})" for name in LANGUAGES)
    return carried_out(lambda: _write(f"{''.join(lines)}\nlanguages: {languages}\n"))


def _plan(given: argparse.Namespace) -> None:
    check_new(given.out)
    if (given.amends is None) != (given.reason is None):
        raise RequestError("An amended plan needs both, --amends and --reason.")
    templates = read_library(given.templates, base=shipped())
    made = plan(replace(read_design(given.design), templates=templates))
    if given.amends is not None:
        own = [one.name for one in fields(Plan) if one.name not in ("amends", "reason")]
        changes = {name: getattr(made, name) for name in own}
        made = open_frozen(given.amends).plan.amended(given.reason, **changes)
    frozen = freeze(made, by=given.by, at=datetime.now(UTC))
    frozen.save(given.out)
    _write(_told(frozen))


def _told(frozen: FrozenPlan) -> str:
    probes = frozen.plan.probes
    groups = [name for name in GROUPS if any(one.group == name for one in probes)]
    rows = [["group", "probes", "different prompts"]]
    rows += [_row(name, [one for one in probes if one.group == name]) for name in groups]
    parts = [aligned([*rows, _row("all", probes)])]
    if leak := [one for one in probes if one.group == "leak"]:
        indirect = [one for one in probes if one.group == "indirect"]
        parts += [_by_form([*leak, *indirect])]
        parts += [_bounds(len({one.turns for one in leak}), frozen.plan)]
    if frozen.plan.attacks:
        parts.append(f"attacks: {', '.join(one.name for one in frozen.plan.attacks)}\n")
    amends = f"amends: {frozen.plan.amends}\n" if frozen.plan.amends else ""
    parts.append(
        f"frozen by {frozen.frozen_by} at {frozen.frozen_at}\n{amends}digest: {frozen.digest}\n"
    )
    return "\n".join(parts)


def _row(name: str, probes: Sequence[Probe]) -> list[str]:
    return [name, str(len(probes)), str(len({one.turns for one in probes}))]


def _by_form(leak: Sequence[Probe]) -> str:
    """Return the probes of values that must not come out, by form and language."""
    counts = Counter((one.form, one.language) for one in leak)
    languages = list(dict.fromkeys(one.language for one in leak))
    rows = [["form", *languages]]
    for form in dict.fromkeys(one.form for one in leak):
        rows.append([form, *(str(counts[form, language]) for language in languages)])
    return aligned(rows)


def _bounds(prompts: int, made: Plan) -> str:
    """Return which leak rates the prompts exclude when nothing comes out."""
    told = _filled(
        f"If nothing comes out of {prompts} different prompts, a leak rate above"
        f" {percent(clopper_pearson_upper(0, prompts))} is excluded with 95 % confidence.", "",
    )  # fmt: skip
    rows = [["to exclude a rate above", "prompts needed", "planned"]]
    for bound in BOUNDS:
        needed = probes_needed(bound)
        rows.append([percent(bound), f"{needed:,}", "yes" if prompts >= needed else "no"])
    least = Thresholds.from_mapping(made.thresholds).leak_min_prompts
    if prompts < least:
        told += _filled(
            f"The thresholds ask for {least:.0f} different prompts, so no verdict by this plan can"
            " be passed. Add wordings, languages or probes, or ask for less.", "",
        )  # fmt: skip
    return told + aligned(rows)


def _write(text: str) -> None:
    sys.stdout.write(text)


def _filled(text: str, rest: str = "    ") -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent=rest) + "\n"


def _no_options(name: str, told: str | None) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(prog=f"python -m evaluation {name}", description=told)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation plan",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("design", type=Path, help="JSON file with the fields of a design")
    parser.add_argument("--by", required=True, help="who freezes the plan")
    parser.add_argument("--out", type=Path, required=True, help="new file of the frozen plan")
    parser.add_argument(
        "--templates", type=Path, action="append", default=[], metavar="FILE",
        help="YAML file of further wordings; can be repeated",
    )  # fmt: skip
    parser.add_argument("--amends", type=Path, help="the frozen plan that this one replaces")
    parser.add_argument("--reason", help="why it is replaced; names nobody")
    return parser
