"""Who is asked, as commands are told: a model folder, or an endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from language_models.errors import RequestError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from evaluation.answers import Answerer


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add --model with its options, and --endpoint with its own."""
    add = parser.add_argument
    add("--model", type=Path, help="model folder, asked on this machine")
    add("--device", default="auto", help="auto, cpu or cuda")
    add("--dtype", default="auto", help="auto or float32")
    add("--endpoint", metavar="URL", help="an OpenAI-compatible server, like https://host/v1")
    add("--name", help="the model's name at the endpoint")
    add("--known-as", action="append", default=[], metavar="NAME",
        help="another name that the endpoint may give it; can be repeated")  # fmt: skip
    add("--key-file", type=Path, help="file that holds the endpoint's key")
    add("--key-variable", help="variable of the environment that holds the endpoint's key")
    add("--api", choices=("auto", "completions", "chat"), default="auto",
        help="what the endpoint has; auto finds out")  # fmt: skip
    add("--authorities", type=Path, help="certificates to trust in place of the system's")
    add("--plain-http", action="store_true", help="allow http to a machine of your own network")


def check_options(given: argparse.Namespace) -> None:
    """Raise RequestError unless exactly one is to be asked."""
    if (given.model is None) == (given.endpoint is None):
        raise RequestError("Give --model, or --endpoint with --name.")
    of_endpoint = (given.name, given.key_file, given.key_variable, given.authorities)
    if given.model is not None and (any(of_endpoint) or given.known_as):
        raise RequestError("A name, a key and certificates belong to --endpoint. Leave them out.")
    if given.endpoint is not None and not given.name:
        raise RequestError("Give --name: what the endpoint calls the model.")


def answerer(given: argparse.Namespace) -> Answerer:
    """Return who is asked. Raises LetheError."""
    check_options(given)
    if given.model is not None:
        from evaluation.answers import Weights
        from language_models.checkpoint import load

        return Weights(load(given.model, device=given.device, dtype=given.dtype))
    from evaluation.endpoint import Endpoint

    return Endpoint(
        given.endpoint,
        given.name,
        known_as=given.known_as,
        key_variable=given.key_variable,
        key_file=given.key_file,
        api=given.api,
        authorities=given.authorities,
        plain_http=given.plain_http,
    )


def where_told(where: Mapping[str, str]) -> str:
    """Return what was asked in one line."""
    if where.get("kind") == "weights":
        return f"weights, SHA-256 of the {where['of']} {where['sha256']}"
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in where.items())
