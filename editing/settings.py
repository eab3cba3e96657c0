"""Settings of a method from JSON values or from the command line, checked by name and type."""

from __future__ import annotations

import json
import types
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints

from language_models.errors import RequestError
from language_models.methods import find

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from language_models.methods import Method


def config_of(chosen: Method, values: Mapping[str, Any]) -> Any:
    """Return the config of a method with `values` in place of its defaults, or RequestError."""
    hints = get_type_hints(chosen.config)
    known = [one.name for one in fields(chosen.config)]
    ready = {}
    for name, value in values.items():
        if name not in known:
            raise RequestError(
                f"{chosen.name} has no setting {name!r}. It has: {', '.join(known)}."
            )
        one = tuple(value) if isinstance(value, list) else value
        if not _fits(one, hints[name]):
            kind = getattr(hints[name], "__name__", None) or str(hints[name])
            raise RequestError(f"{chosen.name}.{name} must be of the type {kind}.")
        ready[name] = one
    return chosen.config(**ready)


def read_settings(
    methods: Mapping[str, Method], paths: Iterable[str], assignments: Iterable[str]
) -> dict[str, dict[str, Any]]:
    """Return settings per method from METHOD.json files and then from "method.key=value"s."""
    found: dict[str, dict[str, Any]] = {}
    for path in map(Path, paths):
        method = find(methods, path.stem).name
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise RequestError(f"{path.name} cannot be read as JSON. Check the file.") from None
        if not isinstance(values, dict):
            raise RequestError(f"{path.name} must hold one object: setting -> value.")
        found.setdefault(method, {}).update(values)
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        method, dot, key = name.partition(".")
        if not (equals and dot and key):
            raise RequestError("A setting is given as method.key=value.")
        found.setdefault(find(methods, method).name, {})[key] = _value(value)
    return found


def _value(text: str) -> Any:
    """Return what the text is in JSON, or the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _fits(value: Any, hint: Any) -> bool:
    if hint is Any:
        return True
    if get_origin(hint) in (Union, types.UnionType):
        return any(_fits(value, one) for one in get_args(hint))
    if get_origin(hint) is tuple:
        inner, *rest = get_args(hint)
        kinds = [inner] * len(value) if rest in ([], [...]) and isinstance(value, tuple) else []
        return isinstance(value, tuple) and all(map(_fits, value, kinds or get_args(hint)))
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, get_origin(hint) or hint)
