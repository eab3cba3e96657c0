"""The settings that ROME, MEMIT, EMMET and AlphaEdit share."""

from __future__ import annotations

from dataclasses import dataclass

import torch  # noqa: TC002 -- language_models/settings.py reads the types of the fields

from editing.requests import EditConfig
from language_models.errors import RequestError
from language_models.methods import require_positive, setting
from language_models.moments import Moment  # noqa: TC001 -- the same
from language_models.positions import ROLES


@dataclass(frozen=True, kw_only=True)
class LocatedConfig(EditConfig):
    """Settings of the methods that edit where tracing finds a fact.

    Without role and layer, causal tracing on this model gives the site.
    """

    role: str | None = setting(
        None,
        "token at which the value is written; none: from tracing",
        "ROME, section 2; its code always takes the subject's last token",
    )
    layer: int | None = setting(
        None, "layer whose MLP is changed; none: from tracing", "ROME, section 2"
    )
    compat: bool = setting(
        False,  # noqa: FBT003 -- a switch of the method
        "compute as the published code does, with what is wrong in it, for comparisons",
        "Lethe",
        published=True,
    )
    value_wordings: int = setting(
        4, "wordings in which the value is optimised; the keys of all are met", "measured"
    )
    steps: int = setting(40, "most Adam steps for the value", "measured", published=20)
    learning_rate: float = setting(0.2, "Adam's learning rate", "measured", published=0.5)
    clamp: float = setting(
        6.0, "largest norm of δ, in norms of the present output", "measured", published=4.0
    )
    stop_loss: float = setting(
        1e-2, "stop when the target's mean loss per token is below", "measured", published=0.05
    )
    kl_weight: float = setting(
        0.0625, "weight of keeping what '{subject} is a' predicts", "ROME's code, kl_factor"
    )
    norm_weight: float = setting(
        1e-3, "weight of the norm of δ", "EasyEdit's settings for Llama", published=0.5
    )
    moment_weight: float = setting(
        1_000.0,
        "λ, number of keys that the second moment stands for",
        "measured",
        published=15_000.0,
    )
    neighbour_weight: float = setting(
        3.0, "weight of each neighbour's own key", "measured; not in the papers", published=0.0
    )
    ridge: float = setting(
        1e-4,
        "share of the moment's mean diagonal added before solving",
        "keeps the solve well posed",
        published=0.0,
    )
    lead_ins: tuple[str, ...] = setting(
        (), "texts put before the prompts, in turn", "Lethe", private=True
    )
    prefixes: int = setting(
        10,
        "sampled texts put before the prompt when no paraphrase and no lead-in is given",
        "measured",
        published=20,
    )
    moment_texts: tuple[str, ...] = setting(
        (), "texts for the second moment; none: the model's own", "ROME, eq. 2", private=True
    )
    moment_cache: str | None = setting(
        None,
        "folder in which second moments are kept between edits; none: not kept",
        "Lethe",
        private=True,
    )
    refresh: int = setting(
        0,
        "edits of the memory from which moments are made on the model as it is; 0: never",
        "BetaEdit: 1,000",
    )
    moments: tuple[tuple[int, Moment], ...] = setting(
        (),
        "layer and second moment of each, made before on the unedited model; none: made now",
        "Lethe",
        private=True,
    )
    kept: tuple[tuple[int, torch.Tensor], ...] = setting(
        (),
        "layer and sum of kkᵀ over further keys to keep, made before by neighbour_sum",
        "Lethe",
        private=True,
    )
    rows_per_pass: int = setting(96, "contexts optimised together; more needs more memory", "Lethe")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "steps", "learning_rate", "clamp", "moment_weight", "rows_per_pass")
        if (self.role is None) != (self.layer is None):
            raise RequestError("Give role and layer together, or neither: then tracing finds both.")
        if self.role is not None and self.role not in ROLES:
            raise RequestError(f"Unknown role {self.role!r}. Use one of {', '.join(ROLES)}.")
        if min(self.kl_weight, self.norm_weight, self.neighbour_weight, self.ridge) < 0:
            raise RequestError("kl_weight, norm_weight, neighbour_weight, ridge: not below zero.")
