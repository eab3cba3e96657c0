"""Settings from JSON values or from the command line, checked by name and type."""

from __future__ import annotations

import json
import math
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
    return _filled(chosen.config, values, chosen.name)


def assigned(kind: type[Any], assignments: Iterable[str]) -> Any:
    """Return a config of this kind with "key=value"s in place of its defaults, or RequestError.

    A value is JSON or text; those of a list may stand with nothing but commas between them.
    """
    hints, values = get_type_hints(kind), {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not (equals and key):
            raise RequestError("A setting is given as key=value.")
        if get_origin(hints.get(key)) is tuple and not value.startswith("["):
            values[key] = [_value(part) for part in value.split(",") if part]
        else:
            values[key] = _value(value)
    return _filled(kind, values)


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


def _filled(kind: type[Any], values: Mapping[str, Any], method: str = "") -> Any:
    hints = get_type_hints(kind)
    known = [one.name for one in fields(kind)]
    ready = {}
    for name, value in values.items():
        if name not in known:
            raise RequestError(
                f"{method or 'This'} has no setting {name!r}. It has: {', '.join(known)}."
            )
        one = tuple(value) if isinstance(value, list) else value
        if not _fits(one, hints[name]):
            shown = getattr(hints[name], "__name__", None) or str(hints[name])
            where = f"{method}.{name}" if method else name
            raise RequestError(f"{where} must be of the type {shown}.")
        ready[name] = one
    return kind(**ready)


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
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, get_origin(hint) or hint)
