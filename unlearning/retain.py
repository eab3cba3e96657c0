"""The texts that must stay: of the same kind as the person's, and of the person's neighbours.

Neighbours are records of others that share a word of the person's name or one of the values given
(employer, city): what unlearning harms first. A record that names the person is never retained. A
record of another person that repeats a text of this one nearly word for word would keep it in the
weights: it is left out too, and reported, to be put into the same request.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from language_models.errors import RequestError
from language_models.matching import contains_normalised, normalise

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from unlearning.records import Record

# Characters of a shingle: long enough not to be a common word, and for scripts without spaces.
SHINGLE = 8
NEAR_DUPLICATE = 0.8


@dataclass(frozen=True)
class RetainSet:
    """Texts to retain, and positions in the records that were given.

    chosen: where the texts stand. neighbours: how many of them, first ones, are of neighbours.
    naming: records of others that name the person. near_duplicates: records of others that repeat
    a text of the person.
    """

    texts: tuple[str, ...] = field(repr=False)
    chosen: tuple[int, ...]
    neighbours: int
    naming: tuple[int, ...]
    near_duplicates: tuple[int, ...]


def retain_set(
    records: Sequence[Record],
    subject: str,
    names: Sequence[str],
    values: Sequence[str] = (),
    *,
    size: int = 400,
    neighbour_share: float = 0.5,
    seed: int = 0,
) -> RetainSet:
    """Draw at most `size` texts of others from `records`, by the seed alone.

    subject: the id in the records. names: all spellings of the name. values: what neighbours share
    with the person, employer and city. neighbour_share: share of the set that neighbours may fill;
    the rest is drawn by the lengths of the person's texts. Raises RequestError when the records
    know no such subject, no name is given, or nothing is left to retain.
    """
    own = [record.text for record in records if record.subject == subject]
    if not own:
        raise RequestError("No record is about this person. Check the id and the records.")
    wanted = [normalise(name) for name in names if name.strip()]
    if not wanted or size < 1 or not 0 <= neighbour_share <= 1:
        raise RequestError("Give a name, a size of at least 1 and a share between 0 and 1.")
    texts = {n: normalise(one.text) for n, one in enumerate(records) if one.subject != subject}
    naming = {n for n, text in texts.items() if _holds(text, wanted)}
    near = set(_near_duplicates(own, texts))
    free = {n: text for n, text in texts.items() if n not in naming | near}
    if not free:
        raise RequestError("No record is left to retain: all others name the person.")
    rng = random.Random(seed)  # noqa: S311 -- repeatable choice, not a secret
    shared = [*(normalise(value) for value in values), *_words(wanted)]
    close = [n for n, text in free.items() if _holds(text, shared)]
    neighbours = rng.sample(close, min(len(close), round(size * neighbour_share)))
    rest = {n: len(text) for n, text in free.items() if n not in set(neighbours)}
    alike = _alike(rest, [len(normalise(text)) for text in own], size - len(neighbours), rng)
    chosen = (*neighbours, *alike)
    return RetainSet(
        tuple(records[n].text for n in chosen),
        chosen,
        len(neighbours),
        tuple(sorted(naming)),
        tuple(sorted(near)),
    )


def _holds(text: str, values: Iterable[str]) -> bool:
    return any(contains_normalised(text, value) for value in values)


def _words(names: Iterable[str]) -> set[str]:
    """Return the words of names that namesakes share; an initial is none."""
    return {word for name in names for word in name.split() if len(word) > 2}


def _near_duplicates(own: Iterable[str], texts: dict[int, str]) -> list[int]:
    """Return which texts share nearly all shingles with one text of the person.

    The measure is the larger of both shares, so that a copy inside a longer text, and a part
    copied out, are found as well.
    """
    pieces = [_shingles(normalise(text)) for text in own]
    where: dict[str, list[int]] = {}
    for number, found in enumerate(pieces):
        for shingle in found:
            where.setdefault(shingle, []).append(number)
    near = []
    for n, text in texts.items():
        found = _shingles(text)
        common = Counter(number for shingle in found for number in where.get(shingle, ()))
        if any(
            count >= NEAR_DUPLICATE * min(len(found), len(pieces[number]))
            for number, count in common.items()
        ):
            near.append(n)
    return near


def _shingles(text: str) -> set[str]:
    return {text[at : at + SHINGLE] for at in range(max(1, len(text) - SHINGLE + 1))}


def _alike(
    lengths: dict[int, int], own: Sequence[int], count: int, rng: random.Random
) -> list[int]:
    """Draw texts whose lengths are spread as the person's own are, none twice."""
    order = sorted(lengths, key=lambda n: (lengths[n], rng.random()))
    known = [lengths[n] for n in order]
    drawn = []
    for _ in range(min(count, len(order))):
        at = bisect_left(known, rng.choice(own))
        # The nearest of both sides; among equals the random order above decides.
        if at == len(known) or (at and rng.random() < 0.5):
            at -= 1
        drawn.append(order.pop(at))
        known.pop(at)
    return drawn
