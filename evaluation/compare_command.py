"""`python -m evaluation compare`: the verdict on a change, by two measurements of one plan.

python -m evaluation compare BEFORE.json AFTER.json [--policy policy.yaml] [--json FILE]

Judged by the thresholds that the plan was frozen with, or by those of a policy file. Exit status 0
for passed, 1 for failed, 2 for unknown and after an error, after which nothing is known.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.answering_options import where_told
from evaluation.attack_classes import classes_run, told
from evaluation.compare import FAILED, PASSED, Thresholds, Verdict, compare
from evaluation.private_files import check_new, write_new
from evaluation.result_files import AFTER, BEFORE, Result, open_result
from evaluation.tables import attack_rows, leak_rows, neighbour_rows, tables
from evaluation.text_tables import aligned, percent
from language_models.command_line import WIDTH, carried_out
from language_models.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evaluation.tables import AttackRow, Row

STATUS = {PASSED: 0, FAILED: 1}
UNKNOWN_STATUS = 2


def main(arguments: Sequence[str]) -> int:
    """Judge; return 0 for passed, 1 for failed, 2 for unknown or an error."""
    given = _parser().parse_args(arguments)
    return carried_out(lambda: _compare(given), UNKNOWN_STATUS)


def read_thresholds(path: Path) -> dict[str, float]:
    """Read the `thresholds` of a policy file (YAML). Raises RequestError."""
    import yaml

    try:
        row = yaml.safe_load(path.read_bytes())
        limits = dict(row["thresholds"])
        Thresholds.from_mapping(limits)
    except (yaml.YAMLError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        raise RequestError(
            "The policy has no thresholds that can be read. Give a YAML file with names and numbers"
            ' under "thresholds".'
        ) from None
    return limits


def _compare(given: argparse.Namespace) -> int:
    check_new(given.json)
    before, after = open_result(given.before), open_result(given.after)
    _check_order(before, after)
    limits: Mapping[str, float] = after.thresholds
    if given.policy is not None:
        limits = read_thresholds(given.policy)
    verdict = compare(before.measurement, after.measurement, limits)
    if given.json is not None:
        write_new((given.json, _as_json(before, after, limits, verdict)))
    changed = Thresholds.from_mapping(limits) != Thresholds.from_mapping(after.thresholds)
    parts = (
        _measured(before, after, changed=changed),
        _tables(before, after),
        _told(verdict, told(classes_run(after.measurement), run=False)),
    )
    sys.stdout.write("\n".join(part for part in parts if part))
    return STATUS.get(verdict.outcome, UNKNOWN_STATUS)


def _check_order(before: Result, after: Result) -> None:
    """Refuse two results that are not of one frozen plan, first before and then after a change."""
    if (before.stage, after.stage) != (BEFORE, AFTER):
        raise RequestError(
            "Give the measurement before the change first (measure --before), then the one after."
        )
    times = (datetime.fromisoformat(one.measured_at) for one in (before, after))
    if next(times) > next(times):
        raise RequestError("The measurement before the change is the later one. Measure again.")
    if (before.frozen_by, before.frozen_at) != (after.frozen_by, after.frozen_at):
        raise RequestError("The plan was frozen twice. Measure both by one frozen plan.")


def _measured(before: Result, after: Result, *, changed: bool) -> str:
    plan, stages = after.measurement.plan_digest, (before, after)
    lines = [f"plan {plan}, frozen by {after.frozen_by} at {after.frozen_at}"]
    lines += [
        f"{one.stage}: {where_told(one.measurement.where)}, at {one.measured_at}" for one in stages
    ]
    if after.applied_by:
        lines.append(f"the change was applied by {after.applied_by}")
    else:
        lines.append(
            "Who applied the change was not said (measure --by); it must not be who froze the plan."
        )
    where = after.measurement.where
    # A service may have changed its weights under one name.
    if where == before.measurement.where and where.get("kind") == "weights":
        lines.append("Both measurements are of the same model: nothing was changed.")
    if changed:
        lines.append("The thresholds are not those that the plan was frozen with.")
    return "".join(textwrap.fill(line, WIDTH) + "\n" for line in lines)


def _tables(before: Result, after: Result) -> str:
    old, new = before.measurement, after.measurement
    titles = ("values that come out", "answers that should stay")
    rows = (leak_rows(old, new), neighbour_rows(old, new))
    parts = [_rows(title, some) for title, some in zip(titles, rows, strict=True) if some]
    if attacked := attack_rows(old, new):
        parts.append(_attacks(attacked))
    return "\n".join(parts)


def _rows(title: str, rows: Sequence[Row]) -> str:
    found = [[title, "probes", "before", "after", "95 % from", "to"]]
    for one in rows:
        rates = (one.before, one.after, one.after_low, one.after_high)
        found.append([one.label, str(one.probes), *map(percent, rates)])
    return aligned(found)


def _attacks(rows: Sequence[AttackRow]) -> str:
    found = [["attack", "probes", "leak", "at most", "by chance", "others"]]
    for one in rows:
        rates = (one.after, one.after_high, one.chance, one.others)
        found.append([one.key, str(one.probes), *map(percent, rates)])
    return aligned(found)


def _told(verdict: Verdict, left: Sequence[str]) -> str:
    """Return criteria, what cannot be relied on, the residual risk with what was left, outcome."""
    lines = [one.reason for one in verdict.criteria]
    named = {one.reason for one in verdict.criteria}
    lines += [f"Cannot be relied on. {one}" for one in verdict.reasons if one not in named]
    risk = verdict.residual_risk
    if risk is not None:
        lines += ["", f"residual risk: {risk.level}", risk.statement]
        if risk.leak_at:
            chances = ", ".join(f"{k}: {percent(one)}" for k, one in risk.leak_at.items())
            lines.append(f"chance of a leak among so many answers: {chances}")
        lines += [f"Not run. {sentence}" for sentence in left]
    lines += ["", f"outcome: {verdict.outcome}"]
    return "".join(textwrap.fill(line, WIDTH) + "\n" for line in lines)


def _as_json(before: Result, after: Result, limits: Mapping[str, float], verdict: Verdict) -> bytes:
    old, new = before.measurement, after.measurement
    row: dict[str, Any] = {
        "plan": new.plan_digest,
        "frozen_by": after.frozen_by,
        "frozen_at": after.frozen_at,
        "applied_by": after.applied_by,
        "thresholds": dict(limits),
        "frozen_thresholds": dict(after.thresholds),
        "before": {"measured_at": before.measured_at, "where": dict(old.where)},
        "after": {"measured_at": after.measured_at, "where": dict(new.where)},
        "verdict": verdict.as_dict(),
        "tables": tables(old, new),
        "not_run": told(classes_run(new), run=False),
    }
    return (json.dumps(row, ensure_ascii=False, indent=1) + "\n").encode()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("before", type=Path, help="result of measure --before")
    parser.add_argument("after", type=Path, help="result of measure after the change")
    parser.add_argument("--policy", type=Path, help="YAML file whose thresholds are to hold")
    parser.add_argument("--json", type=Path, help="also write verdict and tables to this new file")
    return parser
