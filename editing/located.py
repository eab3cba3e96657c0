"""What ROME, MEMIT, EMMET and AlphaEdit share: find the site, the contexts, what is to stay."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from editing.contexts import (
    Contexts,
    contexts,
    neighbour_keys,
    own_texts,
    sampled_lead_ins,
)
from language_models.architecture import parts
from language_models.moments import Moment, sample_texts, second_moments
from language_models.positions import fill
from language_models.tracing import Site, Trace, TraceCase, trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from editing.located_config import LocatedConfig
    from editing.memory import EditedKeys
    from editing.requests import EditRequest
    from language_models.checkpoint import LanguageModel
    from language_models.progress import Progress

# Tracing takes long on a large model; a few statements show the site as well as all.
TRACED_WORDINGS = 2
TRACED_REQUESTS = 4
# Without texts of the user's; poorer than any real ones, however many (docs/editing.md).
OWN_TEXTS = 64


@dataclass(frozen=True)
class Located:
    """The site, how it was found, and the contexts of each request there."""

    config: LocatedConfig
    site: Site
    trace: Trace | None
    contexts: list[Contexts]

    def details(self) -> dict[str, Any]:
        """Return what a result tells of the site."""
        return {
            "site": {"role": self.site.role, "layer": self.site.layer},
            "site_chosen_by": "setting" if self.trace is None else "causal tracing",
            "trace": None if self.trace is None else self.trace.as_dict(),
        }


def locate_edits(
    lm: LanguageModel,
    requests: Sequence[EditRequest],
    config: LocatedConfig,
    report: Progress,
) -> Located:
    """Find the site and the contexts of all requests. Raises before anything is changed."""
    _check_dense(lm)
    site, found = _site(lm, requests, config, report)
    parts(lm.model).mlp_out(site.layer)
    alone = any(len(request.wordings) == 1 for request in requests)
    if alone and config.prefixes and not config.lead_ins:
        sampled = sampled_lead_ins(lm, count=config.prefixes, seed=config.seed)
        config = replace(config, lead_ins=sampled)
    return Located(
        config, site, found, [contexts(lm, request, config, site) for request in requests]
    )


def moment_at(
    lm: LanguageModel,
    config: LocatedConfig,
    layer: int,
    report: Progress,
    memory: EditedKeys | None = None,
) -> Moment:
    """Return the second moment of `layer`: as given, or of the config's or the model's texts.

    Of more texts than TEXTS a sample is read: the error of more is measured in docs/editing.md.
    Edits of lower layers change the keys of higher ones; from `refresh` edits on, what was given
    is not used any more.
    """
    stale = bool(config.refresh and memory and memory.count >= config.refresh)
    if layer in dict(config.moments) and not stale:
        return dict(config.moments)[layer]
    texts = config.moment_texts or own_texts(lm, count=OWN_TEXTS, tokens=48, seed=config.seed)
    cache = None if config.moment_cache is None else Path(config.moment_cache)
    chosen = sample_texts(texts, seed=config.seed)
    return second_moments(lm, chosen, [layer], cache=cache, progress=report)[layer]


def neighbour_sum(lm: LanguageModel, prompts: Sequence[str], site: Site, layer: int) -> Tensor:
    """Return the sum of kkᵀ (d_ff, d_ff) in float64 over the keys of prompts to keep.

    The setting `kept` takes it, so that neighbours which many edits share are read once.
    """
    K = neighbour_keys(lm, prompts, site, layer).double().T
    return K @ K.T


def told(moment: Moment) -> dict[str, Any]:
    """Return what a result tells of a second moment."""
    return {"moment": {"keys": moment.count, "sha256": moment.digest}}


def to_keep(
    lm: LanguageModel,
    requests: Sequence[EditRequest],
    located: Located,
    layer: int,
    moment: Moment,
    memory: EditedKeys | None,
) -> Tensor:
    """Return A (d_ff, d_ff) in float64: second moment, neighbours' keys, keys of earlier edits."""
    config = located.config
    C = moment.matrix.to(lm.device, torch.float64)
    noise = torch.eye(len(C), dtype=C.dtype, device=C.device) * (config.ridge * C.diagonal().mean())
    A = config.moment_weight * (C + noise)
    return A + kept_keys(lm, requests, located, layer, memory)


def kept_keys(
    lm: LanguageModel,
    requests: Sequence[EditRequest],
    located: Located,
    layer: int,
    memory: EditedKeys | None,
) -> Tensor:
    """Return the sum of kkᵀ over neighbours, weighted, and earlier edits; broadcasts to A."""
    config = located.config
    total = torch.zeros(1, dtype=torch.float64, device=lm.device)
    # A prompt that the batch rewrites cannot stay as well.
    edited = {fill(w, request.subject) for request in requests for w in request.wordings}
    prompts = [p for request in requests for p in request.neighbours if p not in edited]
    if prompts and config.neighbour_weight:
        total = total + neighbour_sum(lm, prompts, located.site, layer)
    if layer in dict(config.kept):
        total = total + dict(config.kept)[layer].to(total)
    total = config.neighbour_weight * total
    return total if memory is None else total + memory.outer(lm, layer)


def _check_dense(lm: LanguageModel) -> None:
    """Refuse a model of mixtures alone before the trace, which takes long."""
    model = parts(lm.model)
    if not any(model.is_dense(layer) for layer in range(len(model.blocks))):
        model.mlp_out(0)


def _site(
    lm: LanguageModel, requests: Sequence[EditRequest], config: LocatedConfig, report: Progress
) -> tuple[Site, Trace | None]:
    if config.role is not None and config.layer is not None:
        return Site(config.role, config.layer), None
    # Without an answer the trace follows what the model itself says now, so the old value need
    # not be in the request.
    cases = [
        TraceCase(request.subject, wording)
        for request in requests[:TRACED_REQUESTS]
        for wording in request.wordings[:TRACED_WORDINGS]
    ]
    report("trace", 0, 1)
    found = trace(lm, cases, config.seed)
    report("trace", 1, 1)
    return found.site, found
