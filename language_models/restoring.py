"""Blur a subject, put states back, and read how likely the answer is: many runs in one pass.

A run equals the blurred one below the first state that is put back and at all tokens before it.
So only the blocks above and the tokens from there on are computed, for many statements and all
noise samples together. The numbers are those of whole forward passes, one by one.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer

from language_models.architecture import Parts, parts
from language_models.moments import hooked
from language_models.padding import pad_right

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from language_models.checkpoint import LanguageModel
    from language_models.positions import Located

Kind = Literal["block", "mlp", "attention"]
_MODULES: tuple[Kind, ...] = ("mlp", "attention")
# the embedding, counted as the layer before the first
EMBEDDING = -1
# Runs computed together, and numbers of the output layer held at once.
ROWS_PER_PASS = 512
LOGITS_PER_PASS = 2**25


@dataclass(frozen=True)
class Statement:
    """A located prompt with the ids of its answer; noise (samples, s, d) over its subject."""

    where: Located
    answer: list[int]
    noise: Tensor

    @property
    def ids(self) -> list[int]:
        """The tokens that are read: the last one of the answer is only predicted."""
        return self.where.ids + self.answer[:-1]


@dataclass(frozen=True)
class Restored:
    """What is put back in one run: outputs of one kind, at some layers and token positions.

    A block output goes with one layer only; at its positions the outputs of the `severed` kind
    then stay as in the blurred run at all layers (ROME, appendix B: severed MLP or attention).
    """

    statement: int
    positions: tuple[int, ...]
    kind: Kind = "block"
    layers: tuple[int, ...] = ()
    severed: Kind | None = None

    @property
    def start(self) -> int:
        """The first block that has to run."""
        return self.layers[0] + (self.kind == "block")

    @property
    def first(self) -> int:
        """The first token that differs from the blurred run."""
        return min(self.positions)


class _Before(DynamicLayer):  # type: ignore[misc]
    """Keys and values of the tokens before, (b, heads, t, width); what comes is not stored.

    rows: which of them are meant, None for all.
    """

    def __init__(self, keys: Tensor, values: Tensor, rows: Tensor | None = None) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values, self.rows = keys, values, rows

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        before = (self.keys, self.values)
        if self.rows is not None:
            rows = self.rows.to(keys.device)
            before = (self.keys[rows], self.values[rows])
        return torch.cat([before[0], keys], dim=-2), torch.cat([before[1], values], dim=-2)


# The arguments of a block besides the states.
_Call = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass
class _Recording:
    """One pass: input of each block and output of the last; outputs of MLPs and attentions.

    calls: the other arguments of each block. cache: keys and values of its attention.
    """

    states: list[Tensor] = field(default_factory=list)
    outputs: dict[tuple[Kind, int], Tensor] = field(default_factory=dict)
    calls: list[_Call] = field(default_factory=list)
    cache: Any = field(default_factory=DynamicCache)

    def before(self, first: int, rows: Tensor | None = None) -> Cache:
        """Return keys and values of the tokens before `first`."""
        return Cache(
            layers=[
                _Before(layer.keys[:, :, :first], layer.values[:, :, :first], rows)
                for layer in self.cache.layers
            ]
        )


@dataclass(frozen=True)
class _Part:
    """Runs computed together, from one block and one token on.

    owners: the statement of each row (runs x samples); blurred: its row in the blurred pass.
    mask: which tokens are put back, (n, t), from `first` on.
    """

    runs: list[Restored]
    first: int
    owners: Tensor
    blurred: Tensor
    mask: Tensor

    def chosen(self, which: list[bool], samples: int) -> Tensor:
        """Return the mask with all but some of the runs left out."""
        return self.mask & torch.tensor(which).repeat_interleave(samples)[:, None]


@dataclass(frozen=True)
class _Swap:
    """Outputs of one module to put in place: values (n, t, d) where mask (n, t)."""

    layer: int
    kind: Kind
    mask: Tensor
    values: Tensor


class Runs:
    """The undisturbed and the blurred pass of some statements, and what can be put back.

    high, low: per statement the geometric mean probability of the answer's tokens, undisturbed
    and blurred; low and all others are means over the noise samples.
    """

    def __init__(self, lm: LanguageModel, statements: Sequence[Statement]) -> None:
        self._lm, self._statements = lm, statements
        self._model = parts(lm.model)
        self._samples = len(statements[0].noise)
        self._known: dict[int, list[_Call]] = {}
        self._ids, self._mask = pad_right(lm, [one.ids for one in statements])
        self._clean = _record(lm, self._ids, self._mask)
        repeated = [one.repeat_interleave(self._samples, dim=0) for one in (self._ids, self._mask)]
        with self._blurring():
            self._blurred = _record(lm, repeated[0], repeated[1])
        every = torch.arange(len(statements))
        self.high: list[float] = self._chances(self._clean.states[-1], every, 0).tolist()
        owners = every.repeat_interleave(self._samples)
        self.low = self._means(self._blurred.states[-1], owners, 0)

    @property
    def layers(self) -> int:
        """The number of blocks."""
        return len(self._model.blocks)

    def chances(self, wanted: Sequence[Restored]) -> list[float]:
        """Return the answer's probability per run, in the order given."""
        found = [0.0] * len(wanted)
        for start, first in sorted({(one.start, one.first) for one in wanted}):
            numbers = [
                n for n, one in enumerate(wanted) if (one.start, one.first) == (start, first)
            ]
            for chosen in self._split(numbers):
                part = self._part([wanted[n] for n in chosen], first)
                for number, value in zip(chosen, self._from(start, part), strict=True):
                    found[number] = value
        return found

    def up_to(self, wanted: Sequence[Restored]) -> list[list[float]]:
        """Return per run one probability a layer, with its kind restored at all layers up to it.

        `layers` of a run is not looked at. The part in which all is restored runs only once.
        """
        found: list[list[float]] = [[] for _ in wanted]
        for kind, first in sorted({(one.kind, one.first) for one in wanted}):
            numbers = [n for n, one in enumerate(wanted) if (one.kind, one.first) == (kind, first)]
            for chosen in self._split(numbers):
                part = self._part([wanted[n] for n in chosen], first)
                hidden = self._blurred.states[0][:, first:][part.blurred]
                for layer in range(self.layers):
                    swap = self._swap(self._clean, kind, layer, part.owners, part.mask, first)
                    hidden = self._through(hidden, part, layer, layer + 1, [swap])
                    last = self._through(hidden, part, layer + 1, self.layers, [])
                    for n, value in zip(chosen, self._means(last, part.owners, first), strict=True):
                        found[n].append(value)
        return found

    def _from(self, start: int, part: _Part) -> list[float]:
        """Return the probabilities of runs that all start at one block."""
        hidden = self._blurred.states[start][:, part.first :][part.blurred]
        clean = self._clean.states[start][:, part.first :][part.owners]
        blocks = part.chosen([one.kind == "block" for one in part.runs], self._samples)
        hidden = torch.where(blocks[..., None].to(hidden.device), clean, hidden)
        last = self._through(hidden, part, start, self.layers, self._swaps(start, part))
        return self._means(last, part.owners, part.first)

    def _swaps(self, start: int, part: _Part) -> list[_Swap]:
        """Return what is put in place of modules' outputs: clean ones, or blurred if severed."""
        found = []
        for layer in range(start, self.layers):
            for kind in _MODULES:
                restored = [one.kind == kind and layer in one.layers for one in part.runs]
                severed = [one.severed == kind for one in part.runs]
                for source, rows, which in (
                    (self._clean, part.owners, restored),
                    (self._blurred, part.blurred, severed),
                ):
                    if any(which):
                        mask = part.chosen(which, self._samples)
                        found.append(self._swap(source, kind, layer, rows, mask, part.first))
        return found

    def _swap(
        self, source: _Recording, kind: Kind, layer: int, rows: Tensor, mask: Tensor, first: int
    ) -> _Swap:
        return _Swap(layer, kind, mask, source.outputs[kind, layer][:, first:][rows])

    def _through(
        self, hidden: Tensor, part: _Part, start: int, stop: int, swaps: list[_Swap]
    ) -> Tensor:
        """Run blocks on states (n, t, d), each row with the mask and positions of its statement."""
        modules = {"mlp": self._model.mlp, "attention": self._model.attention}
        hooks = [_on_output(modules[one.kind](one.layer), _putter(one)) for one in swaps]
        calls = self._calls(part.first)
        pick = _Picker(
            part.owners, len(self._statements), self._blurred.before(part.first, part.blurred)
        )
        with hooked(*hooks):
            for layer in range(start, stop):
                args, kwargs = pick(calls[layer])
                hidden = _tensor(self._model.blocks[layer](hidden, *args, **kwargs))
        return hidden

    def _calls(self, first: int) -> list[_Call]:
        """Return what the model gives its blocks when the tokens before `first` are known."""
        if first not in self._known:
            cache = self._clean.before(first)
            self._known[first] = _record(self._lm, self._ids, self._mask, first, cache).calls
        return self._known[first]

    def _chances(self, last: Tensor, owners: Tensor, first: int) -> Tensor:
        """Return the geometric mean probability of the answers, (n) in float64.

        last: the last block's output (n, t, d) from token `first` on, each row of its owner.
        """
        cells = [
            (row, len(one.where.ids) - 1 + step - first, token)
            for row, owner in enumerate(owners.tolist())
            for one in (self._statements[owner],)
            for step, token in enumerate(one.answer)
        ]
        table = torch.tensor(cells, device=last.device)
        logs = torch.zeros(len(cells), dtype=torch.float64, device=last.device)
        size = max(1, LOGITS_PER_PASS // self._model.head.weight.shape[0])
        for at in range(0, len(cells), size):
            row, column, token = table[at : at + size].T
            logits = self._model.logits(self._model.final_norm(last[row, column])).float()
            chosen = logits.gather(1, token.to(logits.device)[:, None])[:, 0]
            logs[at : at + size] = (chosen - logits.logsumexp(dim=-1)).to(logs)
        sums = torch.zeros(len(owners), dtype=torch.float64, device=last.device)
        counts = torch.bincount(table[:, 0], minlength=len(owners))
        return (sums.index_add_(0, table[:, 0], logs) / counts).exp()

    def _means(self, last: Tensor, owners: Tensor, first: int) -> list[float]:
        chances = self._chances(last, owners, first)
        means: list[float] = chances.reshape(-1, self._samples).mean(dim=1).tolist()
        return means

    def _part(self, runs: list[Restored], first: int) -> _Part:
        statements = torch.tensor([one.statement for one in runs])
        blurred = statements[:, None] * self._samples + torch.arange(self._samples)
        mask = torch.zeros(len(runs), self._ids.shape[1], dtype=torch.bool)
        for number, one in enumerate(runs):
            mask[number, list(one.positions)] = True
        repeated = (one.repeat_interleave(self._samples, dim=0) for one in (statements, mask))
        owners, mask = repeated
        return _Part(runs, first, owners, blurred.flatten(), mask[:, first:])

    def _split(self, numbers: list[int]) -> Iterator[list[int]]:
        size = max(1, ROWS_PER_PASS // self._samples)
        for at in range(0, len(numbers), size):
            yield numbers[at : at + size]

    @contextmanager
    def _blurring(self) -> Iterator[None]:
        """Add each statement's noise to its subject's embeddings, for a block."""

        def blur(_module: Any, _inputs: Any, output: Tensor) -> Tensor:
            blurred = output.clone()
            for number, one in enumerate(self._statements):
                rows = slice(number * self._samples, (number + 1) * self._samples)
                blurred[rows, one.where.start : one.where.end] += one.noise.to(output)
            return blurred

        with hooked(_on_output(self._model.embed, blur)):
            yield


def _record(
    lm: LanguageModel, ids: Tensor, mask: Tensor, first: int = 0, before: Cache | None = None
) -> _Recording:
    """Run the model on the tokens from `first` on, after those in the cache `before`."""
    model = parts(lm.model)
    kept = _Recording()

    def keep_call(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        kept.states.append(args[0])
        kept.calls.append((args[1:], kwargs))

    def keep_output(key: tuple[Kind, int]) -> Any:
        return lambda _module, _args, output: kept.outputs.__setitem__(key, _tensor(output))

    def keep_last(_module: Any, _args: Any, output: Any) -> None:
        kept.states.append(_tensor(output))

    with hooked(
        *(lambda one=block: one.register_forward_pre_hook(keep_call, with_kwargs=True)
          for block in model.blocks),
        *_outputs(model, keep_output),
        _on_output(model.blocks[-1], keep_last),
    ):  # fmt: skip
        model.backbone(
            input_ids=ids[:, first:],
            attention_mask=mask,
            position_ids=torch.arange(first, ids.shape[1], device=ids.device)[None],
            past_key_values=kept.cache if before is None else before,
            use_cache=True,
        )
    return kept


def _outputs(model: Parts, keep: Any) -> Iterator[Any]:
    for layer in range(len(model.blocks)):
        yield _on_output(model.mlp(layer), keep(("mlp", layer)))
        yield _on_output(model.attention(layer), keep(("attention", layer)))


def _on_output(module: torch.nn.Module, function: Any) -> Any:
    return lambda: module.register_forward_hook(function)


def _putter(swap: _Swap) -> Any:
    def put(_module: Any, _args: Any, output: Any) -> Any:
        state = _tensor(output)
        mask = swap.mask[..., None].to(state.device)
        changed = torch.where(mask, swap.values.to(state.device), state)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    return put


def _tensor(output: Any) -> Tensor:
    found: Tensor = output[0] if isinstance(output, tuple) else output
    return found


class _Picker:
    """Takes the owners' rows of all that has one entry a statement in a block's arguments."""

    def __init__(self, owners: Tensor, count: int, cache: Cache) -> None:
        self._owners, self._count, self._cache = owners, count, cache
        self._done: dict[int, Any] = {}  # blocks mostly share their mask and positions

    def __call__(self, value: Any) -> Any:
        if isinstance(value, (tuple, list)):
            return tuple(self(item) for item in value)
        if isinstance(value, dict):
            return {name: self(item) for name, item in value.items()}
        if isinstance(value, Cache):
            return self._cache
        if not isinstance(value, torch.Tensor) or value.dim() < 2 or len(value) != self._count:
            return value
        if id(value) not in self._done:
            self._done[id(value)] = value[self._owners.to(value.device)]
        return self._done[id(value)]
