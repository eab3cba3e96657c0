"""Run the blocks above one layer again and again, from kept states, for changed positions only.

A change at one token reaches no token before it. So the tokens before are computed once and kept
as keys and values of the attention; the tokens from there on are computed once up to the changed
layer; after that only the blocks above run, on those tokens. The result equals a whole forward.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer

from language_models.architecture import Parts, parts
from language_models.errors import RequestError
from language_models.modes import evaluating
from language_models.moments import hooked
from language_models.padding import pad_right

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from language_models.checkpoint import LanguageModel


class _Kept(DynamicLayer):  # type: ignore[misc]
    """Keys and values of the tokens before, (b, heads, t, width); what comes is not stored."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        return torch.cat([self.keys, keys], dim=-2), torch.cat([self.values, values], dim=-2)

    def rows(self, rows: Tensor) -> _Kept:
        """Return some of the rows; each layer of a split model lies on a device of its own."""
        chosen = rows.to(self.keys.device)
        return _Kept(self.keys[chosen], self.values[chosen])


@dataclass(frozen=True)
class Replay:
    """Rows of tokens from their changed position on, as column 0.

    states: output of the block of the changed layer, (b, s, d). values: output of its MLP's
    second projection at column 0, (b, d). calls: the other arguments of each block above.
    """

    model: Parts
    layer: int
    states: Tensor
    values: Tensor
    calls: tuple[tuple[tuple[Any, ...], dict[str, Any]], ...]

    def states_above(self, delta: Tensor) -> Tensor:
        """Return the last block's output (b, s, d) with delta (b, d) added to `values`."""
        hidden = self._changed(delta)
        for block, (args, kwargs) in zip(
            self.model.blocks[self.layer + 1 :], self.calls, strict=True
        ):
            output = block(hidden, *args, **kwargs)
            hidden = output[0] if isinstance(output, tuple) else output
        return hidden

    def logits(self, delta: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Return the logits (m, v) at the given rows and columns with delta (b, d) added."""
        states = self.states_above(delta)
        states = states[rows.to(states.device), columns.to(states.device)]
        return self.model.logits(self.model.final_norm(states))

    def select(self, rows: Tensor) -> Replay:
        """Return the replay of some of the rows, in the order given."""
        count = len(self.states)
        done: dict[int, Any] = {}  # all blocks share one cache and often one mask
        return replace(
            self,
            states=self.states[rows.to(self.states.device)],
            values=self.values[rows.to(self.values.device)],
            calls=tuple(select_rows(call, rows, count, done) for call in self.calls),
        )

    def _changed(self, delta: Tensor) -> Tensor:
        norm = self.model.norm_after_mlp(self.layer)
        moved = delta.to(self.values)
        if norm is not None:
            moved = norm(self.values + moved) - norm(self.values)
        first = self.states[:, :1] + moved[:, None].to(self.states)
        return torch.cat([first, self.states[:, 1:]], dim=1)


@torch.no_grad()
def replay(
    lm: LanguageModel, rows: Sequence[list[int]], starts: Sequence[int], layer: int
) -> Replay:
    """Prepare a replay: token rows, and per row the position at which `layer` is changed.

    Raises UnsupportedArchitecture for a layer without a second projection, RequestError for a row
    longer than the attention window.
    """
    model = parts(lm.model)
    model.mlp_out(layer)
    _check_window(lm, rows)
    with evaluating(lm):
        before = [row[:at] for row, at in zip(rows, starts, strict=True)]
        cache, seen = _before(lm, model, before)
        ids, mask = pad_right(lm, [row[at:] for row, at in zip(rows, starts, strict=True)])
        first = torch.tensor(starts, device=lm.device)[:, None]
        call = {
            "input_ids": ids,
            "attention_mask": torch.cat([seen, mask], dim=1),
            "position_ids": first + torch.arange(ids.shape[1], device=lm.device),
            "past_key_values": cache,
            "use_cache": True,
        }
        return _recorded(model, layer, call)


def _recorded(model: Parts, layer: int, call: dict[str, Any]) -> Replay:
    """Run the backbone once and keep what the blocks above `layer` get."""
    states: list[Tensor] = []
    values: list[Tensor] = []
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def keep_state(_module: Any, _args: Any, output: Any) -> None:
        states.append(output[0] if isinstance(output, tuple) else output)

    def keep_value(_module: Any, _args: Any, output: Tensor) -> None:
        values.append(output[:, 0])

    def keep_call(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.append((args[1:], kwargs))

    above = model.blocks[layer + 1 :]
    with hooked(
        lambda: model.blocks[layer].register_forward_hook(keep_state),
        lambda: model.mlp_out(layer).module.register_forward_hook(keep_value),
        *(
            lambda block=block: block.register_forward_pre_hook(keep_call, with_kwargs=True)
            for block in above
        ),
    ):
        model.backbone(**call)
    return Replay(model, layer, states[0], values[0], tuple(calls))


@contextmanager
def frozen(lm: LanguageModel) -> Iterator[None]:
    """Keep gradients away from the weights, and dropout off; put back how they were."""
    before = [(weight, weight.requires_grad) for weight in lm.model.parameters()]
    for weight, _ in before:
        weight.requires_grad_(requires_grad=False)
    try:
        with evaluating(lm):
            yield
    finally:
        for weight, needed in before:
            weight.requires_grad_(requires_grad=needed)


def _before(lm: LanguageModel, model: Parts, rows: list[list[int]]) -> tuple[Cache, Tensor]:
    """Return keys and values of the tokens before the change, and which of them are real."""
    # One empty place keeps a row that changes at its first token in the same shape.
    filled = [row or [0] for row in rows]
    width = max(len(row) for row in filled)
    # Filled up at the front: a sliding window counts columns, so the row must have no gap.
    ids = torch.tensor([[0] * (width - len(row)) + row for row in filled], device=lm.device)
    mask = torch.tensor(
        [[0] * (width - len(row)) + [1] * len(row) for row in filled], device=lm.device
    )
    cache = DynamicCache()
    model.backbone(
        input_ids=ids,
        attention_mask=mask,
        position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0),
        past_key_values=cache,
        use_cache=True,
    )
    kept = Cache(layers=[_Kept(layer.keys, layer.values) for layer in cache.layers])
    real = torch.tensor([bool(row) for row in rows], device=lm.device)
    return kept, mask * real[:, None]


def _check_window(lm: LanguageModel, rows: Sequence[list[int]]) -> None:
    window = getattr(lm.model.config, "sliding_window", None)
    longest = max(len(row) for row in rows)
    if window is not None and longest > window:
        raise RequestError(
            f"A prompt has {longest} tokens, more than the attention window of {window}."
            " Shorten it."
        )


def select_rows(value: Any, rows: Tensor, count: int, done: dict[int, Any]) -> Any:
    """Take rows of everything that has one entry per row, inside the arguments of a block."""
    if isinstance(value, tuple):
        return tuple(select_rows(item, rows, count, done) for item in value)
    if isinstance(value, dict):
        return {name: select_rows(item, rows, count, done) for name, item in value.items()}
    if id(value) not in done:
        done[id(value)] = _rows_of(value, rows, count)
    return done[id(value)]


def _rows_of(value: Any, rows: Tensor, count: int) -> Any:
    if isinstance(value, torch.Tensor):
        return value[rows.to(value.device)] if value.dim() > 1 and len(value) == count else value
    if isinstance(value, Cache):
        return Cache(layers=[layer.rows(rows) for layer in value.layers])
    return value
