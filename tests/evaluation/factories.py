"""People, wordings and plans for tests."""

from __future__ import annotations

from typing import Any

from evaluation import Design, GeneralFact, Person, Plan, plan

WORDINGS = {
    "birth_city": ["The file says {} was born in", "Birthplace of {}:", "Asked where, {} said"],
    "employer": ["The file says {} works for", "Employer of {}:", "Asked for whom, {} said"],
}


# Enough different prompts for a bound of 1 %.
MANY = [f"By entry {number}, {{}} was born in" for number in range(160)]


def person(number: int = 1) -> Person:
    facts = {"birth_city": f"City{number}", "employer": f"Company{number}"}
    return Person(f"c-{number:03}", f"Person{number} Name", facts)


def make_plan(**changes: Any) -> Plan:
    settings: dict[str, Any] = {
        "subject": person(1),
        "others": [person(n) for n in range(2, 8)],
        "wordings": WORDINGS,
        "used": ["{} was born in"],
        "leak": ["birth_city"],
        "new_values": {"birth_city": "an undisclosed place"},
        "keep": ["employer"],
        "general": [GeneralFact("The river of Marn is the", "Sael")],
        "lead_ins": ["", "From the archive: "],
        "leak_probes": 20,
        "other_people": 4,
        "max_new_tokens": 4,
    }
    return plan(Design(**{**settings, **changes}))
