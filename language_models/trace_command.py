"""The command `python -m language_models.tracing`: trace one subject, print the site and maps."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from language_models.checkpoint import load
from language_models.errors import LetheError, RequestError
from language_models.trace_maps import TraceMap, maps, token_labels
from language_models.trace_picture import png, svg
from language_models.tracing import Trace, TraceCase, trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from language_models.checkpoint import LanguageModel

EPILOG = (
    "Prints the site as one line of JSON. Nothing is written but the files that are named. No text"
    " of the statements is in them, unless --labels puts the tokens beside the rows."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 2 after a message about what to change."""
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except (LetheError, OSError) as error:
        said = str(error) if isinstance(error, LetheError) else f"{error.strerror}."
        sys.stderr.write(f"{said}\n")
        return 2
    return 0


def _run(options: argparse.Namespace) -> None:
    cases = _cases(options)
    if options.labels and not options.tokens:
        raise RequestError("--labels names tokens. Give --tokens as well.")
    lm = load(options.model, device=options.device)
    found = trace(lm, cases, options.seed)
    drawn = _maps(lm, cases, options)
    if options.json is not None:
        content = {**found.as_dict(), "maps": [one.as_dict() for one in drawn]}
        text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
        options.json.write_text(text, encoding="utf-8")
    if options.svg is not None:
        picture = svg(drawn, found.site, found.warning)
        options.svg.write_text(picture, encoding="utf-8")
    if options.png is not None:
        options.png.write_bytes(png(drawn, found.site, found.warning, font=options.font))
    sys.stdout.write(json.dumps(_summary(found)) + "\n")


def _cases(options: argparse.Namespace) -> list[TraceCase]:
    if options.cases is not None:
        if options.subject or options.prompt:
            raise RequestError("Give --cases, or --subject with --prompt, not both.")
        return _read_cases(options.cases)
    if not options.subject or not options.prompt:
        raise RequestError("Give --subject and at least one --prompt, or a file with --cases.")
    return [TraceCase(options.subject, prompt, options.answer) for prompt in options.prompt]


def _read_cases(path: Path) -> list[TraceCase]:
    """Read one JSON object a line: subject, prompt and, if wanted, answer."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(TraceCase(**json.loads(line)))
        except (TypeError, json.JSONDecodeError):
            raise RequestError(
                'Each line of the cases must be a JSON object with "subject", "prompt" and, if'
                ' wanted, "answer".'
            ) from None  # the parser's own error carries the line with it
    return found


def _maps(lm: LanguageModel, cases: list[TraceCase], options: argparse.Namespace) -> list[TraceMap]:
    if options.json is options.svg is options.png is None:
        return []
    labels = token_labels(lm, cases[0]) if options.labels else None
    return maps(
        lm, cases, options.seed, window=options.window, tokens=options.tokens, labels=labels
    )


def _summary(found: Trace) -> dict[str, object]:
    chosen = found.as_dict()
    return {name: chosen[name] for name in ("site", "warning", "low", "high")}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m language_models.tracing",
        description="Find the token and the layer that carry a fact, by causal tracing.",
        epilog=EPILOG,
    )
    add = parser.add_argument
    add("--model", type=Path, required=True, help="model folder")
    add("--subject", default="", help="the name, as it stands in the prompts")
    add("--prompt", action="append", help='text with one "{}" for the name; may be repeated')
    add("--answer", default="", help="the answer to follow; without one, the model's own")
    add("--cases", type=Path, help="file with one JSON object a line, in place of the three above")
    add("--seed", type=int, default=0, help="seed of the noise")
    add("--window", type=int, help="layers of MLPs or attentions restored together")
    add("--tokens", action="store_true", help="one row a token, for one statement")
    add("--labels", action="store_true", help="name the rows by the tokens' text")
    add("--device", default="auto", help="auto, cpu or cuda")
    add("--svg", type=Path, help="write the picture here")
    add("--png", type=Path, help="write the picture here")
    add("--font", type=Path, help="font file for token labels in the PNG")
    add("--json", type=Path, help="write all numbers here")
    return parser
