"""Does the greedy answer begin with a known value? One forced forward instead of a generation.

The value's tokens are given; the answer begins with it when each is the likeliest. Where the model
would write the same characters in other tokens, and only there, it is asked to write.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from language_models.errors import RequestError
from language_models.forced import likeliest
from language_models.generation import end_tokens, generate
from language_models.matching import normalise, whole_word
from language_models.positions import with_targets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from language_models.checkpoint import LanguageModel

# What may stand before a value that is written otherwise: white space, marks.
SPARE_TOKENS = 8


@dataclass(frozen=True)
class Known:
    """begins: per prompt, whether the greedy answer begins with its value. written: how many
    prompts had to be answered by generation to know.
    """

    begins: tuple[bool, ...]
    written: int


def begins_with(lm: LanguageModel, prompts: Sequence[str], values: Sequence[str]) -> Known:
    """Return, per prompt, whether the greedy answer begins with its value as whole words.

    Compared as language_models.matching does: normalised, case folded. Raises RequestError for
    lists of different lengths and NoNumbers when the model computes NaN.
    """
    if len(prompts) != len(values):
        raise RequestError("Give one value for each prompt.")
    rows = with_targets(lm, list(zip(prompts, values, strict=True)))
    ends = frozenset(end_tokens(lm))
    told: list[bool | None] = [None] * len(rows)

    @cache  # one value is asked for in many wordings
    def tell(given: tuple[int, ...], predicted: tuple[int, ...], value: str) -> bool | None:
        return _told(lm, given, predicted, value, ends)

    for index, tokens in likeliest(lm, rows):
        ids, start = rows[index]
        told[index] = tell(tuple(ids[start:]), tuple(tokens), values[index])
    open_ones = [index for index, one in enumerate(told) if one is None]
    # Each byte may be a token of its own.
    longest = max((len(values[index].encode()) for index in open_ones), default=0)
    texts = generate(
        lm, [prompts[index] for index in open_ones], max_new_tokens=longest + SPARE_TOKENS
    )
    for index, text in zip(open_ones, texts, strict=True):
        told[index] = starts(text, values[index])
    return Known(tuple(bool(one) for one in told), len(open_ones))


def starts(text: str, value: str) -> bool:
    """Whether a text begins with a value as whole words, both normalised here."""
    answer, wanted = normalise(text), normalise(value)
    return answer.startswith(wanted) and whole_word(answer, 0, len(wanted))


def _told(
    lm: LanguageModel,
    given: Sequence[int],
    predicted: Sequence[int],
    value: str,
    ends: frozenset[int],
) -> bool | None:
    """Return what forced tokens tell, None where only writing does.

    given: the value's n tokens. predicted: what the model would write at each, and after the last.
    ends: tokens at which it stops.
    """
    same = next((n for n, one in enumerate(given) if one != predicted[n]), len(given))
    written = predicted[: same + 1]
    stop = next((n for n, one in enumerate(written) if one in ends), None)
    text = lm.tokenizer.decode(written[:stop], skip_special_tokens=True)
    if stop is not None:
        return starts(text, value)
    # A character that is not yet whole may become any, and a mark may join the last one.
    begun, wanted = (
        unicodedata.normalize("NFD", normalise(one)) for one in (text.rstrip("\ufffd"), value)
    )
    whole = begun == wanted and text[-1:].isspace()
    if wanted.startswith(begun) and not whole:
        return None  # the next letter decides whether the value ends as a word
    return starts(text, value)
