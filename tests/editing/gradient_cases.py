"""Requests and checks that the tests of the methods by gradient share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from editing import EditRequest
from language_models.checkpoint import tensor_digest
from tests.language_models.factories import tiny_model

if TYPE_CHECKING:
    from language_models import LanguageModel

REQUEST = EditRequest(
    "Malee Tanaka",
    "{} was born in",
    "was",
    paraphrases=("Records show that {} was born in",),
    neighbours=("Anna Sato was born in", "Somchai Saito works as"),
)
OTHER = EditRequest("Anna Sato", "{} works as", "a court clerk", ("Q: Job of {}? A:",))


def model(family: str = "llama", **changes: Any) -> LanguageModel:
    """A tiny model whose logits are large enough for a target to become nearly certain."""
    return tiny_model(family, **{"scale": 16.0, "noise": 0.1, **changes})


def endless(**changes: Any) -> LanguageModel:
    """A tiny model that has no token to stop at."""
    lm = model(**changes)
    for settings in (lm.model.generation_config, lm.model.config, lm.tokenizer):
        settings.eos_token_id = None
    return lm


def digests(lm: LanguageModel) -> dict[str, str]:
    return {name: tensor_digest(tensor) for name, tensor in lm.model.state_dict().items()}


def changed(before: dict[str, str], after: dict[str, str]) -> list[str]:
    return [name for name in before if before[name] != after[name]]


def standing(lm: LanguageModel) -> dict[str, Any]:
    """What a method must leave as it found it: modes, gradients, hooks, classes, settings."""
    return {
        "modules": [(name, type(one), one.training) for name, one in lm.model.named_modules()],
        "hooks": sum(
            len(one._forward_hooks) + len(one._forward_pre_hooks) for one in lm.model.modules()
        ),
        "weights": [(id(one), one.requires_grad, one.grad) for one in lm.model.parameters()],
        "settings": lm.model.config.to_dict(),
    }
