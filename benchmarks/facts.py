"""Facts to change and what to ask afterwards, the same for our methods and for the peer's.

`python -m benchmarks.facts --count 50 --out FILE` writes them as JSON. Choices are drawn by hash,
so they depend on the seed alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from itertools import islice, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo.corpus import wordings
from demo.names import NAMES
from demo.people import RELATIONS, Person, people
from language_models.matching import contains

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

KINDS = ("efficacy", "paraphrase", "others", "same_person", "general")
OTHERS_ASKED = 20  # questions about other people after one edit
WORDINGS_A_FACT = 2  # verify wordings for each further fact of the person
GENERAL_ASKED = 4  # questions about nobody after one edit
FEW_WORDINGS = 3  # of each further fact of the person, and of others, that is to stay
MOVED = 50  # people of the demo model who are moved; the others stay and are asked about

PARAPHRASES = 7  # further wordings that an edit is made with

WORDINGS = wordings()

Fact = dict[str, Any]
Ask = dict[str, str]


def facts(count: int, seed: int = 0) -> list[Fact]:
    """Return `count` facts with new values, each with its wordings, neighbours and questions.

    subject, prompt (with "{}"), target; paraphrases: the other "change" wordings; neighbours:
    whole prompts in "change" wordings that are to stay; asks: lists of {"prompt", "expected"} by
    kind (KINDS). The first 50 are birth cities, each of another person whom the demo model knows;
    then come fictional people whom it does not, of whom only the new values are asked. What is to
    stay is asked only of facts that none of these changes touches.
    """
    persons = _drawn(people(), seed, key=lambda person: person.id)
    moved = persons[: min(count, MOVED)]
    known = [_known(person, moved, persons, seed) for person in moved]
    return known + list(islice(_strangers(persons, seed), count - len(known)))


def asks(fact: Fact) -> list[dict[str, str]]:
    """Return all questions of a fact in the order of their answers, each with its kind."""
    return [{"kind": kind, **ask} for kind in KINDS for ask in fact["asks"][kind]]


def score(asked: Sequence[Fact], answers: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return per kind the share (0 to 1) of expected answers; `answers` as asks() orders them."""
    hits: dict[str, list[bool]] = {kind: [] for kind in KINDS}
    for fact, given in zip(asked, answers, strict=True):
        for ask, answer in zip(asks(fact), given, strict=True):
            hits[ask["kind"]].append(contains(answer, ask["expected"]))
    return {kind: sum(found) / len(found) for kind, found in hits.items() if found}


def _known(person: Person, moved: list[Person], persons: list[Person], seed: int) -> Fact:
    relation, words = "birth_city", WORDINGS["birth_city"]
    others = [other for other in persons if other not in moved]
    cities = {other.facts[relation] for other in persons} - {person.facts[relation]}
    first, *paraphrases = words["change"][: 1 + PARAPHRASES]
    target = _drawn(cities, f"{seed} {person.id}")[0]
    own = [
        (wording, kind)
        for kind in RELATIONS
        if kind != relation
        for wording in WORDINGS[kind]["change"][:FEW_WORDINGS]
    ]
    return {
        "subject": person.name,
        "prompt": first,
        "target": target,
        "paraphrases": paraphrases,
        "neighbours": [wording.format(person.name) for wording, _ in own]
        + [wording.format(other.name) for other in others for wording in words["change"]],
        "asks": {
            "efficacy": [_ask(first, person.name, target)],
            "paraphrase": [_ask(wording, person.name, target) for wording in words["verify"]],
            **_to_stay(person, relation, others, seed),
        },
    }


def _to_stay(
    person: Person, relation: str, others: list[Person], seed: int
) -> dict[str, list[Ask]]:
    foreign = [
        _ask(wording, other.name, other.facts[relation])
        for other in others
        for wording in WORDINGS[relation]["verify"]
    ]
    same = [
        _ask(wording, person.name, value)
        for kind, value in person.facts.items()
        if kind != relation
        for wording in _drawn(WORDINGS[kind]["verify"], f"{seed} {person.id}")[:WORDINGS_A_FACT]
    ]
    general = [
        {"prompt": fact["verify"][0], "expected": fact["answer"]} for fact in WORDINGS["world"]
    ]
    place = f"{seed} {person.id}"
    return {
        "others": _drawn(foreign, place, key=lambda ask: ask["prompt"])[:OTHERS_ASKED],
        "same_person": same,
        "general": _drawn(general, place, key=lambda ask: ask["prompt"])[:GENERAL_ASKED],
    }


def _strangers(persons: list[Person], seed: int) -> Iterator[Fact]:
    """Yield facts of people whom the model has never seen, one of each kind a person."""
    known = {person.name for person in persons}
    values = {kind: [person.facts[kind] for person in persons] for kind in RELATIONS}
    given = [name for names, _ in NAMES.values() for name, _ in names]
    family = [name for _, names in NAMES.values() for name, _ in names]
    names = {f"{first} {last}" for first, last in product(given, family)} - known
    for name in _drawn(names, seed):
        for kind in RELATIONS:
            words = WORDINGS[kind]
            first, *paraphrases = words["change"][: 1 + PARAPHRASES]
            target = _drawn(values[kind], f"{seed} {name}")[0]
            unseen = words["verify"][:WORDINGS_A_FACT]
            yield {
                "subject": name,
                "prompt": first,
                "target": target,
                "paraphrases": paraphrases,
                "neighbours": [
                    wording.format(other.name)
                    for other in persons[MOVED:]
                    for wording in words["change"][:FEW_WORDINGS]
                ],
                "asks": {
                    **{kind: [] for kind in KINDS},
                    "efficacy": [_ask(first, name, target)],
                    "paraphrase": [_ask(wording, name, target) for wording in unseen],
                },
            }


def _ask(wording: str, name: str, expected: str) -> Ask:
    return {"prompt": wording.format(name), "expected": expected}


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
