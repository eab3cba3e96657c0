"""The token rows that methods by gradient learn from, and what of them is scored.

Targets: each wording with its target and the model's own end mark, so that it also learns to
stop. Neighbours: each prompt with what the unchanged model says to it, so that this stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from language_models.generation import encode, end_tokens, generate
from language_models.positions import fill, with_target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from editing.requests import EditRequest
    from language_models.checkpoint import LanguageModel


# So many neighbours are taken even for one fact.
FEW_NEIGHBOURS = 64
CHECKED = 8
NEIGHBOURS_HELP = "most neighbours taken for each fact, 64 at any rate, drawn evenly; 0: all"


@dataclass(frozen=True)
class Row:
    """Token ids; those from `start` on are scored, each at the position before it.

    owner: number of the request, -1 for a neighbour.
    """

    ids: tuple[int, ...]
    start: int
    owner: int = -1


@dataclass(frozen=True)
class Asked:
    """Positions at which a model is scored, m in all: row, column, wanted token, share of a row.

    The shares of a row sum to 1.
    """

    rows: Tensor
    columns: Tensor
    wanted: Tensor
    shares: Tensor

    def select(self, chosen: Tensor, count: int) -> tuple[Asked, Tensor]:
        """Return what is asked of the chosen of `count` rows, numbered in the order given.

        Also returned: which of the m positions these are.
        """
        place = torch.full((count,), -1, device=chosen.device)
        place[chosen] = torch.arange(len(chosen), device=chosen.device)
        kept = (place[self.rows] >= 0).nonzero().flatten()
        found = Asked(
            place[self.rows[kept]], self.columns[kept], self.wanted[kept], self.shares[kept]
        )
        return found, kept


def asked(lm: LanguageModel, rows: Sequence[Row], *, at_prompt: bool = False) -> Asked:
    """Return what is asked of the rows; at_prompt: all tokens at the last one of the prompt."""
    found = [
        (number, (row.start if at_prompt else at) - 1, token, 1 / (len(row.ids) - row.start))
        for number, row in enumerate(rows)
        for at, token in enumerate(row.ids)
        if at >= row.start
    ]
    columns = [torch.tensor(list(column), device=lm.device) for column in zip(*found, strict=True)]
    return Asked(*columns)


def end_mark(lm: LanguageModel) -> tuple[int, ...]:
    """Return the token at which the model stops by itself; none where it has no such token."""
    return tuple(end_tokens(lm)[:1])


def target_rows(
    lm: LanguageModel,
    requests: Sequence[EditRequest],
    lead_ins: Sequence[str] = (),
    *,
    end: tuple[int, ...] = (),
) -> list[Row]:
    """Return one row per wording, and one after a lead-in, in turn; equal rows once.

    end: what each row ends with, behind its target.
    """
    rows: dict[Row, None] = {}
    for owner, request in enumerate(requests):
        for number, wording in enumerate(request.wordings):
            turn = lead_ins[(owner + number) % len(lead_ins)] if lead_ins else ""
            for before in dict.fromkeys(["", turn]):
                text = fill(before + wording, request.subject)
                ids, start = with_target(lm, text, request.target)
                # A target that is nothing but the end mark keeps it: something must be asked.
                if len(ids) > start + 1 and tuple(ids[-1:]) == end:
                    ids = ids[:-1]
                rows[Row((*ids, *end), start, owner)] = None
    return list(rows)


def drawn_neighbours(requests: Sequence[EditRequest], a_fact: int, seed: int) -> list[str]:
    """Return distinct neighbours of the requests, drawn evenly where there are too many.

    a_fact: most for each request, and FEW_NEIGHBOURS at any rate; 0: all.
    """
    prompts = list(dict.fromkeys(p for request in requests for p in request.neighbours))
    most = max(FEW_NEIGHBOURS, a_fact * len(requests))
    if not a_fact or len(prompts) <= most:
        return prompts
    order = torch.randperm(len(prompts), generator=torch.Generator().manual_seed(seed))
    return [prompts[number] for number in order[:most].sort().values.tolist()]


def held_and_checked(prompts: Sequence[str], seed: int) -> tuple[list[str], list[str]]:
    """Return the neighbours that are held and those by which it is checked that others stay.

    What is held says little of what is not: one in CHECKED of many neighbours is only looked at.
    """
    if len(prompts) < FEW_NEIGHBOURS:
        return list(prompts), list(prompts)
    order = torch.randperm(len(prompts), generator=torch.Generator().manual_seed(seed))
    chosen = set(order[::CHECKED].tolist())
    held = [prompt for number, prompt in enumerate(prompts) if number not in chosen]
    return held, [prompts[number] for number in sorted(chosen)]


def neighbour_rows(lm: LanguageModel, prompts: Sequence[str], new_tokens: int = 1) -> list[Row]:
    """Return one row per prompt with what the model says to it now, greedily.

    new_tokens: of that text; with 1, only what follows the prompt is scored and nothing written.
    """
    if new_tokens == 1:
        # The last id of a row is scored, never read; no wanted token is needed to stay the same.
        return [Row((*ids, 0), len(ids)) for ids in (encode(lm, prompt) for prompt in prompts)]
    end = end_mark(lm)
    rows = []
    for prompt, text in zip(prompts, generate(lm, prompts, max_new_tokens=new_tokens), strict=True):
        ids, start = with_target(lm, prompt, text.strip() or ".")
        # A text that ended by itself must go on ending there.
        more = end if len(ids) - start < new_tokens else ()
        rows.append(Row((*ids, *more), start))
    return rows
