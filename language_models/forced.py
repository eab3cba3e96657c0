"""Forced tokens: what a model would write at each place of a text that it is given.

Nothing is written; one forward answers for all places. Greedy writing and this agree, since each
token that is written is the likeliest one after those before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from language_models.architecture import parts
from language_models.attention import exchangeable
from language_models.errors import NoNumbers
from language_models.modes import evaluating
from language_models.shared_prefixes import Memory, remembered, states_of, tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from language_models.checkpoint import LanguageModel

NOT_FINITE = (
    "The model computes numbers that are not finite (NaN or infinity), so nothing that it says"
    " counts. Check its weights, or load it with dtype float32."
)
# Tokens of a forward, counted before beginnings are shared.
MOST_TOKENS = 2**13
# Places whose logits are held at a time: with 256,000 tokens to choose from, 1 GiB.
MOST_PLACES = 2**10


@dataclass(frozen=True)
class Asked:
    """Rows of one forward by number; the likeliest tokens of each; what attention keeps of them,
    where that was wanted and can be had.
    """

    numbers: list[int]
    tokens: list[list[int]]
    memory: Memory | None


def likeliest(
    lm: LanguageModel, rows: Sequence[tuple[list[int], int]]
) -> Iterator[tuple[int, list[int]]]:
    """Yield, for each row (ids, start) in any order, its number and the likeliest token at each
    place from start on, and after the last. start is at least 1.

    Raises NoNumbers when the model computes NaN or infinity.
    """
    for asked in ask(lm, rows):
        yield from zip(asked.numbers, asked.tokens, strict=True)


@torch.inference_mode()
def ask(
    lm: LanguageModel,
    rows: Sequence[tuple[list[int], int]],
    *,
    most_tokens: int = MOST_TOKENS,
    remember: bool = False,
) -> Iterator[Asked]:
    """Yield what `likeliest` does, forward by forward.

    most_tokens: of a forward, counted as MOST_TOKENS is. remember: with the memory.
    """
    # Texts that begin alike come together: each beginning is computed once.
    order = sorted(range(len(rows)), key=lambda number: rows[number][0])
    for batch in _batches(order, [len(ids) for ids, _ in rows], most_tokens):
        yield _asked(lm, batch, [rows[number] for number in batch], remember=remember)


def _batches(order: Sequence[int], lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    batch: list[int] = []
    tokens = 0
    for number in order:
        if batch and tokens + lengths[number] > most:
            yield batch
            batch, tokens = [], 0
        batch.append(number)
        tokens += lengths[number]
    if batch:
        yield batch


def _asked(
    lm: LanguageModel, numbers: list[int], rows: Sequence[tuple[list[int], int]], *, remember: bool
) -> Asked:
    texts, memory = [ids for ids, _ in rows], None
    with evaluating(lm):
        if remember and exchangeable(lm):
            states, memory = remembered(lm, tree(texts))
            where = memory.paths
        else:
            states, where = states_of(lm, texts)
    places = [
        path[at - 1]
        for path, (ids, start) in zip(where, rows, strict=True)
        for at in range(start, len(ids) + 1)
    ]
    tokens: list[int] = []
    for part in torch.split(states[torch.tensor(places, device=states.device)], MOST_PLACES):
        logits = parts(lm.model).logits(part)
        chosen = logits.argmax(dim=-1)
        # NaN counts as the greatest, and after it infinity: the chosen one tells of either.
        if not logits.gather(1, chosen[:, None]).isfinite().all():
            raise NoNumbers(NOT_FINITE)
        tokens += chosen.tolist()
    found = iter(tokens)
    told = [[next(found) for _ in range(start, len(ids) + 1)] for ids, start in rows]
    return Asked(numbers, told, memory)
