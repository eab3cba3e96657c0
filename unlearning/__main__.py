"""`python -m unlearning`: train a model on records so that people can be taken out of it later."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# Each has a function `main`, imported when it is chosen, so that the list appears at once.
COMMANDS = {
    "train": ("unlearning.train_command", "train or fine-tune a model on records by subject"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or 1 after an error that was told on the standard error."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] and given[0] in COMMANDS:
        done: int = import_module(COMMANDS[given[0]][0]).main(given[1:])
        return done
    lines = [f"    python -m unlearning {name} --help    {told}"
             for name, (_, told) in COMMANDS.items()]  # fmt: skip
    asked = given in ([], ["-h"], ["--help"])
    (sys.stdout if asked else sys.stderr).write("\n".join([str(__doc__), *lines]) + "\n")
    return 0 if asked else 1


if __name__ == "__main__":
    sys.exit(main())
