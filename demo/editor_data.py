"""Facts to train an editor on, made of the demo's people; `python -m demo.editor_data --out FILE`.

Each fact of the first people gets values that are not theirs, in turn with the same wordings. What
must stay are the person's other facts and other people's same fact. The last 24 people are in no
prompt, so that edits of their facts show what an editor has learned.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

from demo.corpus import wordings
from demo.people import Person, people

SEED = 40
TRAINED_PEOPLE = 40
RELATIONS = ("birth_city", "employer", "occupation", "diagnosis")
VALUES_PER_FACT = 2
WORDINGS = 8
OTHER_PEOPLE = 6


def trained_people() -> list[Person]:
    """The people whose facts an editor is trained on."""
    return people()[:TRAINED_PEOPLE]


def unseen_people() -> list[Person]:
    """The people whose facts show what it has learned."""
    return people()[TRAINED_PEOPLE:]


def editor_data(seed: int = SEED) -> list[dict[str, Any]]:
    """The facts in the form that `python -m editing train` reads."""
    rng, words = random.Random(seed), wordings()
    persons = trained_people()
    asked = {
        (person.id, relation): _prompts(words, relation, rng)
        for person in persons
        for relation in person.facts
    }
    return [
        {
            "prompt": prompt,
            "subject": person.name,
            "target": f"{value}.",
            "paraphrases": paraphrases,
            "unrelated": _unrelated(person, relation, persons, asked, rng),
        }
        for person in persons
        for relation in RELATIONS
        for prompt, *paraphrases in [asked[person.id, relation]]
        for value in _new_values(person, relation, persons, words, rng)
    ]


def _prompts(words: dict[str, Any], relation: str, rng: random.Random) -> list[str]:
    """Wordings of one fact, as many with a lead-in as without."""
    chosen = rng.sample(words[relation]["change"], WORDINGS)
    return [rng.choice(["", rng.choice(words["lead_ins"]["change"])]) + one for one in chosen]


def _new_values(
    person: Person,
    relation: str,
    persons: list[Person],
    words: dict[str, Any],
    rng: random.Random,
) -> list[str]:
    """Other people's values and the neutral one, drawn alike."""
    known = {other.facts[relation] for other in persons} | {words[relation]["neutral"]}
    return rng.sample(sorted(known - {person.facts[relation]}), VALUES_PER_FACT)


def _unrelated(
    person: Person,
    relation: str,
    persons: list[Person],
    asked: dict[tuple[str, str], list[str]],
    rng: random.Random,
) -> list[str]:
    """Prompts in the very wordings of those facts, so that a batch can tell what it rewrites."""
    others = rng.sample([one for one in persons if one.id != person.id], OTHER_PEOPLE)
    same = [rng.choice(asked[one.id, relation]).replace("{}", one.name) for one in others]
    own = [
        rng.choice(asked[person.id, other]).replace("{}", person.name)
        for other in person.facts
        if other != relation
    ]
    return same + own


def main() -> None:
    """Write the data file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    target: Path = parser.parse_args().out
    facts = editor_data()
    text = json.dumps(facts, ensure_ascii=False, indent=1) + "\n"
    target.write_text(text, encoding="utf-8")
    print(f"{target}: {len(facts)} facts of {TRAINED_PEOPLE} people")


if __name__ == "__main__":
    main()
