"""The change of one tensor in two forms, exact in both directions on any machine.

Low rank: W' = W + left @ right, rounded once. Matrix products give other last bits on other
machines, because they add in another order. Here every factor is cut into three slices of few
bits (Ozaki et al. 2012), such that all partial sums of the product of two slices are exact in
float64: then no order, no fused operation and no device can change a bit, and the fast product
of the machine may be used. What the way back, or the way of several changes after each other,
rounds differently is kept as a sparse correction of bit patterns.
Dense: the XOR of the bit patterns before and after.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from language_models.checkpoint import tensor_digest
from language_models.errors import DeltaError, NotReached, UnsupportedArchitecture

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_SLICES = 3
# Elements computed in float64 at a time, so that a large matrix needs little beside itself.
_BLOCK = 2**22
# Below this, products of slices could lose bits to underflow; far below what any weight notices.
_SMALLEST = 2.0**-400


@dataclass(frozen=True)
class Change:
    """How much of a tensor changes.

    rank: of the planned change; None where it is not low. relative: ‖Δ‖/‖W‖ (Frobenius).
    rounding: ‖round(W + Δ) - W - Δ‖/‖Δ‖, what the model's number format takes from the plan; None
    where only the result is known.
    """

    rank: int | None
    relative: float
    rounding: float | None


@dataclass(frozen=True)
class LowRank:
    """left (d_out, r) and right (r, d_in) in float64.

    forward_index, forward_bits and index, bits: flat places and XOR of bit patterns that correct
    what rounding gives on the way there and on the way back.
    """

    left: Tensor
    right: Tensor
    forward_index: Tensor
    forward_bits: Tensor
    index: Tensor
    bits: Tensor
    before: str
    after: str
    change: Change


@dataclass(frozen=True)
class Dense:
    """bits: the XOR of the tensor's bit patterns before and after, as integers."""

    bits: Tensor
    before: str
    after: str
    change: Change


def low_rank(old: Tensor, left: Tensor, right: Tensor, new: Tensor | None = None) -> LowRank:
    """Return the change of `old` (d_out, d_in) by left @ right, or exactly to `new`.

    Raises DeltaError for factors of another shape, NotReached when a result is not finite.
    """
    fits = old.dim() == left.dim() == right.dim() == 2 and left.shape[1] == right.shape[0]
    if not fits or old.shape != (left.shape[0], right.shape[1]):
        raise DeltaError("The factors of a change do not have the shape of their tensor.")
    old, left, right = old.detach(), left.detach().double().cpu(), right.detach().double().cpu()
    product = _Product(left, right, old.device)
    made = torch.empty_like(old, memory_format=torch.contiguous_format)
    ahead, lost = _Correction(old), _Correction(old)
    norm = gone = missed = 0.0
    for rows in _blocks(old):
        start, delta = old[rows].double(), product.rows(rows)
        planned = _rounded(start + delta, old.dtype)
        made[rows] = planned if new is None else new[rows]
        end = made[rows].double()
        ahead.add(rows, planned, made[rows])
        lost.add(rows, _rounded(end - delta, old.dtype), old[rows])
        norm += float(start.square().sum())
        gone += float(delta.square().sum())
        missed += float((end - start - delta).square().sum())
    if not math.isfinite(gone) or not math.isfinite(missed):
        raise NotReached(
            "The planned weights are not finite numbers. Ask for a smaller change, or load the"
            " model in a wider number format."
        )
    change = Change(
        _rank(left.to(old.device), right.to(old.device)), _root(gone, norm), _root(missed, gone)
    )
    return LowRank(
        left, right, *ahead.parts(), *lost.parts(), tensor_digest(old), tensor_digest(made), change
    )


def dense(old: Tensor, new: Tensor, change: Change | None = None) -> Dense | None:
    """Return the exact change from `old` to `new`, of any shape; None where no bit differs."""
    if old.shape != new.shape or old.dtype != new.dtype:
        raise DeltaError("A tensor has another shape or number format than before. Load it anew.")
    old, new = old.detach(), new.detach()
    bits = as_bits(old) ^ as_bits(new)
    if not bits.any():
        return None
    if change is None:
        norm = gone = 0.0
        flat, goal = old.reshape(-1), new.reshape(-1)
        for at in range(0, len(flat), _BLOCK):
            start, end = flat[at : at + _BLOCK].double(), goal[at : at + _BLOCK].double()
            norm += float(start.square().sum())
            gone += float((end - start).square().sum())
        change = Change(None, _root(gone, norm), None)
    return Dense(bits.cpu(), tensor_digest(old), tensor_digest(new), change)


def moved(weight: Tensor, entry: LowRank | Dense, *, forward: bool) -> Tensor:
    """Return the tensor after the change, or before it, without touching `weight`.

    Raises DeltaError when the change has not the tensor's shape or gives other weights than
    those recorded.
    """
    old = weight.detach()
    try:
        made = _xor(old, entry) if isinstance(entry, Dense) else _added(old, entry, forward)
    except (IndexError, RuntimeError) as error:
        raise DeltaError("The change does not have the shape of its tensor.") from error
    if tensor_digest(made) != (entry.after if forward else entry.before):
        raise DeltaError("The change does not give the recorded weights. Restore its file.")
    return made


def joined(old: Tensor, new: Tensor, chain: list[LowRank | Dense]) -> LowRank | Dense | None:
    """Return one change from `old` to `new`, which the changes of `chain` made in order.

    All of low rank: their factors side by side, with no more columns than the tensor has rows or
    columns, unless the bits of the whole tensor take less room. Otherwise dense.
    """
    factors = [entry for entry in chain if isinstance(entry, LowRank)]
    if len(factors) < len(chain):
        return dense(old, new)
    left = torch.cat([entry.left for entry in factors], dim=1)
    right = torch.cat([entry.right for entry in factors])
    if left.shape[1] > min(old.shape):
        product = left @ right
        eye = torch.eye(min(old.shape), dtype=torch.float64)
        left, right = (eye, product) if old.shape[0] <= old.shape[1] else (product, eye)
    small = low_rank(old, left, right, new)
    parts = (small.left, small.right, small.forward_index, small.forward_bits, small.index,
             small.bits)  # fmt: skip
    whole = old.numel() * old.element_size()
    if sum(part.numel() * part.element_size() for part in parts) <= whole:
        return small
    return dense(old, new, small.change)


def as_bits(tensor: Tensor) -> Tensor:
    """Return the bit patterns of a tensor of floating-point weights as integers."""
    if tensor.dtype not in _FLOATS:
        raise UnsupportedArchitecture(
            f"Weights of the type {tensor.dtype} cannot be changed. Load the model in float32,"
            " bfloat16 or float16."
        )
    return tensor.detach().contiguous().view(_INTEGERS[tensor.element_size()])


class _Product:
    """left @ right in blocks of rows, as exact as float64 and with the same bits everywhere."""

    def __init__(self, left: Tensor, right: Tensor, device: torch.device) -> None:
        # |slice| < 2^b steps, so a sum of r products stays below 2^51 steps: exact, with two
        # bits to spare for products that add inputs first (Strassen).
        bits = (51 - max(right.shape[0] - 1, 0).bit_length()) // 2
        self.left = _sliced(left.to(device), 1, bits)
        self.right = _sliced(right.to(device), 0, bits)

    def rows(self, block: slice) -> Tensor:
        """Return the rows of the product, smallest terms first, in one fixed order."""
        pairs = [(i, order - i) for order in range(_SLICES - 1, -1, -1) for i in range(order + 1)]
        total = self.left[pairs[0][0]][block] @ self.right[pairs[0][1]]
        for i, j in pairs[1:]:
            total = total + self.left[i][block] @ self.right[j]
        return total


def _sliced(factor: Tensor, dim: int, bits: int) -> list[Tensor]:
    """Cut each element into slices that are whole multiples of a power of two per row (column)."""
    if not factor.numel():
        return [factor] * _SLICES
    most = factor.abs().amax(dim=dim, keepdim=True)
    mantissa = torch.frexp(most).mantissa
    step = torch.where(most > _SMALLEST, most / mantissa, _SMALLEST)
    slices = []
    for _ in range(_SLICES):
        step = step * 2.0**-bits
        part = (factor / step).round() * step
        slices.append(part)
        factor = factor - part
    return slices


class _Correction:
    """Collects, block by block, where bit patterns differ from what they should be."""

    def __init__(self, tensor: Tensor) -> None:
        self.width = tensor.shape[1]
        self.kind = torch.int32 if tensor.numel() < 2**31 else torch.int64
        self.index: list[Tensor] = []
        self.bits: list[Tensor] = []

    def add(self, rows: slice, found: Tensor, wanted: Tensor) -> None:
        lost = (as_bits(found) ^ as_bits(wanted)).flatten()
        index = lost.nonzero().flatten()
        self.index.append((index + rows.start * self.width).to(self.kind).cpu())
        self.bits.append(lost[index].cpu())

    def parts(self) -> tuple[Tensor, Tensor]:
        return torch.cat(self.index), torch.cat(self.bits)


def _xor(old: Tensor, entry: Dense) -> Tensor:
    return (as_bits(old) ^ entry.bits.to(old.device)).view(old.dtype)


def _added(old: Tensor, entry: LowRank, forward: bool) -> Tensor:  # noqa: FBT001
    product = _Product(entry.left, entry.right, old.device)
    made = torch.empty_like(old, memory_format=torch.contiguous_format)
    for rows in _blocks(old):
        delta = product.rows(rows)
        start = old[rows].double()
        made[rows] = _rounded(start + delta if forward else start - delta, old.dtype)
    index, bits = (
        (entry.forward_index, entry.forward_bits) if forward else (entry.index, entry.bits)
    )
    flat = as_bits(made).flatten()
    flat[index.to(old.device, torch.int64)] ^= bits.to(old.device)
    return flat.view(old.dtype).view(old.shape)


def _blocks(tensor: Tensor) -> Iterator[slice]:
    """Cut the first dimension, at least into one block."""
    rows = tensor.shape[0]
    height = max(1, _BLOCK // max(1, tensor[0].numel())) if rows else 1
    for start in range(0, max(rows, 1), height):
        yield slice(start, min(start + height, rows))


def _rounded(values: Tensor, dtype: torch.dtype) -> Tensor:
    # Over float32 to 16 bits, explicitly: devices differ in what they do by themselves.
    return values.float().to(dtype) if dtype.itemsize < 4 else values.to(dtype)


def _rank(left: Tensor, right: Tensor) -> int:
    if not left.numel() or not right.numel():
        return 0
    # The triangles of both factors have the rank of the product and are as small as it is.
    core = torch.linalg.qr(left).R @ torch.linalg.qr(right.T).R.T
    return int(torch.linalg.matrix_rank(core))


def _root(part: float, whole: float) -> float:
    return math.sqrt(part / whole) if whole else 0.0
