"""`python -m unlearning`: train so that people can be taken out, take them out, unlearn."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from language_models.command_line import chosen

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = {
    "train": ("train_command", "main", "train or fine-tune a model on records by subject"),
    "forget": ("exact_commands", "forget", "take people out of what train made, exactly"),
    "cost": ("exact_commands", "cost", "tell what forget would take, and do nothing"),
    "switch-off": ("exact_commands", "switch_off", "hold back the adapters of people at once"),
    "switch-on": ("exact_commands", "switch_on", "take switch-off back"),
    "status": ("exact_commands", "status", "check a folder that train made and tell what is in it"),
    "export": ("exact_commands", "export", "write sharded adapters in PEFT's format"),
    "destroy": ("exact_commands", "destroy", "destroy the weights that saw who was taken out"),
    "unlearn": ("unlearn_command", "main", "change any model's weights by an approximate method"),
    "methods": ("unlearn_command", "methods", "list the approximate methods and their settings"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or 1 after an error that was told on the standard error."""
    return chosen("unlearning", COMMANDS, str(__doc__), arguments)


if __name__ == "__main__":
    sys.exit(main())
