"""Answers that are checked instead of written: prompts that end alike are often answered alike.

Probes put one question behind many lead-ins. The answer to the first of them is a draft for the
others, and one forward tells how far they would write the same (speculative decoding, Leviathan et
al. 2023, arXiv:2211.17192, with another prompt's answer in place of a draft model). From there on
they are written, so the answers are those of writing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from language_models.forced import ask

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from transformers import DynamicCache

    from language_models.checkpoint import LanguageModel
    from language_models.shared_prefixes import Memory

# The new tokens of a row, and whether the model came to its own end.
Answer = tuple[list[int], bool]

# Of the shorter of two prompts: from here on they may be the same question.
ALIKE = 0.5
# Rows checked before the first look at how many tokens of drafts hold. To check one costs about
# half of writing it.
TRIAL = 64
FEWEST_HELD = 0.5
# Tokens of a forward that checks, more than forced.MOST_TOKENS: what does not hold is written on
# from its memory, and many rows at a time are written faster.
MOST_TOKENS = 2**14


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


@dataclass(frozen=True)
class Checked:
    """What greedy writing is known to give, by row number: whole answers, and beginnings of others.

    memory: what attention keeps of texts, numbers: of each row with a beginning the number of its
    text, which is row and beginning but for the last token.
    """

    whole: dict[int, Answer]
    begun: dict[int, list[int]]
    memory: Memory | None = None
    numbers: dict[int, int] = field(default_factory=dict)

    def fill(self, cache: DynamicCache, rows: Sequence[int], lengths: Sequence[int]) -> bool:
        """Put rows with their beginnings, so many tokens but the last, into a new cache.

        False where nothing was kept, or not so that this cache can take it.
        """
        if self.memory is None:
            return False
        texts = [self.numbers[row] for row in rows]
        return self.memory.put(cache, [(t, n - 1) for t, n in zip(texts, lengths, strict=True)])


def check(
    lm: LanguageModel,
    rows: Sequence[Sequence[int]],
    drafts: Mapping[int, Answer],
    steps: int,
    stops: Collection[int],
) -> Iterator[Checked]:
    """Yield, some rows at a time, what greedy writing of `steps` tokens is known to give.

    drafts: row number -> answer. stops: tokens that end a text. Where little of the first drafts
    holds, the others are not checked.
    """
    numbers = list(drafts)
    if not numbers:
        return
    # Some of all: neighbours ask about one person.
    trial = numbers[:: max(1, len(numbers) // TRIAL)]
    tried = _sure(lm, rows, {number: drafts[number][0] for number in trial})
    sure = {number: tokens for found, _ in tried for number, tokens in found.items()}
    held = sum(len(tokens) - 1 for tokens in sure.values())
    if held < FEWEST_HELD * sum(len(drafts[number][0]) for number in trial):
        yield _told(sure, steps, stops)
        return
    first = _told(sure, steps, stops)
    yield Checked(first.whole, {})
    # What is begun is checked again with the others, to have it in their memory.
    rest = {number: drafts[number][0] for number in numbers if number not in first.whole}
    rest |= {number: tokens[:-1] for number, tokens in first.begun.items()}
    for found, memory in _sure(lm, rows, rest):
        told = _told(found, steps, stops)
        order = dict(zip(found, range(len(found)), strict=True))
        yield Checked(told.whole, told.begun, memory, order)


def _told(sure: Mapping[int, list[int]], steps: int, stops: Collection[int]) -> Checked:
    whole: dict[int, Answer] = {}
    begun: dict[int, list[int]] = {}
    for number, tokens in sure.items():
        if tokens[-1] in stops and len(tokens) <= steps:
            whole[number] = tokens[:-1], True
        elif len(tokens) >= steps:
            whole[number] = tokens[:steps], False
        else:
            begun[number] = tokens
    return Checked(whole, begun)


def _sure(
    lm: LanguageModel, rows: Sequence[Sequence[int]], drafts: Mapping[int, list[int]]
) -> Iterator[tuple[dict[int, list[int]], Memory | None]]:
    """Yield the tokens of each draft that hold, and the one that the model would write next; and
    what attention keeps of rows with drafts, in the same order.
    """
    numbers = list(drafts)
    given = [([*rows[number], *drafts[number]], len(rows[number])) for number in numbers]
    for asked in ask(lm, given, most_tokens=MOST_TOKENS, remember=True):
        found = {}
        for place, tokens in zip(asked.numbers, asked.tokens, strict=True):
            draft = drafts[numbers[place]]
            same = next((n for n, one in enumerate(draft) if one != tokens[n]), len(draft))
            found[numbers[place]] = tokens[: same + 1]
        yield found, asked.memory
