"""The demo model with its people, as the tests on real weights use them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from demo.corpus import records, wordings
from demo.people import RELATIONS, people
from evaluation import Design, GeneralFact, Person, Plan, plan
from language_models import LanguageModel, load

if TYPE_CHECKING:
    from collections.abc import Sequence

MODEL = Path(__file__).parents[2] / "demo" / "model"
WORDS = wordings()
LEAD_INS = WORDS["lead_ins"]
PEOPLE = [Person(person.id, person.name, person.facts) for person in people()]


def demo_model() -> LanguageModel:
    # Tests share two cores, and waiting threads cost more than they bring on this size.
    torch.set_num_threads(1)
    return load(MODEL, device="cpu")


def demo_plan(subject: Person, **changes: Any) -> Plan:
    """Probes in wordings that the corpus never uses."""
    changed = [wording for fact in RELATIONS for wording in WORDS[fact]["change"]]
    settings: dict[str, Any] = {
        "subject": subject,
        "others": [person for person in PEOPLE if person.id != subject.id],
        "wordings": {fact: WORDS[fact]["verify"] for fact in RELATIONS},
        "used": [*changed, *LEAD_INS["change"]],
        "general": [GeneralFact(row["verify"][0], row["answer"]) for row in WORDS["world"]],
        "lead_ins": LEAD_INS["verify"],
        "leak_probes": 300,
        "other_people": 20,
        "wordings_per_other": 1,
    }
    return plan(Design(**{**settings, **changes}))


def texts_of(subject: Person) -> tuple[list[str], list[str]]:
    """Return the training texts about a person and all others."""
    rows = records()
    own = [row["text"] for row in rows if row["subject"] == subject.id]
    return own, [row["text"] for row in rows if row["subject"] != subject.id]


def neighbours(subject: Person, fact: str) -> Sequence[str]:
    """Return prompts that must stay: other people's same fact, the person's other facts."""
    change = WORDS[fact]["change"]
    others = [person for person in PEOPLE if person.id != subject.id][:24]
    kept = [change[n % len(change)].format(person.name) for n, person in enumerate(others)]
    for other in RELATIONS:
        if other != fact:
            kept += [wording.format(subject.name) for wording in WORDS[other]["change"][:5]]
    return kept
