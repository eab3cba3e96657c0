"""Which tokens of a filled prompt belong to the subject, found by character offsets.

Offsets of the whole string are right for every tokenizer; tokenising the parts apart is not.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from language_models.errors import RequestError
from language_models.matching import unspaced

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenizers import Encoding

    from language_models.checkpoint import LanguageModel

ROLES = ("subject_first", "subject_middle", "subject_last", "between", "last")


@dataclass(frozen=True)
class Located:
    """Token ids of a prompt with the half-open token range of the subject in it."""

    ids: list[int]
    start: int
    end: int

    def tokens(self, role: str) -> list[int]:
        """Return the positions of a role, possibly none; a token has one role only."""
        last = len(self.ids) - 1
        ranges = {
            "subject_first": range(self.start, min(self.start + 1, self.end - 1)),
            "subject_middle": range(self.start + 1, self.end - 1),
            "subject_last": range(self.end - 1, min(self.end, last)),
            "between": range(self.end, last),
            "last": range(last, last + 1),
        }
        if role not in ranges:
            raise RequestError(f"Unknown token role {role!r}. Use one of {', '.join(ROLES)}.")
        return list(ranges[role])


def fill(prompt: str, subject: str) -> str:
    """Put the subject into a prompt with exactly one "{}", or raise RequestError."""
    if prompt.count("{}") != 1:
        raise RequestError('A prompt needs exactly one "{}" where the name stands.')
    if not subject.strip():
        raise RequestError("The subject is empty. Give the name as it stands in the prompts.")
    return prompt.replace("{}", subject)


def encoded(lm: LanguageModel, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Return the token ids of a text and the characters each stands for, without an end mark.

    Some tokenizers close each text with a mark; nothing is written or predicted after that.
    Raises RequestError for a text that is not valid Unicode.
    """
    [(ids, read)] = _read(lm, [text])
    return ids, read.offsets[: len(ids)]


def ids_of(lm: LanguageModel, texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of `encoded` for each text; the tokenizer reads them all at once."""
    return [ids for ids, _ in _read(lm, texts, characters=False)]


def _read(
    lm: LanguageModel, texts: Sequence[str], *, characters: bool = True
) -> list[tuple[list[int], Encoding]]:
    """Return the ids of each text without an end mark, and all that the tokenizer read.

    characters: with those that each token stands for.
    """
    try:
        for text in texts:
            text.encode()
    except UnicodeEncodeError:
        # The error itself would carry the text.
        raise RequestError("A text holds half a character. Write it anew as Unicode.") from None
    # What the tokenizer's own call rests on; that makes five lists of each text, three unused.
    reader = lm.tokenizer.backend_tokenizer
    reader.no_truncation()
    reader.no_padding()
    read = reader.encode_batch if characters else reader.encode_batch_fast
    rows = []
    for found in read(list(texts)):
        added, end = found.special_tokens_mask, len(found)
        while end > 1 and added[end - 1]:
            end -= 1
        rows.append((found.ids[:end], found))
    return rows


def locate(lm: LanguageModel, prompt: str, subject: str) -> Located:
    """Return the token ids of the filled prompt and where the subject at "{}" lies in them.

    Raises RequestError where the tokenizer leaves nothing of the subject.
    """
    text = fill(prompt, subject)
    first = prompt.index("{}")
    ids, offsets = encoded(lm, text)
    inside = [
        index
        for index, (start, end) in enumerate(offsets)
        if start < first + len(subject) and end > first
    ]
    # A space that the tokenizer puts before a text claims the text's first character as its own.
    while inside and _blank(lm, ids[inside[0]]):
        del inside[0]
    if not inside:
        raise RequestError("The tokenizer reads nothing in the subject. Write it in letters.")
    return Located(ids, inside[0], inside[-1] + 1)


def with_target(lm: LanguageModel, prompt: str, target: str) -> tuple[list[int], int]:
    """Return the ids of prompt and target and the index of the target's first token.

    The ids before it are those of the prompt alone, as generation will see them. A space stands
    between, unless the prompt ends in one or both sides are of a script without spaces.
    Raises RequestError for an empty prompt or target, or one that the tokenizer cannot join.
    """
    return with_targets(lm, [(prompt, target)])[0]


def with_targets(
    lm: LanguageModel, pairs: Sequence[tuple[str, str]]
) -> list[tuple[list[int], int]]:
    """Return what `with_target` does for each (prompt, target); all are read at once."""
    if any(not prompt or not target.strip() for prompt, target in pairs):
        raise RequestError("Prompt and target need at least one letter each.")
    after = [target if _joined(prompt, target) else f" {target}" for prompt, target in pairs]
    prompts = list(dict.fromkeys(prompt for prompt, _ in pairs))
    alone = dict(zip(prompts, ids_of(lm, prompts), strict=True))
    whole = _read(lm, [pair[0] + text for pair, text in zip(pairs, after, strict=True)])
    rows = []
    for (prompt, _), text, (ids, read) in zip(pairs, after, whole, strict=True):
        before = alone[prompt]
        start = len(before)
        if not before:
            raise RequestError("The tokenizer reads nothing in a prompt. Write it in letters.")
        if start < len(ids) and ids[:start] == before and _ends_behind(read, start, len(prompt)):
            rows.append((ids, start))
        else:
            # The tokenizer merged across the border.
            rows.append((before + _continuation(lm, before, text, _text(lm, ids)), start))
    return rows


def _ends_behind(read: Encoding, token: int, border: int) -> bool:
    """Whether this token is the first whose characters end behind the first `border` ones."""
    # A mark that stands for no character has none.
    ends = [chars[1] if (chars := read.token_to_chars(at)) else 0 for at in (token - 1, token)]
    return ends[0] <= border < ends[1]


def _continuation(lm: LanguageModel, before: list[int], after: str, whole: str) -> list[int]:
    """Return the ids of `after` so that the text of `before` and them is `whole`."""
    # Many tokenizers put a space before a text of its own. Behind a mark that merges with nothing
    # they read it as in the middle of a text.
    for mark in ("", "\n", ":", "。"):
        alone, both = _plain(lm, mark), _plain(lm, mark + after)
        ids = both[len(alone) :]
        # Where unknown letters become one token with those before, none is left.
        if ids and both[: len(alone)] == alone and _text(lm, before + ids) == whole:
            return ids
    raise RequestError(
        "The tokenizer reads the target in another way behind this prompt. End the prompt with a"
        " whole word, without a space."
    )


def _plain(lm: LanguageModel, text: str) -> list[int]:
    ids: list[int] = lm.tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
    return ids


def _text(lm: LanguageModel, ids: list[int]) -> str:
    text: str = lm.tokenizer.decode(
        ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return text


def _blank(lm: LanguageModel, token: int) -> bool:
    piece: str = lm.tokenizer.convert_ids_to_tokens(token)
    return not piece.strip("▁Ġ ")


def _joined(prompt: str, target: str) -> bool:
    if prompt[-1].isspace():
        return True
    bare = next((c for c in reversed(prompt) if unicodedata.category(c) != "Mn"), None)
    return bare is not None and _unspaced(bare) and _unspaced(target[0])


def _unspaced(character: str) -> bool:
    """Also the marks of Chinese and Japanese, which are as wide as a letter; Korean has spaces."""
    wide = unicodedata.east_asian_width(character) in "WF"
    return unspaced(character) or (
        wide and not unicodedata.name(character, "").startswith("HANGUL")
    )
