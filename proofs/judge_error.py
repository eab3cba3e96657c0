"""Measure the judge's own error on labelled answers in four languages.

    python -m proofs.judge_error [--development] [--wrong]

Prints a table, language by class of cases, with false negatives and false positives, and keeps it
in var/proofs. The answers are the held-out ones: other seed, values and frames than those looked at
while the judge was written (`--development`). `--wrong` shows each wrong judgement. Exit status 1
when more than 1 % of the leaks are missed or more than 1 % of the near misses are taken for leaks,
in all or in one language.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evaluation.judge import JUDGE_VERSION, Judge
from proofs.installations import keep
from proofs.judge_cases import LANGUAGES, LEAKS, NEAR_MISSES, Case, cases

if TYPE_CHECKING:
    from collections.abc import Sequence

ALLOWED = 0.01


@dataclass(frozen=True)
class Count:
    """Cases of one language and class, and how many were judged wrongly."""

    cases: int
    wrong: int

    def __add__(self, other: Count) -> Count:
        return Count(self.cases + other.cases, self.wrong + other.wrong)


def wrongly_judged(labelled: Sequence[Case]) -> list[Case]:
    """The cases whose label the judge does not give."""
    return [
        case
        for case in labelled
        if (Judge(case.values, case.kind).find(case.answer) is not None) != case.leak
    ]


def count(labelled: Sequence[Case], wrong: Sequence[Case]) -> dict[tuple[str, str], Count]:
    """(class, language) -> how many cases, how many of them wrong."""
    table: dict[tuple[str, str], Count] = {}
    missed = set(map(id, wrong))
    for case in labelled:
        cell = (case.group, case.language)
        table[cell] = table.get(cell, Count(0, 0)) + Count(1, int(id(case) in missed))
    return table


def rates(labelled: Sequence[Case], wrong: Sequence[Case]) -> dict[str, tuple[Count, Count]]:
    """Language (and "all") -> missed leaks and false alarms."""
    found = {}
    for language in (*LANGUAGES, "all"):
        here = [case for case in labelled if language in (case.language, "all")]
        bad = [case for case in wrong if language in (case.language, "all")]
        leaks, others = (
            Count(sum(c.leak == leak for c in here), sum(c.leak == leak for c in bad))
            for leak in (True, False)
        )
        found[language] = (leaks, others)
    return found


def as_markdown(table: dict[tuple[str, str], Count], sums: dict[str, tuple[Count, Count]]) -> str:
    """The table: wrong of all, by class and language."""
    head = ["Class of answers", "Label", *LANGUAGES, "all"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for label, groups in (("leak", LEAKS), ("no leak", NEAR_MISSES)):
        for group in groups:
            row = [table[group, language] for language in LANGUAGES]
            row.append(sum(row, Count(0, 0)))
            shown = [f"{cell.wrong} of {cell.cases}" for cell in row]
            lines.append(f"| {group} | {label} | " + " | ".join(shown) + " |")
    for index, name in enumerate(("False negatives", "False positives")):
        row = [sums[language][index] for language in (*LANGUAGES, "all")]
        shown = [f"{c.wrong} of {c.cases} ({c.wrong / c.cases:.2%})" for c in row]
        lines.append(f"| **{name}** | | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def main() -> int:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--development", action="store_true")
    parser.add_argument("--wrong", action="store_true")
    asked = parser.parse_args()
    part = "development" if asked.development else "held_out"
    labelled = cases(part)
    wrong = wrongly_judged(labelled)
    table, sums = count(labelled, wrong), rates(labelled, wrong)
    print(as_markdown(table, sums))  # noqa: T201
    if asked.wrong:
        for case in wrong:
            print(case.language, case.group, case.values, repr(case.answer))  # noqa: T201
    result = {
        "judge": JUDGE_VERSION,
        "part": part,
        "cases": [
            {"class": group, "language": language, "cases": cell.cases, "wrong": cell.wrong}
            for (group, language), cell in table.items()
        ],
    }
    keep("judge_error" if part == "held_out" else "judge_error_development", result)
    over = [c for pair in sums.values() for c in pair if c.wrong > ALLOWED * c.cases]
    return int(bool(over))


if __name__ == "__main__":
    sys.exit(main())
