"""Attempts to bring values back that do not come out when asked for; one file a kind.

Each runs on local weights, leaves them as they were, and asks the same probes under the attack, of
the person and of people who do not exist.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from evaluation.plan import Plan
    from evaluation.results import AttackResult
    from language_models.checkpoint import LanguageModel
    from language_models.progress import Progress

    Run = Callable[[LanguageModel, Plan, Mapping[str, Any], Progress], AttackResult]


@dataclass(frozen=True)
class Kind:
    """An attack: what it is called in reports, what it does, and the file that runs it."""

    name: str
    label: str
    what: str
    settings: Mapping[str, Any]

    @property
    def run(self) -> Run:
        """The function that runs it; torch comes in here."""
        from importlib import import_module

        found: Run = import_module(f"evaluation.attacks.{self.name}").run
        return found


ATTACKS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "quantisation",
            "Rounded weights",
            "The weights are rounded as users of open weights round them, then asked again.",
            {"bits": 4, "group": 64, "library": "rounding", "probes": 100},
        ),
        Kind(
            "prefix",
            "Beginning of the person's own texts",
            "The model continues texts it was trained on, from their beginning to the value.",
            {"probes": 100},
        ),
        Kind(
            "logit_lens",
            "Logit lens",
            "The hidden state of each layer is read by the model's own output layer.",
            {"budget": 20},
        ),
        Kind(
            "further_training",
            "Further training on other texts",
            "The model is trained on texts that do not name the person, then asked again.",
            {"steps": 20, "learning_rate": 1e-4, "batch": 8, "seed": 0, "probes": 100},
        ),
        Kind(
            "relearning",
            "Relearning on a part of the person's texts",
            "The model is trained on some of the person's facts and asked for the others; beside"
            " it a person who does not exist is learnt in the same steps.",
            {"steps": 20, "learning_rate": 1e-4, "batch": 8, "seed": 0},
        ),
    )
}
