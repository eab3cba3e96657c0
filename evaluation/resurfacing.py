"""Does a value come back in a later version? Asked again without keeping the value.

A duty holds the frozen prompts and, in place of the values, keyed hashes of their normalised
n-grams: an answer is cut into n-grams of the same lengths and each is hashed with the key. Who has
the duty alone learns its model, basis and end. Who has the key as well reads the prompts, which
name the person, and can test guesses of the value; so the key is kept like the value itself would
be, and both end on a stated day (GDPR Art. 5(1)(e)).
"""

from __future__ import annotations

import hmac
import json
import os
import random
from collections import defaultdict
from dataclasses import asdict, dataclass
from datetime import date
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from evaluation.answers import Ask
from evaluation.bounds import clopper_pearson_lower, clopper_pearson_upper
from evaluation.risk import clustered_upper
from evaluation.values import written_forms
from language_models.errors import EndpointError, NoNumbers, RequestError
from language_models.matching import normalise, unspaced

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from evaluation.answers import Answerer
    from evaluation.plan import Plan
    from language_models.progress import Progress

SCHEMA = "lethe.duty/1"
KEY_BYTES, NONCE_BYTES, HASH_BYTES = 32, 12, 16
# The digits of a number's end that count as the number.
LAST_DIGITS = 6


@dataclass(frozen=True)
class Question:
    """One prompt of a duty; marks: which of its lists of hashes tells a hit."""

    turns: tuple[str, ...]
    chat: bool
    temperature: float
    seed: int
    marks: int


@dataclass(frozen=True)
class Duty:
    """What must still not come out, of which model, on which basis and until when (ISO day).

    marks: per value, "unit length" -> hashes (hex) of n-grams of that many words, characters or
    digits. hits, asked, empty: what the verification after the change found: leaks, answers in
    which they were looked for, and those that said nothing. leak_max: its threshold.
    made_with: tells the key, for under another one no answer would match.
    """

    model: str
    basis: str
    ends_on: str
    questions: tuple[Question, ...]
    marks: tuple[Mapping[str, tuple[str, ...]], ...]
    max_new_tokens: int
    hits: int
    asked: int
    empty: int
    leak_max: float
    made_with: str

    def sealed(self, key: bytes) -> bytes:
        """Return the duty under AES-256-GCM; basis and end stand in clear and are bound to it."""
        head = {"schema": SCHEMA, "model": self.model, "basis": self.basis, "ends_on": self.ends_on}
        clear = json.dumps(head, sort_keys=True, ensure_ascii=False).encode()
        nonce = os.urandom(NONCE_BYTES)
        body = AESGCM(_sealing(key)).encrypt(nonce, json.dumps(asdict(self)).encode(), clear)
        return clear + b"\n" + nonce + body


@dataclass(frozen=True)
class Rerun:
    """What a later version gives out. outcome: held, resurfaced or unknown, with the reason.

    upper_95: bound on the rate of prompts that leak, each counted once; None when unknown.
    """

    outcome: str
    reason: str
    hits: int
    asked: int
    upper_95: float | None


def new_key() -> bytes:
    """Return a key for one duty."""
    return os.urandom(KEY_BYTES)


def duty(
    plan: Plan,
    key: bytes,
    *,
    model: str,
    basis: str,
    ends_on: date,
    hits: int,
    empty: int,
    leak_max: float,
    most: int = 100,
) -> Duty:
    """Return the duty of up to `most` of a plan's leak probes: no more is kept than is asked again.

    hits, empty: how many of their answers leaked, and said nothing, after the change.
    Raises RequestError without any, without a basis, or for a key that `new_key` did not make.
    """
    if len(key) != KEY_BYTES:
        raise RequestError(f"The key of a duty has {KEY_BYTES} bytes. Make one by new_key.")
    probes = [probe for probe in plan.probes if probe.group == "leak"]
    if not probes or not basis.strip():
        raise RequestError("A duty needs leak probes, and the basis on which its prompts are kept.")
    rng = random.Random(plan.seed)  # noqa: S311 -- repeatable choice, not a secret
    asked = len(probes)
    probes = rng.sample(probes, min(most, asked))
    values = list(dict.fromkeys((probe.expected, probe.kind) for probe in probes))
    questions = [
        Question(
            one.turns, one.chat, plan.temperature if one.decode == "sampled" else 0.0, one.seed,
            values.index((one.expected, one.kind)),
        )
        for one in probes
    ]  # fmt: skip
    return Duty(
        model, basis.strip(), ends_on.isoformat(), tuple(questions),
        tuple(_marks(expected, kind, _hashing(key)) for expected, kind in values),
        plan.max_new_tokens, hits, asked, empty, leak_max, _told_by(key),
    )  # fmt: skip


def open_duty(sealed: bytes, key: bytes, *, today: date) -> Duty:
    """Open a sealed duty.

    Raises RequestError for another key, a change, another version's duty, or after its end.
    """
    clear, _, rest = sealed.partition(b"\n")
    try:
        body = AESGCM(_sealing(key)).decrypt(rest[:NONCE_BYTES], rest[NONCE_BYTES:], clear)
        kept = _from_row(json.loads(body))
    except (InvalidTag, ValueError):
        raise RequestError("The duty cannot be opened: another key, or it was changed.") from None
    except (KeyError, TypeError):
        raise RequestError(
            "The duty was written by another version. Keep it anew by this one."
        ) from None
    if today > date.fromisoformat(kept.ends_on):
        raise RequestError("This duty has ended. Destroy it with its key; it may not be used.")
    return kept


def _from_row(row: dict[str, Any]) -> Duty:
    questions = tuple(Question(**{**one, "turns": tuple(one["turns"])}) for one in row["questions"])
    marks = tuple({unit: tuple(hashes) for unit, hashes in one.items()} for one in row["marks"])
    # Duties of before hold no count of empty answers: then any silence counts.
    return Duty(**{"empty": 0, **row, "questions": questions, "marks": marks})


def rerun(answerer: Answerer, kept: Duty, key: bytes, progress: Progress | None = None) -> Rerun:
    """Ask a duty's prompts again and match the answers by their hashes.

    Raises RequestError for another key than the duty was made with.
    """
    if not hmac.compare_digest(_told_by(key), kept.made_with):
        raise RequestError("This duty was made with another key. Give the one kept with it.")
    asks = [Ask(one.turns, one.chat, one.temperature, one.seed) for one in kept.questions]
    try:
        answers = answerer.answer(asks, max_new_tokens=kept.max_new_tokens, progress=progress)
    except (NoNumbers, EndpointError) as error:
        return Rerun("unknown", str(error), 0, 0, None)
    marks = [{unit: frozenset(hashes) for unit, hashes in one.items()} for one in kept.marks]
    hashing = _hashing(key)
    came_out: defaultdict[object, list[bool]] = defaultdict(list)
    for question, answer in zip(kept.questions, answers, strict=True):
        found = any(_holds(text, marks[question.marks], hashing) for text in answer.texts)
        came_out[question.turns].append(found)
    hits = sum(sum(found) for found in came_out.values())
    empty = sum(not any(text.strip() for text in answer.texts) for answer in answers)
    asked = len(answers)
    upper = clustered_upper(came_out).upper
    if clopper_pearson_lower(hits, asked) > kept.leak_max:
        # Surely above what was allowed: a few hits more are the luck of the draw, and the bound
        # beside them says how many more there may be.
        reason = (
            f"The value came out in {hits} of {asked} probes; after the change it was"
            f" {kept.hits} of {kept.asked}."
        )
        return Rerun("resurfaced", reason, hits, asked, upper)
    if answerer.problems or _fell_silent(asked - empty, asked, kept):
        reason = " ".join(answerer.problems) or (
            f"{empty} of {asked} answers are empty; after the change it was {kept.empty} of"
            f" {kept.asked}."
        )
        return Rerun("unknown", reason, hits, asked, None)
    reason = f"The value came out in {hits} of {asked} probes, by exact written forms."
    return Rerun("held", reason, hits, asked, upper)


def _fell_silent(said: int, asked: int, kept: Duty) -> bool:
    """Whether fewer than half as many answers say something as after the change, and surely fewer.

    A change may itself leave a model with nothing to say to these questions.
    """
    share = 1 - kept.empty / kept.asked
    return said < share * asked / 2 and clopper_pearson_upper(said, asked) < share


def _holds(text: str, marks: Mapping[str, frozenset[str]], key: bytes) -> bool:
    for unit, hashes in marks.items():
        kind, length = unit.split()
        units = _units(text, kind)
        if any(_hash(gram, unit, key) in hashes for gram in _grams(units, int(length))):
            return True
    return False


def _marks(values: Sequence[str], kind: str, key: bytes) -> dict[str, tuple[str, ...]]:
    """Return the hashes of every written form; of numbers also of their last digits."""
    found: dict[str, set[str]] = {}
    for form in written_forms(values[0], kind, values[1:]):
        unit = "characters" if any(map(unspaced, normalise(form))) else "words"
        _add(found, unit, _units(form, unit), key)
    if kind in ("telephone", "number"):
        for value in values:
            digits = _units(value, "digits")
            if len(digits) >= LAST_DIGITS:
                _add(found, "digits", digits[-LAST_DIGITS:], key)
    return {unit: tuple(sorted(hashes)) for unit, hashes in sorted(found.items())}


def _add(found: dict[str, set[str]], unit: str, units: Sequence[str], key: bytes) -> None:
    if units:
        name = f"{unit} {len(units)}"
        found.setdefault(name, set()).add(_hash(tuple(units), name, key))


def _units(text: str, kind: str) -> list[str]:
    """Cut a text into words of scripts with spaces, into characters where it is of both, or digits.

    Between letters without spaces a value in Latin letters or digits stands as a word.
    """
    plain = normalise(text)
    if kind == "digits":
        return [str(int(one)) for one in plain if one.isdecimal()]
    if kind == "characters":
        whole = [one for one in plain if one.isalnum() or not (one.isascii() or one == " ")]
        return whole if any(map(unspaced, whole)) else []
    words = "".join(
        one if (one.isalnum() and not unspaced(one)) or one in "@+.-_'" else " " for one in plain
    ).split()
    return [word for one in words if (word := one.removesuffix("'s").strip(".-_'"))]


def _grams(units: Sequence[str], length: int) -> Iterator[tuple[str, ...]]:
    return (tuple(units[at : at + length]) for at in range(len(units) - length + 1))


def _hash(gram: tuple[str, ...], unit: str, key: bytes) -> str:
    message = json.dumps([unit, gram], ensure_ascii=False).encode()
    return hmac.new(key, message, sha256).digest()[:HASH_BYTES].hex()


def _told_by(key: bytes) -> str:
    return hmac.new(key, b"lethe duty key", sha256).hexdigest()


def _sealing(key: bytes) -> bytes:
    return hmac.new(key, b"lethe duty seal", sha256).digest()


def _hashing(key: bytes) -> bytes:
    return hmac.new(key, b"lethe duty hash", sha256).digest()
