"""Rows of tokens as one grid: padded at the end or at the beginning, with a mask."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from language_models.checkpoint import LanguageModel


def pad_right(lm: LanguageModel, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return (ids, mask), both (b, t) on the model's device, padded at the end."""
    width = max(map(len, rows))
    padding = [[0] * (width - len(row)) for row in rows]
    ids = [[*row, *rest] for row, rest in zip(rows, padding, strict=True)]
    mask = [[1] * len(row) + rest for row, rest in zip(rows, padding, strict=True)]
    return torch.tensor(ids, device=lm.device), torch.tensor(mask, device=lm.device)


def pad_left(lm: LanguageModel, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return (ids, mask), both (b, t) on the model's device, padded at the beginning."""
    ids, mask = pad_right(lm, [row[::-1] for row in rows])
    return ids.flip(1), mask.flip(1)
