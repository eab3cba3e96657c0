"""Which shard and slice a subject's records belong to, and which records each step sees.

All of it follows from a secret key and ids alone (SISA: Bourtoule et al. 2021, with the subject
in the place of the record). Taking a subject out moves no other, and no text decides anything. A
stage trains on the records of its shard's slices up to its own, so it is a function of these
records and of the stage before: with a subject gone, the same function gives what training
without the subject gives.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from language_models.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from unlearning.records import Record

KEY_BYTES = 16


@dataclass(frozen=True)
class Place:
    """Numbers from 0 of a subject's shard and of its slice there."""

    shard: int
    slice: int


def keyed(key: bytes, purpose: str, *parts: object) -> bytes:
    """Return the HMAC-SHA-256 of JSON values, for one purpose; other purposes share nothing."""
    return hmac.digest(key, json.dumps([purpose, *parts]).encode(), hashlib.sha256)


def check_key(key: bytes) -> None:
    """Raise RequestError for a key that could be guessed."""
    if len(key) < KEY_BYTES:
        raise RequestError(f"The key needs at least {KEY_BYTES} random bytes.")


def fingerprint(key: bytes) -> str:
    """Return what names a key without telling it."""
    return keyed(key, "fingerprint").hex()


def subject_digest(key: bytes, subject: str) -> str:
    """Return what stands for a subject wherever its id must not."""
    return keyed(key, "subject", subject).hex()


def record_digest(key: bytes, record: Record, row: Sequence[int]) -> str:
    """Return what stands for a record and the tokens (t) that are learnt from it."""
    return keyed(key, "record", record.id, record.subject, list(row)).hex()


def place(key: bytes, subject: str, shards: int, slices: int) -> Place:
    """Return where a subject's records belong."""
    drawn = keyed(key, "place", subject)
    return Place(
        int.from_bytes(drawn[:8], "big") % shards, int.from_bytes(drawn[8:16], "big") % slices
    )


def divided(
    key: bytes, records: Iterable[Record], shards: int, slices: int
) -> list[list[list[str]]]:
    """Return the ids of the records per shard and slice, each in an order that ids alone give."""
    parts: list[list[list[str]]] = [[[] for _ in range(slices)] for _ in range(shards)]
    for record in records:
        where = place(key, record.subject, shards, slices)
        parts[where.shard][where.slice].append(record.id)
    return [[sorted(ids) for ids in shard] for shard in parts]


def schedule(
    key: bytes, ids: Sequence[str], where: Place, passes: float, batch: int
) -> list[tuple[str, ...]]:
    """Return per step of a stage the ids of its records.

    ids: the records of the shard's slices up to the stage's own. Each pass is in another order,
    drawn by key; the last may end within.
    """
    wanted = math.ceil(passes * len(ids))
    drawn: list[str] = []
    for number in range(math.ceil(passes)):
        orders = {one: keyed(key, "order", where.shard, where.slice, number, one) for one in ids}
        drawn += sorted(ids, key=orders.__getitem__)
    del drawn[wanted:]
    return [tuple(drawn[at : at + batch]) for at in range(0, wanted, batch)]


def passes_of_stage(epochs: float, slices: int) -> float:
    """Return how often a stage sees its records, such that a shard costs `epochs` in all.

    Stage r of R sees r slices, and 1 + … + R = R (R + 1) / 2 (SISA, section 4).
    """
    return 2 * epochs / (slices + 1)


def share_retrained(requests: int, shards: int, slices: int) -> float:
    """Return the expected share of the training that forgetting a batch of subjects repeats.

    With m of them in a shard and r the lowest of their slices, R - r + 1 stages are made again,
    of the cost 1 - r (r - 1) / (R (R + 1)); m is binomial.
    """
    total = 0.0
    for m in range(1, requests + 1):
        chance = math.comb(requests, m) * (1 / shards) ** m * (1 - 1 / shards) ** (requests - m)
        total += chance * sum(
            _lowest(r, m, slices) * (1 - r * (r - 1) / (slices * (slices + 1)))
            for r in range(1, slices + 1)
        )
    return total


def same_texts(records: Iterable[Record], subjects: set[str]) -> int:
    """Return how many records of others hold a text that one of `subjects` has as well.

    Case and white space do not count. What others' records say stays in the weights.
    """
    texts: Mapping[bool, list[str]] = {True: [], False: []}
    for record in records:
        texts[record.subject in subjects].append(" ".join(record.text.casefold().split()))
    own = set(texts[True])
    return sum(text in own for text in texts[False])


def _lowest(r: int, m: int, slices: int) -> float:
    """The chance that the lowest of m slices drawn from 1 to `slices` is r."""
    return ((slices - r + 1) / slices) ** m - ((slices - r) / slices) ** m
