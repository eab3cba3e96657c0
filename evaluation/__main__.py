"""`python -m evaluation`: plan a measurement, measure, judge a change, ask later versions again."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# Module, function and what it does; imported when it is chosen, so that the list appears at once.
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
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] and given[0] in COMMANDS:
        module, function, _ = COMMANDS[given[0]]
        command = getattr(import_module(f"evaluation.{module}"), function)
        done: int = command(given[1:])
        return done
    lines = [f"    python -m evaluation {name + ' --help':17}  {told}"
             for name, (_, _, told) in COMMANDS.items()]  # fmt: skip
    asked = given in ([], ["-h"], ["--help"])
    (sys.stdout if asked else sys.stderr).write("\n".join([str(__doc__), *lines]) + "\n")
    return 0 if asked else 1


if __name__ == "__main__":
    sys.exit(main())
