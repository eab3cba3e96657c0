"""r-ROME: one fact, one layer, one rank-one change of the MLP's second projection.

ROME (Meng et al. 2022) with homogeneous keys (Gupta et al. 2024): the key k_e and the output it
is taken from are both means over the contexts, so W' k_e = v_e holds exactly, where
v_e = W k_e + δ and δ is what was optimised. ROME itself takes one from the mean and the other
from the bare prompt, which ruins models after some edits. At the last token of a prompt the keys
of different wordings lie far apart, so the change is asked to meet each of them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from editing.requests import EditRequest, EditResult
from language_models.errors import NotReached, RequestError
from language_models.methods import public_config, require_positive
from language_models.positions import ROLES
from language_models.progress import Progress, silent

if TYPE_CHECKING:
    import torch

    from editing.contexts import Contexts
    from language_models.checkpoint import LanguageModel
    from language_models.delta import WeightDelta
    from language_models.moments import Moment
    from language_models.tracing import Site, Trace

# Tracing takes seconds a wording on a small model; a few show the site as well as all.
TRACED_WORDINGS = 2


def _setting(default: Any, told: str, source: str, *, private: bool = False) -> Any:
    return field(default=default, metadata={"help": told, "source": source, "private": private})


@dataclass(frozen=True)
class RomeConfig:
    """Settings of r-ROME; without role and layer, causal tracing on this model gives the site."""

    role: str | None = _setting(
        None, "token at which the value is written; none: from tracing", "ROME, section 2"
    )
    layer: int | None = _setting(
        None, "layer whose MLP is changed; none: from tracing", "ROME, section 2"
    )
    steps: int = _setting(60, "most Adam steps for the value", "measured; ROME's code: 20")
    learning_rate: float = _setting(0.1, "Adam's learning rate", "measured; ROME's code: 0.5")
    clamp: float = _setting(
        6.0, "largest norm of δ, in norms of the present output", "measured; ROME's code: 4"
    )
    stop_loss: float = _setting(
        1e-3, "stop when the target's mean loss per token is below", "measured; ROME's code: 0.05"
    )
    kl_weight: float = _setting(
        0.0625, "weight of keeping what '{subject} is a' predicts", "ROME's code, kl_factor"
    )
    norm_weight: float = _setting(
        1e-3, "weight of the norm of δ", "EasyEdit's settings for Llama, v_weight_decay"
    )
    moment_weight: float = _setting(
        100.0, "number of keys that the second moment stands for", "measured in batches of 40"
    )
    neighbour_weight: float = _setting(
        1.0, "weight of each neighbour's own key", "measured in batches of 40"
    )
    slack: float = _setting(
        1.0, "how unequal the wordings' keys may be met, in keys; 0: all exactly", "measured"
    )
    ridge: float = _setting(
        1e-4, "share of the mean diagonal added before solving", "keeps the solve well posed"
    )
    lead_ins: tuple[str, ...] = _setting((), "texts put before the prompts, in turn", "Lethe")
    prefixes: int = _setting(
        10, "sampled texts put before the prompt when no paraphrase is given", "ROME's code: 20"
    )
    moment_texts: tuple[str, ...] = _setting(
        (), "texts for the second moment; none: the model's own", "ROME, eq. 2", private=True
    )
    min_contexts: float = _setting(
        0.9, "share of contexts in which the target must come first", "Lethe"
    )
    seed: int = _setting(0, "seed of tracing noise and of sampled texts", "Lethe")

    def __post_init__(self) -> None:
        require_positive(self, "steps", "learning_rate", "clamp", "moment_weight", "ridge")
        if self.slack < 0:
            raise RequestError("slack must not be below zero.")
        if (self.role is None) != (self.layer is None):
            raise RequestError("Give role and layer together, or neither: then tracing finds both.")
        if self.role is not None and self.role not in ROLES:
            raise RequestError(f"Unknown role {self.role!r}. Use one of {', '.join(ROLES)}.")


def run(
    lm: LanguageModel,
    requests: tuple[EditRequest, ...],
    config: RomeConfig,
    progress: Progress | None = None,
) -> EditResult:
    """Write each request's target in turn; later edits keep the keys of earlier ones."""
    from editing.contexts import contexts
    from language_models.architecture import mlp_out_name, parts
    from language_models.delta import WeightDelta

    report = progress or silent
    started = time.monotonic()
    site, trace = _site(lm, requests, config, report)
    batches = [contexts(lm, request, config, site) for request in requests]
    moment = _moment(lm, config, site.layer, report)
    weight = parts(lm.model).mlp_out(site.layer).weight
    norm = float(weight.detach().double().norm())
    left, right, found = _solve(lm, requests, batches, config, site, moment, report)
    delta = WeightDelta.from_factors(lm, {mlp_out_name(site.layer): (left, right)})
    delta.apply(lm)
    _verify(lm, batches, delta, found, config.min_contexts)
    details = {
        "method": "rome",
        "config": public_config(config),
        "site": {"role": site.role, "layer": site.layer},
        "trace": None if trace is None else trace.as_dict(),
        "requests": found,
        "tensors": list(delta.entries),
        "rank": len(requests),
        "relative_change": float((left @ right).norm()) / norm,
        "moment": {"keys": moment.count, "sha256": moment.digest},
        "neighbours": sum(len(request.neighbours) for request in requests),
        "seconds": round(time.monotonic() - started, 2),
    }
    return EditResult(delta, details)


def _site(
    lm: LanguageModel, requests: tuple[EditRequest, ...], config: RomeConfig, report: Progress
) -> tuple[Site, Trace | None]:
    from language_models.architecture import parts
    from language_models.tracing import Site, TraceCase, trace

    if config.role is not None and config.layer is not None:
        parts(lm.model).mlp_out(config.layer)
        return Site(config.role, config.layer), None
    # Without an answer the trace follows what the model itself says now, so the old value need
    # not be in the request.
    cases = [
        TraceCase(request.subject, wording)
        for request in requests
        for wording in request.wordings[:TRACED_WORDINGS]
    ]
    report("trace", 0, 1)
    found = trace(lm, cases, config.seed)
    report("trace", 1, 1)
    return found.site, found


def _moment(lm: LanguageModel, config: RomeConfig, layer: int, report: Progress) -> Moment:
    from editing.contexts import own_texts
    from language_models.moments import second_moment

    report("moments", 0, 1)
    texts = config.moment_texts or own_texts(lm, count=64, tokens=48, seed=config.seed)
    moment = second_moment(lm, texts, layer)
    report("moments", 1, 1)
    return moment


def _solve(
    lm: LanguageModel,
    requests: tuple[EditRequest, ...],
    batches: list[Contexts],
    config: RomeConfig,
    site: Site,
    moment: Moment,
    report: Progress,
) -> tuple[torch.Tensor, torch.Tensor, list[dict[str, Any]]]:
    """Return left (d_out, n) and right (n, d_ff) in float64; the weights are as before after."""
    import torch

    from editing.closed_form import Preserved, rank_one
    from editing.contexts import neighbour_keys
    from editing.value import optimise_value
    from language_models.architecture import parts

    preserved = Preserved(moment.matrix, config.moment_weight, config.ridge)
    for request in requests:
        if request.neighbours:
            keys = neighbour_keys(lm, request.neighbours, site)
            preserved.add(keys, config.neighbour_weight)
    weight = parts(lm.model).mlp_out(site.layer).weight
    original = weight.detach().clone()
    left = torch.zeros(weight.shape[0], 0, dtype=torch.float64)
    right = torch.zeros(0, weight.shape[1], dtype=torch.float64)
    found = []
    try:
        for number, batch in enumerate(batches):
            report("edit", number, len(batches))
            value = optimise_value(lm, batch, config, site)
            column, row = rank_one(value.delta, batch.keys, preserved, config.slack)
            left, right = torch.cat([left, column], dim=1), torch.cat([right, row])
            with torch.no_grad():
                weight.copy_(original.double() + (left @ right).to(original.device))
            preserved.add(batch.keys, 1.0)
            found.append(value.details)
    finally:
        with torch.no_grad():
            weight.copy_(original)
    report("edit", len(batches), len(batches))
    return left, right, found


def _verify(
    lm: LanguageModel,
    batches: list[Contexts],
    delta: WeightDelta,
    found: list[dict[str, Any]],
    least: float,
) -> None:
    """Note in how many contexts each target comes first; bring the weights back if in too few."""
    from editing.value import target_first

    for batch, details in zip(batches, found, strict=True):
        first = target_first(lm, batch)
        details["target_first"] = sum(first) / len(first)
        details["target_first_everywhere"] = all(first)
        if details["target_first"] < least:
            delta.revert(lm)
            raise NotReached(
                f"The target comes first in {details['target_first']:.0%} of the contexts, not in"
                f" {least:.0%}. The weights are as before. Look at the trace, raise steps or"
                " clamp, or choose another method."
            )
