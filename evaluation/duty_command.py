"""`python -m evaluation keep` and `again`: ask later versions the same, without the value.

python -m evaluation keep PLAN.json AFTER.json --model-name N --basis TEXT --ends YYYY-MM-DD
                          --out DUTY --key KEYFILE [--before BEFORE.json]
python -m evaluation again DUTY --key KEYFILE (--model FOLDER | --endpoint URL --name MODEL)

keep writes the questions and, in place of the values, keyed hashes, sealed under a key of their
own; `again` asks them. Exit status of `again`: 0 held, 1 resurfaced, 2 unknown and after an error.
"""

from __future__ import annotations

import argparse
import os
import stat
import sys
import textwrap
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.answering_options import add_options, answerer, check_options, where_told
from evaluation.criteria import controls_of
from evaluation.freezing import open_frozen
from evaluation.private_files import check_new, write_new
from evaluation.reliance import problems_in
from evaluation.result_files import AFTER, BEFORE, open_result
from evaluation.resurfacing import KEY_BYTES, duty, new_key, open_duty, rerun
from evaluation.text_tables import percent
from evaluation.thresholds import Thresholds
from language_models.command_line import WIDTH, Meter, carried_out
from language_models.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evaluation.plan import Plan
    from evaluation.results import GroupResult, Measurement

STATUS = {"held": 0, "resurfaced": 1}
UNKNOWN_STATUS = 2
READABLE_BY_OTHERS = stat.S_IRWXG | stat.S_IRWXO
KEPT_APART = (
    "Keep the key apart from the duty: who has both reads the questions, which name the person, and"
    " can test guesses of the value. Destroy both on the day that the duty ends."
)


def keep(arguments: Sequence[str]) -> int:
    """Write a duty and its key; return 0, or 1 with the reason on the standard error."""
    parser = _parser("keep")
    add = parser.add_argument
    add("plan", type=Path, help="file of the frozen plan")
    add("after", type=Path, help="result of measure after the change")
    add("--before", type=Path, help="result of measure --before, where strangers tell chance")
    add("--model-name", required=True, help="the model whose later versions are asked")
    add(
        "--basis",
        required=True,
        help="legal basis of keeping them; stands in clear, so it names nobody",
    )
    add("--ends", required=True, metavar="YYYY-MM-DD", help="last day of the duty")
    add("--probes", type=int, default=100, help="questions to keep at most")
    add("--out", type=Path, required=True, help="new file of the duty")
    add("--key", type=Path, required=True, help="new file of its key")
    given = parser.parse_args(arguments)
    return carried_out(lambda: _keep(given))


def again(arguments: Sequence[str]) -> int:
    """Ask a duty's questions; return 0 held, 1 resurfaced, 2 unknown or an error."""
    parser = _parser("again")
    parser.add_argument("duty", type=Path, help="file of the duty")
    parser.add_argument("--key", type=Path, required=True, help="file of its key")
    add_options(parser)
    given = parser.parse_args(arguments)
    return carried_out(lambda: _again(given), UNKNOWN_STATUS)


def _keep(given: argparse.Namespace) -> None:
    check_new(given.out, given.key)
    if given.out.absolute() == given.key.absolute():
        raise RequestError("The duty and its key need a file each. Keep them apart.")
    if given.probes < 1 or not given.model_name.strip():
        raise RequestError("A duty needs the name of its model, and one question at least.")
    ends_on = _day(given.ends)
    plan, result = open_frozen(given.plan).plan, open_result(given.after)
    if result.stage != AFTER:
        raise RequestError("A duty is kept after a change. Give the measurement after it.")
    leak, most = _held(plan, result.measurement, _before(given.before))
    key = new_key()
    kept = duty(
        plan, key, model=given.model_name.strip(), basis=given.basis, ends_on=ends_on,
        hits=leak.hits, empty=result.measurement.texts.empty_by_group.get("leak", 0),
        leak_max=most, most=given.probes,
    )  # fmt: skip
    write_new((given.key, f"{key.hex()}\n".encode()), (given.out, kept.sealed(key)))
    sys.stdout.write(
        f"kept {len(kept.questions)} of {leak.n} questions, until {kept.ends_on}\n"
        f"resurfaced: above {percent(most)} of them\n"
    )
    sys.stderr.write(textwrap.fill(KEPT_APART, WIDTH) + "\n")


def _before(path: Path | None) -> Measurement | None:
    if path is None:
        return None
    result = open_result(path)
    if result.stage != BEFORE:
        raise RequestError("--before takes the measurement before the change.")
    return result.measurement


def _held(plan: Plan, found: Measurement, before: Measurement | None) -> tuple[GroupResult, float]:
    """Return the leaks and the most that a later version may show.

    Chance counts as known only from both measurements: a change that says the value to everybody
    must not make it look like chance. Raises RequestError when they are no ground to ask for that.
    """
    if any(one.plan_digest != plan.digest for one in (found, before) if one is not None):
        raise RequestError("The measurement follows another plan. Give the plan it was made by.")
    leak, limits = found.groups.get("leak"), Thresholds.from_mapping(plan.thresholds)
    if leak is None or problems_in(found, limits):
        raise RequestError("The measurement shows no leak rate to be kept. Measure again.")
    controls = [] if before is None else controls_of("leak", before, found)
    most = limits.leak_max + min((one.rate for one in controls), default=0.0)
    if leak.rate > most:
        raise RequestError(
            "The value still comes out, so there is nothing to hold yet. Where strangers are told"
            " it as often, give the measurement --before the change as well."
        )
    return leak, most


def _again(given: argparse.Namespace) -> int:
    check_options(given)
    key = _key(given.key)
    kept = open_duty(given.duty.read_bytes(), key, today=_today())
    asked = answerer(given)
    found = rerun(asked, kept, key, Meter(sys.stderr))
    lines = [
        f"duty of the model {kept.model}, until {kept.ends_on}; basis: {kept.basis}",
        f"asked: {where_told(asked.where)}",
        found.reason,
    ]
    if found.upper_95 is not None:
        lines.append(f"With 95 % confidence, at most {percent(found.upper_95)} of such prompts.")
    lines.append(f"outcome: {found.outcome}")
    sys.stdout.write("".join(textwrap.fill(line, WIDTH) + "\n" for line in lines))
    return STATUS.get(found.outcome, UNKNOWN_STATUS)


def _key(path: Path) -> bytes:
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_mode & READABLE_BY_OTHERS:
            raise RequestError(
                "The file of the key can be read by others. Run chmod 600 on it; where somebody may"
                " have read it, keep a new duty in place of this one."
            )
        text = file.read()
    try:
        key = bytes.fromhex(text.decode("ascii").strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise RequestError("That file is not the key of a duty. Give the one that keep wrote.")
    return key


def _day(text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise RequestError("--ends is a day like 2027-11-30.") from None
    if day < _today():
        raise RequestError("--ends is a day that is over. Give a later one.")
    return day


def _today() -> date:
    return datetime.now(UTC).astimezone().date()


def _parser(name: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=f"python -m evaluation {name}",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
