"""`python -m editing train`: train the editor of a learned method for one model.

python -m editing train --method mend|malmen --model DIR --data FILE --out FOLDER
                        [--set key=value …] [--resume] [--device auto|cpu|cuda]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from editing import malmen, mend
from editing.learned.data import read_training_data
from editing.learned.files import save_editor
from editing.learned.state import load_state, save_state, unfinished
from editing.learned.training import Training, train
from language_models.checkpoint import load
from language_models.command_line import Meter, carried_out
from language_models.errors import RequestError
from language_models.settings import assigned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from editing.learned.training import Losses

RULES = {rule.method: rule for rule in (mend.RULE, malmen.RULE)}


def main(argv: Sequence[str]) -> int:
    """Run the command; return 0, or 1 with the reason on stderr."""
    given = _parser().parse_args(argv)
    return carried_out(lambda: _run(given))


def _run(given: argparse.Namespace) -> None:
    rule, folder = RULES[given.method], Path(given.out)
    config = assigned(rule.settings, given.set)
    state = unfinished(folder)
    if folder.exists():
        raise RequestError(f"The folder {folder.name} exists already. Choose a new name.")
    if state.exists() and not given.resume:
        raise RequestError(
            f"{state.name} is training that stopped. Go on with --resume, or remove it."
        )
    data = read_training_data(Path(given.data))
    meter = TrainingMeter(sys.stderr)
    meter.say("reading the model and its own answers")
    training = Training(load(given.model, device=given.device), data, rule, config)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if given.resume:
        load_state(training, state)
        meter.say(f"going on after step {training.done}")
    trained = train(training, report=meter.tell, keep=lambda now: save_state(now, state))
    save_editor(trained, folder)
    state.unlink(missing_ok=True)
    lowest = min(training.curve, key=lambda row: row["loss"])
    meter.say(
        f"done: {folder.name}, held-out loss {lowest['loss']:.4f} at step {lowest['step']},"
        f" untrained {training.curve[0]['loss']:.4f}"
    )


class TrainingMeter(Meter):
    """Lines on a stream: how far, how long it will take, the losses."""

    def tell(self, training: Training, losses: Losses | None) -> None:
        """Tell of a step, not more often than every few seconds, and of each check."""
        checked = training.curve[-1]
        if checked["step"] == training.done:
            self.say(
                f"check at {training.done}: held-out loss {checked['loss']:.4f}, targets"
                f" {checked['edit']:.4f} ({checked['reached']:.0%} reached), kept"
                f" {checked['keep']:.4f}"
            )
        told = "" if losses is None else f"  loss {losses.total(training.config):.4f}"
        self("step", training.done, training.config.steps, told)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m editing train", description=__doc__)
    parser.add_argument("--method", required=True, choices=sorted(RULES))
    parser.add_argument("--model", required=True, type=Path, help="folder of the model")
    parser.add_argument("--data", required=True, type=Path, help="JSON list of facts")
    parser.add_argument("--out", required=True, type=Path, help="folder to make for the editor")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--resume", action="store_true", help="go on with training that stopped")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    return parser
