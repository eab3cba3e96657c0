"""The record by which methods of editing and unlearning are known, chosen and run."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any

from language_models.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

GUARANTEES = {
    "A": "the weights equal, bit for bit, those of a training that never saw the data",
    "A′": "the weights follow the same distribution as after a training without the data",
    "B": "the leak was measured to be at most what the verdict says, by the probes it names",
    "C": "the answer is held back; the weights still carry the data",
}


UNCHANGED = object()


def setting(
    default: Any, told: str, source: str, *, published: Any = UNCHANGED, private: bool = False
) -> Any:
    """Return a config field with its help, where it comes from and its published default.

    published is given where ours differs from it, with `source` saying why. private: the value
    may hold personal data, so only its length is ever told.
    """
    known = default if published is UNCHANGED else published
    metadata = {"help": told, "source": source, "published": known, "private": private}
    return field(default=default, metadata=metadata)


def published(config: type[Any], **changes: Any) -> Any:
    """Return a config with the published default of every field, save for `changes`."""
    return config(**{f.name: f.metadata["published"] for f in fields(config)} | changes)


@dataclass(frozen=True)
class Method:
    """A method: its module, its guarantee class, what it needs, one line on what it does.

    The module has the function `run` and the config class; it is imported by the first use, so
    that a page can list methods without torch.
    """

    name: str
    module: str
    config_name: str
    guarantee: str
    needs: tuple[str, ...]
    summary: str

    @property
    def run(self) -> Callable[..., Any]:
        """The function that carries the method out."""
        run: Callable[..., Any] = import_module(self.module).run
        return run

    @property
    def config(self) -> type[Any]:
        """The class of the method's settings."""
        config: type[Any] = getattr(import_module(self.module), self.config_name)
        return config

    def settings(self) -> list[dict[str, Any]]:
        """Return name, defaults, help and source of every config field, for forms and docs."""
        return [
            {
                "name": one.name,
                "default": one.default,
                "published": one.metadata["published"],
                "help": one.metadata["help"],
                "source": one.metadata["source"],
            }
            for one in fields(self.config)
        ]


def find(methods: Mapping[str, Method], name: str) -> Method:
    """Return a method by name, or say which there are."""
    if name not in methods:
        raise RequestError(f"Unknown method {name!r}. Use one of: {', '.join(sorted(methods))}.")
    return methods[name]


def configured(chosen: Method, config: Any) -> Any:
    """Return the config to run with: the default for None, else one of the method's own class."""
    if config is None:
        return chosen.config()
    if not isinstance(config, chosen.config):
        raise RequestError(f"{chosen.name} takes a {chosen.config.__name__}.")
    return config


def public_config(config: Any) -> dict[str, Any]:
    """Return a config as JSON values; fields marked private are replaced by their length."""
    values = {
        one.name: len(getattr(config, one.name) or ())
        if one.metadata["private"]
        else getattr(config, one.name)
        for one in fields(config)
    }
    return json.loads(json.dumps(values))  # type: ignore[no-any-return]


def require_positive(config: Any, *names: str) -> None:
    """Raise RequestError unless each named field is a finite number above zero."""
    for name in names:
        value = getattr(config, name)
        if not (math.isfinite(value) and value > 0):
            raise RequestError(f"{name} must be above zero.")
