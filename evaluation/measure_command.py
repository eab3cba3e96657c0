"""`python -m evaluation measure`: put a frozen plan to a model, before or after the change.

python -m evaluation measure PLAN.json --model FOLDER --out RESULT.json [--before] [--by NAME]
python -m evaluation measure PLAN.json --endpoint URL --name MODEL [--key-file FILE] --out …

Before a change no attack is run. After it, --by says who applied the change: never who froze the
plan. Exit status 1 when the figures cannot be relied on, with the reasons; they are written anyway.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.answering_options import add_options, answerer, check_options, where_told
from evaluation.freezing import open_frozen
from evaluation.measure import measure
from evaluation.private_files import check_new
from evaluation.reliance import problems_in
from evaluation.result_files import AFTER, BEFORE, Result
from evaluation.text_tables import aligned, percent
from evaluation.thresholds import Thresholds
from language_models.command_line import WIDTH, Meter, carried_out
from language_models.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evaluation.results import AttackResult, GroupResult, Measurement


def main(arguments: Sequence[str]) -> int:
    """Measure; return 0, or 1 after an error or with figures that cannot be relied on."""
    given = _parser().parse_args(arguments)
    return carried_out(lambda: _measure(given))


def _measure(given: argparse.Namespace) -> int:
    check_new(given.out)
    check_options(given)
    frozen = open_frozen(given.plan)
    if given.by is not None:
        if given.before:
            raise RequestError("Before a change nobody applied it. Leave --by or --before out.")
        # When it was applied is not known here, only that it is not later than now.
        frozen.require(applied_by=given.by, applied_at=datetime.now(UTC))
    asked = answerer(given)
    found = measure(asked, frozen.plan, Meter(sys.stderr), attacks=not given.before)
    result = Result(
        BEFORE if given.before else AFTER,
        datetime.now(UTC).isoformat(timespec="seconds"),
        (given.by or "").strip(),
        frozen.frozen_by,
        frozen.frozen_at,
        frozen.plan.thresholds,
        found,
    )
    result.save(given.out)
    problems = problems_in(found, Thresholds.from_mapping(frozen.plan.thresholds))
    sys.stdout.write(f"{result.stage} the change, plan {frozen.digest}\n{_told(found, problems)}")
    return 1 if problems else 0


def _told(found: Measurement, problems: Sequence[str]) -> str:
    parts = [f"asked: {where_told(found.where)}\n"]
    if found.groups:
        parts.append(_groups(found.groups))
        texts = found.texts
        told = (
            f"{texts.answers} answers, {texts.empty} empty, {texts.endless} cut off at the longest"
            " length\n"
        )
        if found.perplexity is not None:
            told += f"perplexity of other texts: {found.perplexity:.4g}\n"
        parts.append(told)
    if "left_out" in found.scores:
        parts.append(f"{found.scores['left_out']}\n")
    if short := found.scores.get("too_short"):
        parts.append(
            f"left out, as texts of one token have nothing to score: {short['held_out']} of the"
            f" other texts, {short['own']} of the person's\n"
        )
    if areas := found.scores.get("membership"):
        rows = [["membership of the person's texts", "area", "95 % from", "to"]]
        rows += [
            [name, *(f"{one[key]:.2f}" for key in ("area", "low", "high"))]
            for name, one in areas.items()
        ]
        parts.append(f"{aligned(rows)}0.50 tells nothing.\n")
    if found.attacks:
        parts.append(_attacks(found.attacks))
    parts += [textwrap.fill(f"problem: {one}", WIDTH) + "\n" for one in problems]
    return "\n".join(parts)


def _groups(groups: Mapping[str, GroupResult]) -> str:
    rows = [["group", "probes", "prompts", "hits", "rate", "95 % from", "to"]]
    rows += [
        [name, str(one.n), str(one.prompts), str(one.hits),
         percent(one.rate), percent(one.lower_95), percent(one.upper_95)]
        for name, one in groups.items()
    ]  # fmt: skip
    return aligned(rows)


def _attacks(attacks: Sequence[AttackResult]) -> str:
    rows = [["attack", "leak", "by chance", "others"]]
    notes = []
    for one in attacks:
        rates = [one.groups[name].rate if name in one.groups else None
                 for name in ("leak", "control", "others")]  # fmt: skip
        if one.groups:
            rows.append([one.title, *map(percent, rates)])
        if "left_out" in one.details:
            notes.append(f"{one.title} was not run: {one.details['left_out']}.\n")
        elif "layer" in one.details:
            layer, shares = one.details["layer"], one.details["shares"]
            own, other = (percent(shares[name][layer]) if name in shares else "-"
                          for name in ("leak", "control"))  # fmt: skip
            notes.append(
                f"{one.title}: the value's first token is among the"
                f" {one.settings['budget']} likeliest of layer {layer} in {own}, by chance {other}."
                "\n"
            )
    return (aligned(rows) if rows[1:] else "") + "".join(notes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation measure",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("plan", type=Path, help="file of the frozen plan")
    parser.add_argument("--out", type=Path, required=True, help="new file of the result")
    parser.add_argument("--before", action="store_true", help="the change is not made yet")
    parser.add_argument("--by", help="who applied the change")
    add_options(parser)
    return parser
