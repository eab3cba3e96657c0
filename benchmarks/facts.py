"""Facts to change and what to ask afterwards, the same for our methods and for the peer's.

`python -m benchmarks.facts --count 50 --out FILE` writes them as JSON. Choices are drawn by hash,
so they depend on the seed alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo.corpus import wordings
from demo.people import RELATIONS, Person, people

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

KINDS = ("efficacy", "paraphrase", "others", "same_person")
OTHERS_ASKED = 20  # questions about other people after one edit
WORDINGS_A_FACT = 2  # verify wordings for each further fact of the person

WORDINGS = wordings()

Fact = dict[str, Any]
Ask = dict[str, str]


def facts(count: int, seed: int = 0) -> list[Fact]:
    """Return `count` facts with new values, each with its wordings and what to ask for it.

    subject, prompt (with "{}"), target; paraphrases: the other "change" wordings; asks: lists of
    {"prompt", "expected"} by kind (KINDS). The first 64 are birth cities, each of another person;
    then come the other relations, then further values for all of them. What is to stay is asked
    only of facts that none of these changes touches, so all asks hold in a sequence as well.
    """
    persons = people()
    chosen = list(islice(_changes(persons, seed), count))
    if len(chosen) < count:
        raise ValueError(f"There are only {len(chosen)} different changes.")
    changed = {(person.id, relation) for person, relation, _ in chosen}
    kept: dict[tuple[str, str], dict[str, list[Ask]]] = {}
    made = []
    for person, relation, target in chosen:
        place = (person.id, relation)
        if place not in kept:
            kept[place] = _to_keep(person, relation, persons, changed, seed)
        made.append(_fact(person, relation, target, kept[place]))
    return made


def asks(fact: Fact) -> list[dict[str, str]]:
    """Return all questions of a fact in the order of their answers, each with its kind."""
    return [{"kind": kind, **ask} for kind in KINDS for ask in fact["asks"][kind]]


def score(asked: Sequence[Fact], answers: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return per kind the share (0 to 1) of expected answers; `answers` as asks() orders them."""
    hits: dict[str, list[bool]] = {kind: [] for kind in KINDS}
    for fact, given in zip(asked, answers, strict=True):
        for ask, answer in zip(asks(fact), given, strict=True):
            hits[ask["kind"]].append(says(answer, ask["expected"]))
    return {kind: sum(found) / len(found) for kind, found in hits.items() if found}


def says(answer: str, expected: str) -> bool:
    """Tell whether the answer begins with the expected value, as whole words."""
    text = answer.strip()
    return text.startswith(expected) and not text[len(expected) :][:1].isalnum()


def _changes(persons: list[Person], seed: int) -> Iterator[tuple[Person, str, str]]:
    """Yield (person, relation, new value): every other value of every fact, round by round."""
    order = _drawn(persons, seed, key=lambda person: person.id)
    others = {}
    for relation in RELATIONS:
        known = {person.facts[relation] for person in persons}
        for person in persons:
            drawn = _drawn(known - {person.facts[relation]}, f"{seed} {person.id} {relation}")
            others[relation, person.id] = drawn
    for turn in range(max(map(len, others.values()))):
        for relation in RELATIONS:
            for person in order:
                values = others[relation, person.id]
                if turn < len(values):
                    yield person, relation, values[turn]


def _fact(person: Person, relation: str, target: str, kept: dict[str, list[Ask]]) -> Fact:
    words = WORDINGS[relation]
    first, *paraphrases = words["change"]
    return {
        "subject": person.name,
        "relation": relation,
        "prompt": first,
        "target": target,
        "before": person.facts[relation],
        "paraphrases": paraphrases,
        "asks": {
            "efficacy": [_ask(first, person, target)],
            "paraphrase": [_ask(wording, person, target) for wording in words["verify"]],
            **kept,
        },
    }


def _to_keep(
    person: Person,
    relation: str,
    persons: list[Person],
    changed: set[tuple[str, str]],
    seed: int,
) -> dict[str, list[Ask]]:
    others = [
        _ask(wording, other, other.facts[relation])
        for other in persons
        if (other.id, relation) not in changed
        for wording in WORDINGS[relation]["verify"]
    ]
    same = [
        _ask(wording, person, value)
        for kind, value in person.facts.items()
        if (person.id, kind) not in changed
        for wording in _drawn(WORDINGS[kind]["verify"], f"{seed} {person.id}")[:WORDINGS_A_FACT]
    ]
    others = _drawn(others, f"{seed} {person.id}", key=lambda ask: ask["prompt"])
    return {"others": others[:OTHERS_ASKED], "same_person": same}


def _ask(wording: str, person: Person, expected: str) -> Ask:
    return {"prompt": wording.format(person.name), "expected": expected}


def _drawn(items: Iterable[Any], seed: object, key: Any = str) -> list[Any]:
    """Return the items in an order that only `seed` and their own text decide."""
    return sorted(items, key=lambda item: hashlib.sha256(f"{seed}|{key(item)}".encode()).digest())


def main() -> None:
    """Write facts for peer_easyedit.py, which reads the prompts in "ask"."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-ask", action="store_true", help="for measuring speed only")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    made = facts(options.count, options.seed)
    if not options.no_ask:
        made = [{**fact, "ask": [ask["prompt"] for ask in asks(fact)]} for fact in made]
    options.out.write_text(json.dumps(made, ensure_ascii=False, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
