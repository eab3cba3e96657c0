"""Adapters joined by what they make of the text so far: no router is trained, so none must forget.

The sequence-level mixture is p(next | text) = Σ w p_expert(next | text), where w is the posterior
of the experts given the text, that is each one's likelihood of the text so far. The base is an
expert as well, with a head start: it answers what no adapter is about. Hard routing lets the
likeliest expert after the prompt answer alone, as a server of many adapters can: one short pass
with each adapter, then decoding with one.

The sum or the mean of adapters or of probabilities does not work for facts: the confident guesses
of adapters that never saw a person drown the one that did.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F
from transformers import DynamicCache
from transformers.modeling_outputs import CausalLMOutputWithPast

from language_models.adapters import acting, stacked
from language_models.checkpoint import LanguageModel
from language_models.generation import encode, generate
from language_models.modes import evaluating
from language_models.padding import pad_right

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from transformers.cache_utils import Cache

    from language_models.adapters import Adapter
    from language_models.architecture import Projection


@dataclass(frozen=True)
class Experts:
    """Adapters of the same matrices; the base without any is the expert before them.

    head_start: by how many nats an adapter must tell a text better than the base to be as likely.
    """

    places: tuple[Projection, ...]
    adapters: tuple[Adapter, ...]
    scale: float
    head_start: float = 0.0

    def joined(self, device: torch.device) -> dict[str, Tensor]:
        """Return all as one adapter of n + 1 parts, the first of zeros for the base."""
        if not self.adapters:
            return {}
        base = {name: torch.zeros_like(one) for name, one in self.adapters[0].items()}
        return stacked([base, *self.adapters], device)


@dataclass
class _Followed:
    """What the experts made of the rows so far, in the place of a cache's layers.

    inner: keys and values of n·b rows. chances: log-likelihood of the text so far (b, n), float64.
    last: log-probabilities of the next token (b, n, v).
    """

    inner: Cache
    chances: Tensor
    last: Tensor

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some of the rows of the text, in all experts."""
        rows, experts = self.chances.shape
        starts = torch.arange(experts, device=indices.device)[:, None] * rows
        self.inner.batch_select_indices((starts + indices).flatten())
        self.chances, self.last = self.chances[indices], self.last[indices]


class Mixture(torch.nn.Module):
    """The base and its adapters as one model: its logits are the mixture's log-probabilities.

    All experts run in one forward, as n times the rows. It generates and scores like any model
    (language_models.generation); it has no blocks to edit or to trace.
    """

    def __init__(self, model: Any, experts: Experts) -> None:
        super().__init__()
        self.base, self.experts = model, experts
        self.count = len(experts.adapters) + 1
        joined = experts.joined(model.get_input_embeddings().weight.device)
        self.names = tuple(joined)
        for number, tensor in enumerate(joined.values()):
            self.register_buffer(f"adapter_{number}", tensor)

    @property
    def config(self) -> Any:
        """The base's settings."""
        return self.base.config

    @property
    def generation_config(self) -> Any:
        """The base's settings of generation."""
        return self.base.generation_config

    @property
    def dtype(self) -> torch.dtype:
        """The base's number format."""
        return self.base.dtype  # type: ignore[no-any-return]

    def get_input_embeddings(self) -> Any:
        """The base's embedding."""
        return self.base.get_input_embeddings()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        logits_to_keep: int = 0,
        **_: Any,
    ) -> CausalLMOutputWithPast:
        """Return log-probabilities (b, t, v) as logits; with a cache, of text that goes on."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        cache = past_key_values
        before = cache.layers[0] if cache is not None and cache.layers else None
        if not isinstance(before, _Followed):
            before = None
        fresh = None if cache is None else DynamicCache(config=self.config)
        inner = before.inner if before else fresh
        steps = self.steps(input_ids, mask, position_ids, inner)
        heard = self.heard(steps, input_ids, mask, before)
        weights = heard.log_softmax(dim=1)[..., -logits_to_keep:].to(steps)
        mixed = (steps[:, :, -logits_to_keep:] + weights[..., None]).logsumexp(dim=1)
        if inner is not None:
            cache.layers = [_Followed(inner, heard[..., -1], steps[:, :, -1])]
        return CausalLMOutputWithPast(logits=mixed, past_key_values=cache)

    def steps(
        self, ids: Tensor, mask: Tensor, positions: Tensor | None = None, cache: Cache | None = None
    ) -> Tensor:
        """Return the log-probabilities of all experts, (b, n, t, v)."""
        call: dict[str, Any] = {"past_key_values": cache, "use_cache": cache is not None}
        if positions is not None:
            call["position_ids"] = positions.repeat(self.count, 1)
        joined = {
            name: getattr(self, f"adapter_{number}") for number, name in enumerate(self.names)
        }
        adapted = self.experts.places if joined else ()
        with acting(adapted, joined, self.experts.scale):
            logits: Tensor = self.base(
                input_ids=ids.repeat(self.count, 1),
                attention_mask=mask.repeat(self.count, 1),
                **call,
            ).logits
        by_row = logits.reshape(self.count, len(ids), *logits.shape[1:]).transpose(0, 1)
        return by_row.float().log_softmax(dim=-1)

    def heard(
        self, steps: Tensor, ids: Tensor, mask: Tensor, before: _Followed | None = None
    ) -> Tensor:
        """Return each expert's log-likelihood of the text up to each token, (b, n, t), float64.

        steps: log-probabilities (b, n, t, v) after each token of ids (b, t). The first token of a
        text is given; padding on either side adds nothing. The base begins with its head start.
        """
        width = ids.shape[1]
        if before is not None:
            # The mask covers the cache as well; what comes after it has no padding.
            previous = torch.cat([before.last[:, :, None], steps[:, :, : width - 1]], dim=2)
            told = previous.gather(3, _at(ids, self.count)).squeeze(3).double()
            return before.chances[..., None] + told.cumsum(dim=2)
        # The token after padding is the first of its text.
        real = mask[:, 1:] * mask[:, :-1]
        told = steps[:, :, :-1].gather(3, _at(ids[:, 1:], self.count)).squeeze(3)
        found = F.pad(told.double() * real[:, None], (1, 0)).cumsum(dim=2)
        found[:, 0] += self.experts.head_start
        return found


def mixture(lm: LanguageModel, experts: Experts) -> LanguageModel:
    """Return the mixture as a model to generate and score with; the base stays as it is."""
    return LanguageModel(Mixture(lm.model, experts).eval(), lm.tokenizer)


@torch.inference_mode()
def posterior(
    lm: LanguageModel, experts: Experts, texts: Sequence[str], *, batch_size: int = 32
) -> Tensor:
    """Return each expert's posterior probability after each text, (texts, experts), the base first.

    The first token of a text is given, so a text of one token tells nothing.
    """
    model = Mixture(lm.model, experts)
    found = torch.zeros(len(texts), model.count, dtype=torch.float64)
    for start in range(0, len(texts), batch_size):
        chosen = texts[start : start + batch_size]
        ids, mask = pad_right(lm, [encode(lm, text) for text in chosen])
        with evaluating(lm):
            heard = model.heard(model.steps(ids, mask), ids, mask)
        found[start : start + batch_size] = heard[..., -1].softmax(dim=1).cpu()
    return found


def generate_routed(
    lm: LanguageModel, experts: Experts, prompts: Sequence[str], *, max_new_tokens: int
) -> list[str]:
    """Return the greedy text after each prompt by its likeliest expert alone."""
    chosen = posterior(lm, experts, prompts).argmax(dim=1).tolist()
    texts = [""] * len(prompts)
    for expert in sorted(set(chosen)):
        own = [index for index, one in enumerate(chosen) if one == expert]
        adapter = experts.adapters[expert - 1] if expert else {}
        placed = {name: tensor.to(lm.device) for name, tensor in adapter.items()}
        with acting(experts.places if expert else (), placed, experts.scale):
            new = generate(lm, [prompts[index] for index in own], max_new_tokens=max_new_tokens)
        for index, text in zip(own, new, strict=True):
            texts[index] = text
    return texts


def _at(ids: Tensor, experts: int) -> Tensor:
    return ids[:, None, :, None].expand(-1, experts, -1, 1)
