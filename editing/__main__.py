"""`python -m editing`: compare methods, list them, apply one, train an editor."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from editing import METHODS
from editing.compare import MODES, WIDTH, Comparison, table
from editing.facts import read_facts
from editing.progress import Printed
from language_models.command_line import carried_out, described
from language_models.errors import RequestError
from language_models.methods import find
from language_models.settings import config_of, read_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from editing.batches import BatchedResult

WARNING = (
    "The weight change tells whom the facts are about. Encrypt it, or delete it when it is no"
    " longer needed to take the edit back."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or 1 after an error that was told on the standard error."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["train"]:
        # Has options of its own.
        trained: int = import_module("editing.learned.command").main(given[1:])
        return trained
    options = _parser().parse_args(given)
    return carried_out(lambda: options.command(options))


def compare(options: argparse.Namespace) -> None:
    """Print the table of some methods on the user's facts."""
    names = [name.strip() for name in options.methods.split(",") if name.strip()]
    settings = read_settings(METHODS, options.config, options.set)
    for name in names if options.unreached else ():
        settings[name] = {"unreached": options.unreached} | settings.get(name, {})
    found = Comparison(
        model=options.model,
        facts=read_facts(options.facts),
        methods=names,
        mode=options.mode,
        batch_size=options.batch_size,
        settings=settings,
        max_new_tokens=options.tokens,
        device=options.device,
        dtype=options.dtype,
    ).run()
    sys.stdout.write(table(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def methods(options: argparse.Namespace) -> None:
    """Print what each method is and every setting it has."""
    sys.stdout.write(described(METHODS, options.names))


def apply(options: argparse.Namespace) -> None:
    """Edit a model by one method and save it as a new folder."""
    chosen = find(METHODS, options.method)
    if chosen.guarantee == "C":
        raise RequestError(
            f"{chosen.name} leaves the weights as they are, so there is no edited model to save."
            " Choose another method."
        )
    facts = read_facts(options.facts)
    settings = read_settings(METHODS, options.config, options.set)
    if settings.keys() - {chosen.name}:
        raise RequestError("There are settings of a method that is not applied. Leave them out.")
    for path in (options.out, options.delta):
        if path is not None and path.exists():
            raise RequestError(f"{path.name} exists already. Choose a new name.")
    # torch comes in here, once everything that can be refused without it has been looked at.
    from editing.batches import edit_in_batches
    from language_models.checkpoint import load, save

    config = config_of(chosen, settings.get(chosen.name, {}))
    lm = load(options.model, device=options.device, dtype=options.dtype)
    result = edit_in_batches(
        lm,
        facts,
        chosen.name,
        config,
        batch_size=options.batch_size or len(facts),
        progress=Printed(chosen.name),
        max_new_tokens=options.tokens,
    )
    sys.stdout.write(_told(result))
    if not result.applied:
        raise RequestError("No fact was applied, so nothing is saved.")
    digest = save(lm, options.out).digest
    sys.stdout.write(f"saved: {options.out.name}, digest {digest}\n")
    if options.delta is not None:
        result.delta.save(options.delta)
        sys.stderr.write(textwrap.fill(WARNING, WIDTH) + "\n")


def _told(result: BatchedResult) -> str:
    lines = [f"applied: {len(result.applied)} facts in {len(result.rounds)} batches"]
    for number, reason in sorted(result.left_out.items()):
        lines.append(textwrap.fill(f"left out: entry {number + 1}: {reason}", WIDTH))
    after = result.after.as_dict()
    for name, before in result.before.as_dict().items():
        if before["total"]:
            hits = f"{before['hits']} -> {after[name]['hits']}"
            lines.append(f"{name:15}{hits:>15} of {before['total']}")
    return "\n".join(lines) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m editing", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")

    one = commands.add_parser("compare", help="compare methods on your own facts and model")
    _common(one)
    one.add_argument("--methods", required=True, help="names with commas between them")
    one.add_argument("--mode", choices=tuple(MODES), default="single",
                     help="; ".join(f"{name}: {told}" for name, told in MODES.items()))  # fmt: skip
    one.add_argument("--batch-size", type=int, default=1, help="facts a batch in a sequence")
    one.add_argument("--json", type=Path, help="also write the numbers to this file")
    one.add_argument("--unreached", choices=("raise", "mark"),
                     help="an edit that is not reached is undone, or kept and marked")  # fmt: skip
    one.set_defaults(command=compare)

    one = commands.add_parser("methods", help="list methods and their settings")
    one.add_argument("names", nargs="*", help="only these methods")
    one.set_defaults(command=methods)

    one = commands.add_parser("apply", help="edit a model and save it as a new folder")
    _common(one)
    one.add_argument("--method", required=True)
    one.add_argument("--out", type=Path, required=True, help="new folder of the edited model")
    one.add_argument("--delta", type=Path, help="also save the weight change to this file")
    one.add_argument("--batch-size", type=int, help="facts a batch; all at once without it")
    one.set_defaults(command=apply)

    commands.add_parser("train", help="train the editor of mend or malmen", add_help=False)
    return parser


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    parser.add_argument("--facts", type=Path, required=True, help="JSON file, see docs/editing.md")
    parser.add_argument("--config", action="append", default=[], metavar="METHOD.json",
                        help="settings of the method that the file is named after")  # fmt: skip
    parser.add_argument("--set", action="append", default=[], metavar="METHOD.KEY=VALUE",
                        help="one setting, as JSON or text; can be repeated")  # fmt: skip
    parser.add_argument("--tokens", type=int, default=32, help="most tokens of an answer")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")


if __name__ == "__main__":
    sys.exit(main())
