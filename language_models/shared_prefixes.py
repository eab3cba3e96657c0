"""Many texts that begin alike in one forward: each beginning is computed once.

Probes about one person repeat names and wordings. The distinct beginnings of all texts form a
tree; its nodes stand in one row, so linear layers see each once, and attention gives each node the
path to it. The model's own plain attention function computes it, as in packing.py.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F
from transformers import AttentionInterface
from transformers.cache_utils import DynamicLayer

from language_models.architecture import parts
from language_models.attention import added, attending, exchangeable, plain
from language_models.packing import states_of as packed_or_padded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn
    from transformers import DynamicCache

    from language_models.checkpoint import LanguageModel

NAME = "lethe_shared_prefixes"
# Nodes of a run at least: they ask together, and see each other and the way to the first of them.
RUN = 16
# The way is gathered for each run, so it is at most about so many times as long as the run.
LONGEST_WAY = 8
# Places of attention a head that are computed at a time.
LARGEST_GRID = 2**17
# Nodes over tokens of all texts, above which the tree costs more than it spares.
MOST_NODES = 0.8


@dataclass(frozen=True)
class _Group:
    """Runs of nodes that attention takes together.

    asking: nodes that ask (runs, w). path: what may answer, the run itself and the nodes on the way
    to it (runs, t). distance: how far each of these lies before the one that asks (runs, w, t),
    below 0 where it does not lead to it. masks: what is added to attention (runs, 1, w, t), made
    once for all layers with one window. rows: where the heads of asking and path stand, made once
    for all layers with as many heads.
    """

    asking: Tensor
    path: Tensor
    distance: Tensor
    masks: dict[int | None, Tensor] = field(default_factory=dict)
    rows: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def mask(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """Return what is added to attention by layers with this window."""
        if window not in self.masks:
            self.masks[window] = added(self.distance, window, dtype)[:, None]
        return self.masks[window]

    def asked(self, queries: Tensor) -> Tensor:
        """Return the queries (n, heads, d) of those that ask: (runs, heads, w, d)."""
        return _taken(queries, self._rows(queries.shape[1])[0])

    def answered(self, kept: Tensor) -> Tensor:
        """Return the keys or values (n, heads, d) of those that may answer: (runs, heads, t, d)."""
        return _taken(kept, self._rows(kept.shape[1])[1])

    def _rows(self, heads: int) -> tuple[Tensor, Tensor]:
        if heads not in self.rows:
            self.rows[heads] = _rows(self.asking, heads), _rows(self.path, heads)
        return self.rows[heads]


@dataclass(frozen=True)
class Tree:
    """Token ids and depths of all nodes, in the order of the row; the path of each text."""

    ids: list[int]
    depths: list[int]
    paths: list[list[int]]


_groups: ContextVar[tuple[_Group, ...]] = ContextVar("groups")
# Keys and values of all nodes (n, heads, d), layer by layer, while somebody keeps them.
_kept: ContextVar[list[tuple[Tensor, Tensor]] | None] = ContextVar("kept", default=None)


def states_of(lm: LanguageModel, texts: Sequence[Sequence[int]]) -> tuple[Tensor, list[list[int]]]:
    """Return last states (n, d) and, per text, where in them each of its tokens stands.

    Where attention cannot be exchanged (attention.exchangeable) the texts are padded instead.
    """
    if not exchangeable(lm):
        states, begins = packed_or_padded(lm, texts)
        pairs = zip(begins, texts, strict=True)
        return states, [list(range(begin, begin + len(text))) for begin, text in pairs]
    known = tree(texts)
    return _states(lm, known), known.paths


@dataclass(frozen=True)
class Memory:
    """What attention keeps of texts after one forward.

    layers: keys and values of all nodes (n, heads, d), layer by layer. paths: the node of each
    token of each text.
    """

    layers: list[tuple[Tensor, Tensor]]
    paths: list[list[int]]

    def put(self, cache: DynamicCache, beginnings: Sequence[tuple[int, int]]) -> bool:
        """Put beginnings of texts (number, tokens) into a new cache, padded on the left.

        False, and the cache as it was, for layers that are kept in another way.
        """
        if len(self.layers) != len(cache.layers):  # some borrow the keys of others
            return False
        if not all(isinstance(layer, DynamicLayer) for layer in cache.layers):
            return False
        width = max(tokens for _, tokens in beginnings)
        # What stands where the padding is, is masked.
        places = torch.tensor(
            [[0] * (width - tokens) + self.paths[text][:tokens] for text, tokens in beginnings]
        )
        for layer, pair in zip(cache.layers, self.layers, strict=True):
            layer.update(*(_taken(one, _rows(places, one.shape[1])) for one in pair))
        return True


def remembered(lm: LanguageModel, known: Tree) -> tuple[Tensor, Memory]:
    """Return the last states (n, d) and what attention keeps, where attention is exchangeable."""
    layers: list[tuple[Tensor, Tensor]] = []
    before = _kept.set(layers)
    try:
        states = _states(lm, known)
    finally:
        _kept.reset(before)
    return states, Memory(layers, known.paths)


def fill(lm: LanguageModel, texts: Sequence[Sequence[int]], cache: DynamicCache) -> Tensor | None:
    """Put all texts but for padding into a new cache, and return the logits after each (b, v).

    None, and the cache as it was, where beginnings are not shared enough to pay, or this model is
    not computed so.
    """
    if not exchangeable(lm):
        return None
    known = tree(texts)
    if len(known.ids) > MOST_NODES * sum(map(len, texts)):
        return None
    states, memory = remembered(lm, known)
    if not memory.put(cache, [(number, len(text)) for number, text in enumerate(texts)]):
        return None
    last = torch.tensor([path[-1] for path in known.paths])
    return parts(lm.model).logits(states[last])


def _states(lm: LanguageModel, known: Tree) -> Tensor:
    ids, depths = (torch.tensor([one], device=lm.device) for one in (known.ids, known.depths))
    before = _groups.set(_grouped(known))
    try:
        with attending(lm, NAME):
            found = parts(lm.model).backbone(input_ids=ids, position_ids=depths, use_cache=False)
    finally:
        _groups.reset(before)
    states: Tensor = found[0][0]
    return states


def tree(texts: Sequence[Sequence[int]]) -> Tree:
    """Return the tree of beginnings; texts in sorted order share with the one before them."""
    ids: list[int] = []
    depths: list[int] = []
    paths: list[list[int]] = [[] for _ in texts]
    last: Sequence[int] = ()
    path: list[int] = []
    for number in sorted(range(len(texts)), key=lambda n: tuple(texts[n])):
        text = texts[number]
        shorter = min(len(last), len(text))
        same = next((n for n in range(shorter) if last[n] != text[n]), shorter)
        path = [*path[:same], *range(len(ids), len(ids) + len(text) - same)]
        ids += text[same:]
        depths += range(same, len(text))
        paths[number] = path
        last = text
    return Tree(ids, depths, paths)


@dataclass(frozen=True)
class _Run:
    """Nodes first to end - 1, and those on the way to the first."""

    first: int
    end: int
    way: list[int]

    @property
    def size(self) -> tuple[int, int]:
        """Nodes that ask, and nodes that may answer them."""
        width = self.end - self.first
        return width, width + len(self.way)


def _grouped(known: Tree) -> tuple[_Group, ...]:
    """Return all nodes in runs. The order of the tree is that of its texts, so what leads to a node
    of a run is in the run or leads to its first node.
    """
    runs, ends = _runs(known.depths)
    depths = torch.tensor(known.depths)
    groups: list[_Group] = []
    taken: list[_Run] = []
    for run in sorted(runs, key=lambda run: run.size):  # little is padded
        width, length = run.size
        other = taken and taken[0].size[0] != width
        if taken and (other or (len(taken) + 1) * width * length > LARGEST_GRID):
            groups.append(_group(taken, depths, ends))
            taken = []
        taken.append(run)
    return (*groups, _group(taken, depths, ends))


def _runs(depths: Sequence[int]) -> tuple[list[_Run], Tensor]:
    """Return the runs in order, and for all nodes the first behind it to which it does not lead
    (n).
    """
    runs: list[_Run] = []
    ends = [len(depths)] * len(depths)
    way: list[int] = []
    for node, depth in enumerate(depths):
        for left in way[depth:]:
            ends[left] = node
        del way[depth:]
        if not runs or node == runs[-1].end:
            width = RUN
            while width * LONGEST_WAY < depth:
                width *= 2  # of few sizes, as runs of one size are taken together
            runs.append(_Run(node, min(node + width, len(depths)), way.copy()))
        way.append(node)
    return runs, torch.tensor(ends)


def _group(runs: Sequence[_Run], depths: Tensor, ends: Tensor) -> _Group:
    asking = torch.tensor([[*range(run.first, run.end)] for run in runs])
    longest = max(len(run.way) for run in runs)
    ways = [run.way + [-1] * (longest - len(run.way)) for run in runs]
    answering = torch.cat([asking, torch.tensor(ways, dtype=torch.long)], dim=1)
    path = answering.clamp(min=0)
    asks, answers = asking[:, :, None], answering[:, None]
    leads = (answers >= 0) & (answers <= asks) & (asks < ends[path][:, None])
    distance = depths[asking][:, :, None] - depths[path][:, None]
    return _Group(asking, path, distance.masked_fill(~leads, -1))


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attend along each path. query, key, value (1, heads, n, d); returns (1, n, heads, d)."""
    attend, window = plain(module), options.get("sliding_window")
    keys, values, queries = (one[0].transpose(0, 1) for one in (key, value, query))
    if (kept := _kept.get()) is not None:
        kept.append((keys, values))
    found = queries.new_empty(*queries.shape[:2], values.shape[-1])
    for group in _groups.get():
        output, _ = attend(
            module,
            group.asked(queries),
            group.answered(keys),
            group.answered(values),
            group.mask(window, query.dtype),
            **options,
        )
        found.index_copy_(0, group.asking.flatten(), output.flatten(0, 1))
    return found[None], None


def _rows(nodes: Tensor, heads: int) -> Tensor:
    """Return where the heads of these nodes (b, t) stand among all heads: (b, heads, t)."""
    return nodes[:, None] * heads + torch.arange(heads)[:, None]


def _taken(heads: Tensor, rows: Tensor) -> Tensor:
    """Return these rows of all heads of all nodes (n, heads, d), head by head without a gap: the
    products of attention would copy them into that order.
    """
    return F.embedding(rows, heads.flatten(0, 1))


AttentionInterface.register(NAME, _attention)
