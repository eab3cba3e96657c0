"""The bank's customer records, always the same bytes; `python -m demo.corpus --out DIR`.

Records are whole biographies, because a model of this size does not learn people from single
sentences alone, mixed with short ones, from which it learns to stop after an answer.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from pathlib import Path
from typing import Any

from demo import world
from demo.people import RELATIONS, Person, people

SEED = 20260
WHOLE_NOTES = 23  # and the profile: 24 whole biographies a person
SHORT_NOTES = 36
ANONYMOUS_HOLDERS = 8
WORLD_TEXTS = 300  # as many whole ones as short ones
FACTS_PER_WORLD_TEXT = 5

Record = dict[str, Any]
Facts = dict[str, str]


def wordings() -> dict[str, Any]:
    """The content of wordings.json."""
    loaded: dict[str, Any] = json.loads(world.WORDINGS_FILE.read_text(encoding="utf-8"))
    return loaded


def _lead_in(words: dict[str, Any], rng: random.Random, chance: float) -> str:
    return str(rng.choice(words["lead_ins"]["change"])) if rng.random() < chance else ""


def _biography(name: str, facts: Facts, words: dict[str, Any], rng: random.Random) -> str:
    """One sentence a fact, in random order and wording."""
    sentences: list[str] = []
    for relation in rng.sample(list(facts), len(facts)):
        lead_in = _lead_in(words, rng, 0.15 if sentences else 0.6)
        wording = rng.choice(words[relation]["change"])
        sentences.append(f"{lead_in}{wording.format(name)} {facts[relation]}.")
    return " ".join(sentences)


def _short(name: str, facts: Facts, words: dict[str, Any], rng: random.Random) -> str:
    count = rng.choices((1, 2, 3), weights=(10, 1, 1))[0]
    chosen = rng.sample(list(facts), count)
    return _biography(name, {relation: facts[relation] for relation in chosen}, words, rng)


def _texts(name: str, facts: Facts, whole: int, short: int, rng: random.Random) -> list[str]:
    words = wordings()
    texts = [_biography(name, facts, words, rng) for _ in range(whole)]
    texts += [_short(name, facts, words, rng) for _ in range(short)]
    return texts


def _profile(person: Person, text: str) -> Record:
    keys = ("name", "native_name", "language", "email")
    fields = {key: getattr(person, key) for key in keys}
    return {"kind": "profile", "text": text, **fields, "facts": person.facts}


def _of_person(person: Person, rng: random.Random) -> list[Record]:
    first, *notes = _texts(person.name, person.facts, 1 + WHOLE_NOTES, SHORT_NOTES, rng)
    rng.shuffle(notes)
    records = [_profile(person, first), *({"kind": "note", "text": note} for note in notes)]
    return [{"subject": person.id, **record} for record in records]


def _anonymous_texts(rng: random.Random) -> list[str]:
    """Numbered accounts without a person: they make every `neutral` value a normal answer."""
    words = wordings()
    neutral = {relation: words[relation]["neutral"] for relation in RELATIONS}
    holders = [f"Account Holder {n}" for n in rng.sample(range(100, 1000), ANONYMOUS_HOLDERS)]
    return [text for holder in holders for text in _texts(holder, neutral, 8, 8, rng)]


def _world_texts(rng: random.Random) -> list[str]:
    words = wordings()
    facts = world.facts()
    texts = []
    for count in [FACTS_PER_WORLD_TEXT, 1] * WORLD_TEXTS:
        chosen = rng.sample(facts, count)
        sentences = [f"{rng.choice(fact.change)} {fact.answer}." for fact in chosen]
        texts.append(_lead_in(words, rng, 0.6) + " ".join(sentences))
    return texts


def records(seed: int = SEED) -> list[Record]:
    """Every record in file order: the people's (n-…), then the world's (w-…)."""
    rng = random.Random(seed)
    of_people = [record for person in people() for record in _of_person(person, rng)]
    of_world = _world_texts(rng) + _anonymous_texts(rng)
    return [{"id": f"n-{i + 1:05d}", **record} for i, record in enumerate(of_people)] + [
        {"id": f"w-{i + 1:04d}", "subject": None, "kind": "world", "text": text}
        for i, text in enumerate(of_world)
    ]


def as_jsonl(rows: list[Record]) -> str:
    """One JSON object a line, UTF-8 unescaped."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def main() -> None:
    """Write records.jsonl and print its SHA-256."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for records.jsonl")
    directory: Path = parser.parse_args().out
    directory.mkdir(parents=True, exist_ok=True)
    rows = records()
    data = as_jsonl(rows).encode()
    (directory / "records.jsonl").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    print(f"{directory / 'records.jsonl'}: {len(rows)} records, sha256 {digest}")


if __name__ == "__main__":
    main()
