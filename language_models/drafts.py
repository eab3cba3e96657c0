"""Answers that are checked instead of written: prompts that end alike are often answered alike.

Probes put one question behind many lead-ins. The answer to the first of them is a draft for the
others, and one forward tells how far they would write the same (speculative decoding, Leviathan et
al. 2023, arXiv:2211.17192, with another prompt's answer in place of a draft model). From there on
they are written, so the answers are those of writing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from language_models.forced import likeliest

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from language_models.checkpoint import LanguageModel

# The new tokens of a row, and whether the model came to its own end.
Answer = tuple[list[int], bool]

# Of the shorter of two prompts: from here on they may be the same question.
ALIKE = 0.5
# Rows checked before the first look at how many tokens of drafts hold. To check one costs about
# half of writing it.
TRIAL = 64
FEWEST_HELD = 0.5


def drafted_by(rows: Sequence[Sequence[int]]) -> dict[int, int]:
    """Return, for the rows that end as one before them does, the number of that one.

    The one before has no draft itself.
    """
    backwards = [tuple(reversed(row)) for row in rows]
    found: dict[int, int] = {}
    first: int | None = None
    for number in sorted(range(len(rows)), key=backwards.__getitem__):
        if first is not None and _alike(backwards[first], backwards[number]):
            found[number] = first
        else:
            first = number
    return found


def _alike(one: Sequence[int], other: Sequence[int]) -> bool:
    shorter = min(len(one), len(other))
    same = next((n for n in range(shorter) if one[n] != other[n]), shorter)
    return same >= ALIKE * shorter


def check(
    lm: LanguageModel,
    rows: Sequence[Sequence[int]],
    drafts: Mapping[int, Answer],
    steps: int,
    stops: Collection[int],
) -> tuple[dict[int, Answer], dict[int, list[int]]]:
    """Return what greedy writing of `steps` tokens is known to give, by row number: whole answers,
    and beginnings of answers.

    drafts: row number -> answer. stops: tokens that end a text. Where little of the first drafts
    holds, the others are not checked.
    """
    numbers = list(drafts)
    # Some of all: neighbours ask about one person.
    trial = numbers[:: max(1, len(numbers) // TRIAL)]
    sure = _sure(lm, rows, {number: drafts[number] for number in trial})
    held = sum(len(tokens) - 1 for tokens in sure.values())
    if held >= FEWEST_HELD * sum(len(drafts[number][0]) for number in trial):
        rest = set(numbers) - set(trial)
        sure |= _sure(lm, rows, {number: drafts[number] for number in rest})
    whole: dict[int, Answer] = {}
    begun: dict[int, list[int]] = {}
    for number, tokens in sure.items():
        if tokens[-1] in stops and len(tokens) <= steps:
            whole[number] = tokens[:-1], True
        elif len(tokens) >= steps:
            whole[number] = tokens[:steps], False
        else:
            begun[number] = tokens
    return whole, begun


def _sure(
    lm: LanguageModel, rows: Sequence[Sequence[int]], drafts: Mapping[int, Answer]
) -> dict[int, list[int]]:
    """Return the tokens of each draft that hold, and the one that the model would write next."""
    numbers = list(drafts)
    given = [([*rows[number], *drafts[number][0]], len(rows[number])) for number in numbers]
    found = {}
    for place, tokens in likeliest(lm, given):
        draft, _ = drafts[numbers[place]]
        same = next((n for n, one in enumerate(draft) if one != tokens[n]), len(draft))
        found[numbers[place]] = tokens[: same + 1]
    return found
