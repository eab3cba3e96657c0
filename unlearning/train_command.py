"""`python -m unlearning train`: train all weights or a LoRA on records keyed by subject.

python -m unlearning train --model DIR --data FILE --out FOLDER [--set key=value …]
                           [--device auto|cpu|cuda|split] [--dtype auto|float32]
python -m unlearning train --model DIR --out FOLDER --resume

FILE holds one {"id", "subject", "text"} a line. FOLDER gets the trained model or adapter and the
trace by which people can be taken out again.
"""

from __future__ import annotations

import argparse
import math
import sys
import textwrap
import time
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from language_models.checkpoint import load
from language_models.errors import LetheError, RequestError
from unlearning.records import read_records
from unlearning.training import Trained, TrainingConfig, resume, train

if TYPE_CHECKING:
    from collections.abc import Sequence

SECONDS_BETWEEN_LINES = 5.0
WIDTH = 100


def main(arguments: Sequence[str]) -> int:
    """Run the command; return 0, or 1 with the reason on the standard error."""
    given = _parser().parse_args(arguments)
    try:
        trained = _run(given)
    except LetheError as error:
        sys.stderr.write(textwrap.fill(str(error), WIDTH) + "\n")
        return 1
    sys.stdout.write(
        f"trained: {trained.folder.name}, {trained.details['steps']} steps on"
        f" {trained.details['records']} records\n"
        f"state {trained.digest}\ntrace {trained.head}\n"
    )
    return 0


def _run(given: argparse.Namespace) -> Trained:
    if given.resume:
        if given.data or given.set:
            raise RequestError("--resume goes on with its own data and settings. Leave out others.")
        return resume(_model(given), given.out, Meter(sys.stderr))
    if given.data is None:
        raise RequestError("Give the records with --data, or --resume for a training that stopped.")
    config = settings_from(given.set)
    if given.out.exists():
        raise RequestError(f"The folder {given.out.name} exists already. Choose a new name.")
    records = read_records(given.data)
    return train(_model(given), records, given.out, config, Meter(sys.stderr))


def _model(given: argparse.Namespace) -> Any:
    return load(given.model, device=given.device, dtype=given.dtype)


class Meter:
    """Progress as lines on a stream: how far, and how long it will take."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.began: tuple[float, int] | None = None
        self.said = -math.inf

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Tell of a step, not more often than every few seconds, and of the last."""
        now = time.monotonic()
        self.began = self.began or (now, done)
        if done < total and now - self.said < SECONDS_BETWEEN_LINES:
            return
        self.said = now
        self.stream.write(
            f"{stage} {done}/{total}  {done / total:.0%}  {self._left(now, done, total)}\n"
        )
        self.stream.flush()

    def _left(self, now: float, done: int, total: int) -> str:
        start, first = self.began or (now, done)
        if done == first:
            return "time left not known yet"
        left = (now - start) / (done - first) * (total - done)
        return f"about {int(left // 60)}:{int(left % 60):02} left"


def settings_from(texts: Sequence[str]) -> TrainingConfig:
    """Return the settings with "key=value" changes, each read as its default's type."""
    defaults = {one.name: one.default for one in fields(TrainingConfig)}
    changes: dict[str, Any] = {}
    for text in texts:
        key, mark, value = text.partition("=")
        if not mark or key not in defaults:
            raise RequestError(f"--set takes key=value with one of: {', '.join(defaults)}.")
        changes[key] = _value(key, value, defaults[key])
    return TrainingConfig(**changes)


def _value(key: str, text: str, default: Any) -> Any:
    try:
        if isinstance(default, tuple):
            kind = type(default[0]) if default else str
            return tuple(kind(part) for part in text.split(",") if part)
        return type(default)(text)
    except ValueError as error:
        raise RequestError(
            f"--set {key}: the value must read like the default, {default!r}."
        ) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m unlearning train",
        description=__doc__,
        epilog=_settings(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", required=True, type=Path, help="folder of the base model")
    parser.add_argument("--data", type=Path, help="records, one JSON object a line")
    parser.add_argument("--out", required=True, type=Path, help="folder to make")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--resume", action="store_true", help="go on with training that stopped")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or split")
    parser.add_argument("--dtype", default="auto", help="auto or float32")
    return parser


def _settings() -> str:
    """Return every setting with its default and what it is."""
    lines = [
        f"  {one.name}={one.default}: {one.metadata['help']} [{one.metadata['source']}]"
        for one in fields(TrainingConfig)
    ]
    return "\n".join(["settings for --set:", *lines])
