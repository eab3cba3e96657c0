"""`python -m unlearning unlearn`: change a model by an approximate method, into a new folder.

python -m unlearning unlearn --model DIR --out NEW_DIR --forget FILE --retain FILE
                             [--method npo] [--gates FILE] [--grid KEY=[VALUES] …] [--delta FILE]
                             [--config METHOD.json] [--set METHOD.KEY=VALUE]
python -m unlearning unlearn --model DIR --out NEW_DIR --records FILE --person FILE …

The texts are given as they are, or drawn from records keyed by subject: those of the person, and of
others those that must stay. The evidence is printed as JSON without any text.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from language_models.checkpoint import load, save
from language_models.command_line import WIDTH, Meter, carried_out, described
from language_models.errors import RequestError
from language_models.methods import find
from language_models.settings import config_of, read_settings
from unlearning import METHODS, unlearn
from unlearning.records import read_records
from unlearning.request_files import read_gates, read_person, read_texts
from unlearning.results import marked
from unlearning.retain import retain_set
from unlearning.sweep import sweep

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from language_models.checkpoint import LanguageModel
    from unlearning.gates import Gates
    from unlearning.results import Text, UnlearnResult

WARNING = (
    "The weight change tells whom it is about. Encrypt it, or delete it when it is no longer needed"
    " to take the change back."
)


def main(arguments: Sequence[str]) -> int:
    """Run the command; return 0, or 1 with the reason on the standard error."""
    given = _parser().parse_args(arguments)
    return carried_out(lambda: _unlearn(given))


def methods(arguments: Sequence[str]) -> int:
    """List methods and their settings."""
    parser = argparse.ArgumentParser(
        prog="python -m unlearning methods", description=methods.__doc__
    )
    parser.add_argument("names", nargs="*", help="only these methods")
    given = parser.parse_args(arguments)
    return carried_out(lambda: _write(described(METHODS, given.names)))


def _unlearn(given: argparse.Namespace) -> None:
    for path in (given.out, given.delta):
        if path is not None and path.exists():
            raise RequestError(f"{path.name} exists already. Choose a new name.")
    candidates = _candidates(given)
    gates = read_gates(given.gates) if given.gates else None
    if given.grid and gates is None:
        raise RequestError("A grid keeps the run that holds the gates. Give them with --gates.")
    forget, retain, drawn = _texts(given)
    lm = load(given.model, device=given.device, dtype=given.dtype)
    result = _run(lm, forget, retain, candidates, gates)
    tried = [_axis(text)[0] for text in given.grid]
    told = {**drawn, **_told(result, tried), "saved": save(lm, given.out).digest}
    if given.delta is not None:
        result.delta.save(given.delta)
        sys.stderr.write(textwrap.fill(WARNING, WIDTH) + "\n")
    _write(json.dumps(told, ensure_ascii=False, indent=1) + "\n")


def _run(
    lm: LanguageModel,
    forget: Sequence[Text],
    retain: Sequence[Text],
    candidates: Sequence[tuple[str, Any]],
    gates: Gates | None,
) -> UnlearnResult:
    meter = Meter(sys.stderr)
    if len(candidates) > 1 and gates is not None:
        return sweep(lm, forget, retain, candidates, gates, meter)
    method, config = candidates[0]
    return unlearn(lm, forget, retain, method, config, meter, gates)


def _candidates(given: argparse.Namespace) -> list[tuple[str, Any]]:
    """Return the method with each combination of the grid's values, one without a grid."""
    chosen = find(METHODS, given.method)
    settings = read_settings(METHODS, given.config, given.set)
    if settings.keys() - {chosen.name}:
        raise RequestError("There are settings of a method that is not run. Leave them out.")
    grid = dict(_axis(text) for text in given.grid)
    return [
        (chosen.name, config_of(chosen, {**settings.get(chosen.name, {}), **dict(one)}))
        for one in product(*([(key, value) for value in values] for key, values in grid.items()))
    ]


def _axis(text: str) -> tuple[str, list[Any]]:
    key, equals, listed = text.partition("=")
    try:
        values = json.loads(listed) if equals else None
    except ValueError:
        values = None
    if not isinstance(values, list) or not values:
        raise RequestError("A grid is given as key=[value, value], for each setting once.")
    return key, values


def _texts(given: argparse.Namespace) -> tuple[list[Text], list[Text], dict[str, Any]]:
    """Return what to unlearn, what to retain, and what was found while drawing it."""
    listed, drawn = (given.forget, given.retain), (given.records, given.person)
    if all(listed) and not any(drawn):
        return read_texts(given.forget), read_texts(given.retain), {}
    if not all(drawn) or any(listed):
        raise RequestError("Give --forget and --retain, or --records and --person.")
    records, person = read_records(given.records), read_person(given.person)
    shared = (*person.values, *person.forget_values)
    found = retain_set(records, person.subject, person.names, shared, size=given.retain_size)
    texts = [one.text for one in records if one.subject == person.subject]
    forget: Sequence[Text] = marked(texts, person.forget_values) if person.forget_values else texts
    if texts and not forget:
        raise RequestError(
            "No text of the person holds one of forget_values. Write them as the texts do."
        )
    told = {
        "texts_without_the_values": len(texts) - len(forget),
        "retain_neighbours": found.neighbours,
        "lines_of_others_that_name_the_person": _lines(found.naming),
        "lines_of_others_that_repeat_a_text": _lines(found.near_duplicates),
    }
    if found.near_duplicates:
        sys.stderr.write(
            f"{len(found.near_duplicates)} records of others repeat a text of the person nearly"
            " word for word. Put them into the same request: the lines are in the evidence.\n"
        )
    return list(forget), list(found.texts), told


def _lines(positions: Iterable[int]) -> list[int]:
    return [position + 1 for position in positions]


def _told(result: UnlearnResult, tried: Sequence[str]) -> dict[str, Any]:
    """Return the evidence with lists that grow with the model or the run by their ends or number.

    Of the runs of a grid the one that was kept is told whole, all by what set them apart: the
    settings that were tried and what came of it.
    """
    told = dict(result.details)
    losses = told.pop("losses")
    told["tensors"] = len(told["tensors"])
    told |= {"first_losses": losses[0], "last_losses": losses[-1]} if losses else {}
    apart = ("steps", "relative_change", "held", "reason")
    if "runs" in told:
        told["runs"] = [
            {key: run["config"][key] for key in tried} | {key: run.get(key) for key in apart}
            for run in told["runs"]
        ]
    return told


def _write(text: str) -> None:
    sys.stdout.write(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m unlearning unlearn",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    parser.add_argument("--out", type=Path, required=True, help="new folder of the changed model")
    parser.add_argument("--delta", type=Path, help="also save the weight change to this file")
    parser.add_argument("--method", default="npo", help="see python -m unlearning methods")
    parser.add_argument("--forget", type=Path, help="texts about the person, JSON lines")
    parser.add_argument("--retain", type=Path, help="texts about others, JSON lines")
    parser.add_argument("--records", type=Path, help="records to draw both from, as train takes")
    parser.add_argument("--person", type=Path,
                        help='JSON: "subject", "names", "values", "forget_values"')  # fmt: skip
    parser.add_argument("--retain-size", type=int, default=400, help="texts to draw at most")
    parser.add_argument("--gates", type=Path, help="JSON: questions that decide when to stop")
    parser.add_argument("--grid", action="append", default=[], metavar="KEY=[VALUES]",
                        help="try all; the least invasive that holds stays")  # fmt: skip
    parser.add_argument("--config", action="append", default=[], metavar="METHOD.json",
                        help="settings of the method that the file is named after")  # fmt: skip
    parser.add_argument("--set", action="append", default=[], metavar="METHOD.KEY=VALUE",
                        help="one setting, as JSON or text; can be repeated")  # fmt: skip
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--dtype", default="auto", help="auto or float32")
    return parser
