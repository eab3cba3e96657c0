"""What all commands share: errors as one message, progress as lines, methods as a list."""

from __future__ import annotations

import math
import sys
import textwrap
import time
from dataclasses import fields
from importlib import import_module
from typing import TYPE_CHECKING, Any, TextIO

from safetensors import SafetensorError

from language_models.errors import LetheError
from language_models.methods import GUARANTEES, find

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from language_models.methods import Method

WIDTH = 100
SECONDS_BETWEEN_LINES = 5.0


def carried_out(command: Callable[[], int | None], failed: int = 1) -> int:
    """Run a command; return its status, 0 for none, or `failed` after an error.

    The error was told on the standard error.
    """
    try:
        status = command()
    except LetheError as error:
        told = str(error)
    except (OSError, SafetensorError) as error:
        # Without the path, which may name a person.
        reason = getattr(error, "strerror", None) or "A file cannot be read or written"
        told = f"{reason}. Check paths, rights and room on the disk."
    else:
        return status or 0
    sys.stderr.write(textwrap.fill(told, WIDTH) + "\n")
    return failed


def chosen(
    package: str,
    commands: Mapping[str, tuple[str, str, str]],
    about: str,
    arguments: Sequence[str] | None,
) -> int:
    """Run the command that comes first in the arguments; return its status, 1 when it is none.

    commands: name -> module of the package, function and what it does; the module is imported when
    it is chosen, so that the list appears at once. about: what stands above that list.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] and given[0] in commands:
        module, function, _ = commands[given[0]]
        command = getattr(import_module(f"{package}.{module}"), function)
        status: int = command(given[1:])
        return status
    width = max(map(len, commands)) + len(" --help")
    lines = [
        f"    python -m {package} {name + ' --help':{width}}  {told}"
        for name, (_, _, told) in commands.items()
    ]
    asked = given in ([], ["-h"], ["--help"])
    (sys.stdout if asked else sys.stderr).write("\n".join([about, *lines]) + "\n")
    return 0 if asked else 1


class Meter:
    """Progress as lines on a stream: how far, and how long this stage will take."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.began: tuple[float, int] | None = None
        self.last: tuple[str, int] = ("", 0)
        self.said = -math.inf

    def say(self, text: str) -> None:
        """Write one line."""
        self.stream.write(f"{text}\n")
        self.stream.flush()

    def __call__(self, stage: str, done: int, total: int, told: str = "") -> None:
        """Tell of a step, not more often than every few seconds, and of the last."""
        now = time.monotonic()
        # A stage that starts, or starts again, has a pace of its own.
        if self.began is None or stage != self.last[0] or done < self.last[1]:
            self.began = (now, done)
        self.last = (stage, done)
        if done < total and now - self.said < SECONDS_BETWEEN_LINES:
            return
        self.said = now
        left = self._left(now, done, total)
        self.say(f"{stage} {done}/{total}  {done / total:.0%}  {left}{told}")

    def _left(self, now: float, done: int, total: int) -> str:
        start, first = self.began or (now, done)
        if done == first:
            return "time left not known yet"
        left = (now - start) / (done - first) * (total - done)
        return f"at most {int(left // 60)}:{int(left % 60):02} left"


def described(methods: Mapping[str, Method], names: Sequence[str]) -> str:
    """Return what each method is and every setting it has; all of them without names."""
    lines = []
    for method in [find(methods, name) for name in names] or methods.values():
        lines.append(_filled(f"{method.name}: {method.summary}", "", "    "))
        lines.append(_filled(f"class {method.guarantee}: {GUARANTEES[method.guarantee]}"))
        lines.append(_filled(f"needs: {', '.join(method.needs)}"))
        for one in method.settings():
            value, told = one["default"], f"{one['name']} = {_shown(one['default'])}"
            if one["published"] != value:
                told += f"  (published: {_shown(one['published'])})"
            lines.append(_filled(told))
            lines.append(_filled(f"{one['help']} [{one['source']}]", "        ", "        "))
        lines.append("")
    return "\n".join(lines) + "\n"


def settings_told(config: type[Any]) -> str:
    """Return every setting with its default, what it is and its source, for the help."""
    return "\n".join(
        f"  {one.name}={one.default}: {one.metadata['help']} [{one.metadata['source']}]"
        for one in fields(config)
    )


def _filled(text: str, first: str = "    ", rest: str = "    ") -> str:
    return textwrap.fill(text, WIDTH, initial_indent=first, subsequent_indent=rest)


def _shown(value: Any) -> str:
    return "none" if value is None or value == () else str(value)
