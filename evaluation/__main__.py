"""`python -m evaluation`: plan a measurement, measure, judge a change, ask later versions again."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from language_models.command_line import chosen

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = {
    "plan": ("plan_command", "main", "freeze a plan from a design, before the change"),
    "measure": ("measure_command", "main", "put a frozen plan to a model or an endpoint"),
    "compare": ("compare_command", "main", "judge a change by two measurements of one plan"),
    "keep": ("duty_command", "keep", "seal the questions, to be asked of later versions"),
    "again": ("duty_command", "again", "ask them: does a value come out again?"),
    "attacks": ("plan_command", "attacks", "list the attacks and their settings"),
    "forms": ("plan_command", "forms", "list the forms of questions and the languages"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its status, 1 for a command that is none."""
    return chosen("evaluation", COMMANDS, str(__doc__), arguments)


if __name__ == "__main__":
    sys.exit(main())
