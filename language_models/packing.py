"""Texts of any lengths in one forward: only attention sees them apart, so that little is padded.

Linear layers, norms and positions work on every token by itself. They get all tokens in one row;
attention alone takes the texts out of it, some of like length at a time, and computes them by the
model's own plain function, with its caps, sinks and windows.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from transformers import AttentionInterface

from language_models.architecture import parts
from language_models.attention import added, attending, exchangeable, plain
from language_models.padding import pad_right

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from language_models.checkpoint import LanguageModel

NAME = "lethe_packed"
# Texts of like length that attention takes at a time. Two threads, texts of 10 to 106 tokens: 4 at
# a time are a tenth slower, 32 no faster.
TEXTS_AT_A_TIME = 16


@dataclass(frozen=True)
class _Group:
    """Texts of like length: their tokens first:last of the row, and each one's place in a grid."""

    first: int
    last: int
    places: Tensor
    texts: int
    width: int


_groups: ContextVar[tuple[_Group, ...]] = ContextVar("groups")


def states_of(lm: LanguageModel, texts: Sequence[Sequence[int]]) -> tuple[Tensor, list[int]]:
    """Return last states (n, d), and where those of each text begin; padded where none can pack."""
    if exchangeable(lm):
        return packed_states(lm, texts)
    ids, mask = pad_right(lm, texts)
    found = parts(lm.model).backbone(input_ids=ids, attention_mask=mask, use_cache=False)[0]
    return found.flatten(0, 1), list(range(0, ids.numel(), ids.shape[1]))


def packed_states(lm: LanguageModel, texts: Sequence[Sequence[int]]) -> tuple[Tensor, list[int]]:
    """Return the last states of all tokens of texts (n, d), and where those of each text begin."""
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    lengths = [len(texts[number]) for number in order]
    row = [token for number in order for token in texts[number]]
    positions = [position for length in lengths for position in range(length)]
    ids, at = (torch.tensor([one], device=lm.device) for one in (row, positions))
    known = _groups.set(_grouped(lengths))
    try:
        with attending(lm, NAME):
            found = parts(lm.model).backbone(input_ids=ids, position_ids=at, use_cache=False)
    finally:
        _groups.reset(known)
    states: Tensor = found[0]
    begin = dict(zip(order, accumulate(lengths, initial=0), strict=False))
    return states[0], [begin[number] for number in range(len(texts))]


def _grouped(lengths: Sequence[int]) -> tuple[_Group, ...]:
    groups, first = [], 0
    for begin in range(0, len(lengths), TEXTS_AT_A_TIME):
        part = lengths[begin : begin + TEXTS_AT_A_TIME]
        width, last = max(part), first + sum(part)
        places = [n * width + at for n, length in enumerate(part) for at in range(length)]
        groups.append(_Group(first, last, torch.tensor(places), len(part), width))
        first = last
    return tuple(groups)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attend within each text. query, key, value (1, heads, n, d); returns (1, n, heads, d)."""
    attend, found = plain(module), []
    for group in _groups.get():
        grids = (_spread(one, group) for one in (query, key, value))
        at = torch.arange(group.width)
        mask = added(at[:, None] - at, options.get("sliding_window"), query.dtype)[None, None]
        output, _ = attend(module, *grids, mask, **options)
        found.append(output.flatten(0, 1)[group.places])
    return torch.cat(found)[None], None


def _spread(tokens: Tensor, group: _Group) -> Tensor:
    """Put the group's tokens (1, heads, n, d) into a grid (texts, heads, width, d)."""
    heads, size = tokens.shape[1], tokens.shape[3]
    own = tokens[0, :, group.first : group.last].transpose(0, 1)
    grid = own.new_zeros(group.texts * group.width, heads, size)
    return (
        grid.index_copy(0, group.places, own)
        .view(group.texts, group.width, heads, size)
        .transpose(1, 2)
    )


AttentionInterface.register(NAME, _attention)
