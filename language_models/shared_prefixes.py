"""Many texts that begin alike in one forward: each beginning is computed once.

Probes about one person repeat names and wordings. The distinct beginnings of all texts form a
tree; its nodes stand in one row, so linear layers see each once, and attention gives each node the
path to it. The model's own plain attention function computes it, as in packing.py.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import AttentionInterface

from language_models.architecture import parts
from language_models.generation import pad_right
from language_models.packing import can_pack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from language_models.checkpoint import LanguageModel

NAME = "lethe_shared_prefixes"
# Texts with about as many new tokens that attention takes at a time.
TEXTS_AT_A_TIME = 64


@dataclass(frozen=True)
class _Group:
    """Texts that attention takes together. Their new tokens ask, their whole paths answer.

    asking: nodes that ask (texts, w). path: nodes of the paths (texts, t). distance: how far each
    place of the path lies before the one that asks (texts, w, t), below 0 after it.
    """

    asking: Tensor
    path: Tensor
    distance: Tensor


@dataclass(frozen=True)
class Tree:
    """Token ids and depths of all nodes, in the order of the row; the path of each text."""

    ids: list[int]
    depths: list[int]
    paths: list[list[int]]


_groups: ContextVar[tuple[_Group, ...]] = ContextVar("groups")


def states_of(lm: LanguageModel, texts: Sequence[Sequence[int]]) -> tuple[Tensor, list[list[int]]]:
    """Return last states (n, d) and, per text, where in them each of its tokens stands.

    Where attention cannot be exchanged (packing.can_pack) the texts are padded instead.
    """
    if not can_pack(lm):
        ids, mask = pad_right(lm, [list(text) for text in texts])
        found = parts(lm.model).backbone(input_ids=ids, attention_mask=mask, use_cache=False)[0]
        width = ids.shape[1]
        places = [[n * width + at for at in range(len(text))] for n, text in enumerate(texts)]
        return found.flatten(0, 1), places
    known = tree(texts)
    ids, depths = (torch.tensor([one], device=lm.device) for one in (known.ids, known.depths))
    config = lm.model.config
    before = _groups.set(_grouped(known))
    config._attn_implementation = NAME
    try:
        states: Tensor = parts(lm.model).backbone(
            input_ids=ids, position_ids=depths, use_cache=False
        )[0]
    finally:
        config._attn_implementation = "eager"
        _groups.reset(before)
    return states[0], known.paths


def tree(texts: Sequence[Sequence[int]]) -> Tree:
    """Return the tree of beginnings; texts in sorted order share with the one before them."""
    ids: list[int] = []
    depths: list[int] = []
    paths: list[list[int]] = [[] for _ in texts]
    last: Sequence[int] = ()
    path: list[int] = []
    for number in sorted(range(len(texts)), key=lambda n: tuple(texts[n])):
        text = texts[number]
        same = 0
        while same < min(len(last), len(text)) and last[same] == text[same]:
            same += 1
        path = [*path[:same], *range(len(ids), len(ids) + len(text) - same)]
        ids += text[same:]
        depths += range(same, len(text))
        paths[number] = path
        last = text
    return Tree(ids, depths, paths)


def _grouped(known: Tree) -> tuple[_Group, ...]:
    new: dict[int, list[int]] = {}  # first new node -> the path on which it came
    seen = 0
    for path in sorted(known.paths, key=lambda nodes: nodes[-1]):
        if path[-1] >= seen:
            new[seen] = path
            seen = path[-1] + 1
    rows = sorted(((path[-1] - first + 1, path) for first, path in new.items()), key=lambda r: r[0])
    return tuple(
        _group(rows[begin : begin + TEXTS_AT_A_TIME])
        for begin in range(0, len(rows), TEXTS_AT_A_TIME)
    )


def _group(rows: Sequence[tuple[int, list[int]]]) -> _Group:
    width, length = max(new for new, _ in rows), max(len(path) for _, path in rows)
    # A row with fewer new tokens asks once more for the last of the old ones, or for its first.
    asking = [[max(0, len(path) - width + at) for at in range(width)] for _, path in rows]
    places = torch.tensor(asking)
    paths = torch.tensor([path + [0] * (length - len(path)) for _, path in rows])
    return _Group(
        paths.gather(1, places), paths, places[:, :, None] - torch.arange(length)[None, None]
    )


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attend along each path. query, key, value (1, heads, n, d); returns (1, n, heads, d)."""
    plain = sys.modules[type(module).__module__].eager_attention_forward
    keys, values, queries = (one[0].transpose(0, 1) for one in (key, value, query))
    found = queries.new_empty(*queries.shape[:2], values.shape[-1])
    window = options.get("sliding_window")
    for group in _groups.get():
        hidden = group.distance < 0
        if window is not None:
            hidden = hidden | (group.distance >= window)
        mask = torch.zeros(hidden.shape, dtype=query.dtype)
        mask = mask.masked_fill(hidden, torch.finfo(query.dtype).min)[:, None]
        output, _ = plain(
            module,
            queries[group.asking].transpose(1, 2),
            keys[group.path].transpose(1, 2),
            values[group.path].transpose(1, 2),
            mask,
            **options,
        )
        found[group.asking] = output
    return found[None], None


AttentionInterface.register(NAME, _attention)
