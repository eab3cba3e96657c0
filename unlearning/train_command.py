"""`python -m unlearning train`: train on records keyed by subject, so that people can be taken out.

python -m unlearning train --model DIR --data FILE --out FOLDER [--set key=value …]
                           [--device auto|cpu|cuda|split] [--dtype auto|float32]
python -m unlearning train --model DIR --out FOLDER --resume
python -m unlearning train --sharded --key FILE --model DIR --data FILE --out FOLDER [--set …]

FILE holds one {"id", "subject", "text"} a line. Without --sharded all weights or one LoRA are
trained, and FOLDER gets the model or adapter and the trace by which the training can be made again.
With --sharded FOLDER gets one adapter a shard. A sharded training that stopped goes on when it is
asked for again; with other records, the adapters are brought to these.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from language_models.checkpoint import load
from language_models.command_line import Meter, carried_out, settings_told
from language_models.errors import RequestError
from language_models.settings import assigned
from unlearning.exact import ShardedAdapters
from unlearning.manifest import LOCK
from unlearning.records import read_records
from unlearning.request_files import KEY_VARIABLE, read_key
from unlearning.sharded_folder import STAGES
from unlearning.sharded_training import ShardsConfig
from unlearning.training import TrainingConfig, resume, train

if TYPE_CHECKING:
    from collections.abc import Sequence

    from language_models.checkpoint import LanguageModel


def main(arguments: Sequence[str]) -> int:
    """Run the command; return 0, or 1 with the reason on the standard error."""
    given = _parser().parse_args(arguments)
    return carried_out(lambda: _shards(given) if given.sharded else _traced(given))


def _traced(given: argparse.Namespace) -> None:
    if given.key or given.in_distribution:
        raise RequestError("--key and --in-distribution are for --sharded. Leave them out.")
    if given.resume:
        if given.data or given.set:
            raise RequestError("--resume goes on with its own data and settings. Leave out others.")
        trained = resume(_model(given), given.out, Meter(sys.stderr))
    else:
        _require_data(given)
        config = assigned(TrainingConfig, given.set)
        if given.out.exists():
            raise RequestError(f"The folder {given.out.name} exists already. Choose a new name.")
        records = read_records(given.data)
        trained = train(_model(given), records, given.out, config, Meter(sys.stderr))
    sys.stdout.write(
        f"trained: {trained.folder.name}, {trained.details['steps']} steps on"
        f" {trained.details['records']} records\n"
        f"state {trained.digest}\ntrace {trained.head}\n"
    )


def _shards(given: argparse.Namespace) -> None:
    if given.resume:
        raise RequestError("A sharded training goes on by the same command. Leave --resume out.")
    _require_data(given)
    key = read_key(given.key)
    config = assigned(ShardsConfig, given.set)
    there = {one.name for one in given.out.iterdir()} if given.out.exists() else set()
    if there - {LOCK} and STAGES not in there:
        raise RequestError(f"{given.out.name} holds something else. Choose a new name.")
    records = read_records(given.data)
    made = ShardedAdapters(_model(given), given.out, key, config if given.set else None)
    told = made.train(records, progress=Meter(sys.stderr), exact=not given.in_distribution)
    sys.stdout.write(
        f"trained: {given.out.name}, {told['stages_in_force']} stages on {len(records)} records,"
        f" {told['stages_trained']} of them now\ndigest {told['after']}\n"
    )


def _require_data(given: argparse.Namespace) -> None:
    if given.data is None:
        raise RequestError("Give the records with --data, or --resume for a training that stopped.")


def _model(given: argparse.Namespace) -> LanguageModel:
    return load(given.model, device=given.device, dtype=given.dtype)


def _parser() -> argparse.ArgumentParser:
    told = [
        "settings for --set:",
        settings_told(TrainingConfig),
        "settings for --set with --sharded:",
        settings_told(ShardsConfig),
    ]
    parser = argparse.ArgumentParser(
        prog="python -m unlearning train",
        description=__doc__,
        epilog="\n".join(told),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", required=True, type=Path, help="folder of the base model")
    parser.add_argument("--data", type=Path, help="records, one JSON object a line")
    parser.add_argument("--out", required=True, type=Path, help="folder to make")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--resume", action="store_true", help="go on with training that stopped")
    parser.add_argument("--sharded", action="store_true", help="one adapter a shard of people")
    parser.add_argument("--key", type=Path,
                        help=f"file of the shards' key; else {KEY_VARIABLE}")  # fmt: skip
    parser.add_argument("--in-distribution", action="store_true",
                        help="let stages of several environments stand (class A′)")  # fmt: skip
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or split")
    parser.add_argument("--dtype", default="auto", help="auto or float32")
    return parser
