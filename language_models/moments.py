"""Second moments of the MLP keys: C = E[k kᵀ] over the tokens of many texts (ROME, eq. 2)."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch

from language_models.architecture import parts
from language_models.errors import RequestError
from language_models.generation import encode
from language_models.modes import evaluating
from language_models.padding import pad_right
from language_models.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from torch import Tensor

    from language_models.checkpoint import LanguageModel

# How many texts are enough: on the demo model, against all 4,568 of its training, C is off by
# 1 to 4 % and the solves of an edit by 6 to 9 % (1,000 texts: 10 to 16 %; 64: 86 to 201 %).
TEXTS = 2_000
# The share of C's mean diagonal that is added before solving; the default of the editing methods.
RIDGE = 1e-4
BATCH_SIZE = 64
TOKENS_PER_PASS = 2**14
# Texts are sorted by length among this many batches, so that little padding is computed.
SORTED_BATCHES = 16
# After so many batches the sums are written, if there is a cache.
SAVE_EVERY = 64


@dataclass(frozen=True)
class Moment:
    """C as float64 (d_ff, d_ff), the number of keys it is the mean of, and its SHA-256."""

    matrix: Tensor
    count: int
    digest: str


@dataclass(frozen=True)
class MomentError:
    """How far a moment is from a better one, relative.

    frobenius: ‖C_n - C‖ / ‖C‖. solve: ‖C_n⁻¹k - C⁻¹k‖ / ‖C⁻¹k‖ as the mean over keys k.
    """

    frobenius: float
    solve: float


class _Reached(Exception):
    """The last layer wanted was read; the blocks above need not run."""


def moment_of(total: Tensor, count: int) -> Moment:
    """Return the moment of a sum of outer products (d_ff, d_ff) over `count` keys."""
    matrix = (total / count).cpu()
    if not matrix.isfinite().all():
        raise RequestError("The keys overflow. Load the model as bfloat16 or float32.")
    return Moment(matrix, count, moment_digest(matrix, count))


def moment_digest(matrix: Tensor, count: int) -> str:
    """Return the SHA-256 over the count and the bytes of C."""
    return hashlib.sha256(f"{count}".encode() + matrix.numpy().tobytes()).hexdigest()


def second_moment(
    lm: LanguageModel, texts: Iterable[str], layer: int, *, batch_size: int = BATCH_SIZE
) -> Moment:
    """Return C of the inputs of the MLP's second projection of `layer`, over all tokens.

    All `texts` are read; see `second_moments`, which has the settings.
    """
    return second_moments(lm, texts, [layer], batch_size=batch_size)[layer]


@torch.inference_mode()
def second_moments(
    lm: LanguageModel,
    texts: Iterable[str],
    layers: Sequence[int],
    *,
    batch_size: int = BATCH_SIZE,
    max_tokens: int | None = None,
    cache: Path | None = None,
    progress: Progress = silent,
) -> dict[int, Moment]:
    """Return C per layer from one pass over `texts`, of which only some are in memory at a time.

    max_tokens: each text is cut there, at the latest where the model's window ends. cache: a
    folder in which moments are kept and a pass that was stopped goes on, to the same bits; then
    `texts` are read twice. Raises RequestError without texts and for a layer that does not exist,
    UnsupportedArchitecture for a mixture of experts.
    """
    wanted = sorted(set(layers))
    for layer in wanted:
        parts(lm.model).mlp_out(layer)
    rows = Rows(lm, texts, max_tokens)
    with evaluating(lm):
        if cache is not None:
            from language_models.moment_store import through_store

            return through_store(lm, rows, wanted, batch_size, cache, progress)
        sums = Sums(lm, wanted)
        for done, batch in enumerate(rows.batches(batch_size)):
            sums.add(batch)
            progress("moments", done + 1, done + 1)
        return sums.moments()


def keys(lm: LanguageModel, ids: Tensor, mask: Tensor, layer: int) -> Tensor:
    """Return the inputs (b, t, d_ff) of the MLP's second projection of `layer`."""
    return keys_at(lm, ids, mask, [layer])[layer]


def keys_at(
    lm: LanguageModel, ids: Tensor, mask: Tensor, layers: Sequence[int]
) -> dict[int, Tensor]:
    """Return the keys (b, t, d_ff) of several layers from one pass, which ends at the last."""
    seen: dict[int, Tensor] = {}
    model = parts(lm.model)

    def look(layer: int) -> Any:
        def hook(_module: Any, inputs: tuple[Tensor, ...]) -> None:
            seen[layer] = inputs[0]
            if layer == max(layers):
                raise _Reached

        return model.mlp_out(layer).module.register_forward_pre_hook(hook)

    with hooked(*(lambda one=layer: look(one) for layer in layers)), suppress(_Reached):
        model.backbone(input_ids=ids, attention_mask=mask, use_cache=False)
    return seen


@torch.no_grad()
def moment_error(
    sample: Moment, reference: Moment, keys: Tensor | None = None, *, ridge: float = RIDGE
) -> MomentError:
    """Return how far `sample` is from `reference`, in itself and in what an edit solves with it.

    keys: (n, d_ff) at which the solves are compared; without any, 64 drawn with the reference as
    their second moment. Both moments get `ridge` of their mean diagonal added first.
    """
    C, C_n = (one.matrix.double() for one in (reference, sample))
    ridged, ridged_n = (
        one + ridge * one.diagonal().mean() * torch.eye(len(one), dtype=one.dtype)
        for one in (C, C_n)
    )
    if keys is None:
        drawn = torch.randn(len(C), 64, dtype=C.dtype, generator=torch.Generator().manual_seed(0))
        K = torch.linalg.cholesky(ridged) @ drawn
    else:
        K = keys.double().cpu().T
    right = torch.linalg.solve(ridged, K)
    off = torch.linalg.solve(ridged_n, K) - right
    return MomentError(
        frobenius=float((C_n - C).norm() / C.norm()),
        solve=float((off.norm(dim=0) / right.norm(dim=0)).mean()),
    )


def sample_texts(texts: Iterable[str], count: int = TEXTS, *, seed: int) -> list[str]:
    """Return up to `count` of many texts, each equally likely, keeping only those in memory."""
    generator = torch.Generator().manual_seed(seed)
    source = iter(texts)
    kept = list(islice(source, count))
    for number, text in enumerate(source, start=count):
        place = int(torch.randint(number + 1, (), generator=generator))
        if place < count:
            kept[place] = text
    return kept


class Rows:
    """The token rows of texts, cut to the model's window, in batches of like length."""

    def __init__(self, lm: LanguageModel, texts: Iterable[str], max_tokens: int | None) -> None:
        window = getattr(lm.model.config, "max_position_embeddings", None)
        limits = [limit for limit in (window, max_tokens) if limit is not None]
        self._lm, self.limit = lm, min(limits, default=None)
        self.texts = texts

    def __iter__(self) -> Iterator[list[int]]:
        return (encode(self._lm, text)[: self.limit] for text in self.texts)

    def batches(self, size: int) -> Iterator[list[list[int]]]:
        """Yield at most `size` rows and TOKENS_PER_PASS tokens at a time, the same ones always."""
        source = iter(self)
        while held := sorted(islice(source, size * SORTED_BATCHES), key=lambda r: (len(r), r)):
            batch: list[list[int]] = []
            for row in held:
                # The rows come by length, so the new one is the longest.
                if batch and (len(batch) == size or (len(batch) + 1) * len(row) > TOKENS_PER_PASS):
                    yield batch
                    batch = []
                batch.append(row)
            yield batch


class Sums:
    """Sums of k kᵀ per layer in float64, and how many keys are in each."""

    def __init__(self, lm: LanguageModel, layers: Sequence[int]) -> None:
        self._lm = lm
        self.totals: dict[int, Tensor] = {}
        self.count = 0
        for layer in layers:
            projection = parts(lm.model).mlp_out(layer)
            size = (projection.d_in, projection.d_in)
            self.totals[layer] = torch.zeros(
                size, dtype=torch.float64, device=projection.parameter.device
            )

    def add(self, batch: list[list[int]]) -> None:
        """Add the keys of all tokens of some rows."""
        ids, mask = pad_right(self._lm, batch)
        for layer, found in keys_at(self._lm, ids, mask, list(self.totals)).items():
            chosen = found[mask.bool().to(found.device)].double()
            self.totals[layer].addmm_(chosen.T, chosen)
        self.count += sum(len(row) for row in batch)

    def moments(self) -> dict[int, Moment]:
        """Return C per layer. Raises RequestError if nothing was added."""
        if not self.count:
            raise RequestError("Second moments need texts. Give some that the model writes well.")
        return {layer: moment_of(total, self.count) for layer, total in self.totals.items()}


@contextmanager
def hooked(*registrations: Callable[[], Any]) -> Iterator[None]:
    """Hold module hooks for a block; all are removed at its end, also after an error."""
    handles: list[Any] = []
    try:
        handles.extend(register() for register in registrations)
        yield
    finally:
        for handle in handles:
            handle.remove()
