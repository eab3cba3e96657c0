"""The record by which methods of editing and unlearning are known, chosen and run."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
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


@dataclass(frozen=True)
class Method:
    """A method: its config class, its guarantee class, what it needs, one line on what it does.

    run_path is "module:function"; the module with its torch code is imported by the first use,
    so that a page can list methods without torch.
    """

    name: str
    run_path: str
    config: type[Any]
    guarantee: str
    needs: tuple[str, ...]
    summary: str

    @property
    def run(self) -> Callable[..., Any]:
        """The function that carries the method out."""
        module, function = self.run_path.split(":")
        run: Callable[..., Any] = getattr(import_module(module), function)
        return run

    def settings(self) -> list[dict[str, Any]]:
        """Return name, default, help and source of every config field, for forms and docs."""
        return [
            {
                "name": field.name,
                "default": field.default,
                "help": field.metadata["help"],
                "source": field.metadata["source"],
            }
            for field in fields(self.config)
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
        field.name: len(getattr(config, field.name))
        if field.metadata.get("private")
        else getattr(config, field.name)
        for field in fields(config)
    }
    return json.loads(json.dumps(values))  # type: ignore[no-any-return]


def require_positive(config: Any, *names: str) -> None:
    """Raise RequestError unless each named field is a finite number above zero."""
    for name in names:
        value = getattr(config, name)
        if not (math.isfinite(value) and value > 0):
            raise RequestError(f"{name} must be above zero.")
