"""What a change works on and what it is measured by: plan, neighbours, forget and retain texts.

The wordings of the change and those of the verification never meet: a model's wordings file keeps
them apart under `change` and `verify`.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

from evaluation import GeneralFact, Person, plan
from search.profiles import Profile, profiles

from . import policy, registry, store
from .subjects import NOT_FACTS, person

if TYPE_CHECKING:
    from .models import Decision, Target

NEIGHBOURS = 32
RETAIN_RECORDS = 2000


def _lines(target: Target) -> list[str]:
    """The records the model was trained on."""
    dataset = target.model.dataset if target.model else target.dataset
    if dataset is None:
        return []
    return registry.records_of(registry.current_dataset(dataset))


def others_on_file(target: Target) -> list[Profile]:
    """Everybody in the model's training data but the person."""
    subject = person(target.case)["id"]
    return [profile for profile in profiles(_lines(target)) if profile.subject != subject]


def new_values(target: Target, decision: Decision, wordings: dict[str, Any]) -> dict[str, str]:
    """What each fact is to become: the right value, or the relation's neutral one."""
    right = target.case.subject.details["right_value"]
    return {fact: right or wordings[fact]["neutral"] for fact in decision.parameters["facts"]}


def plan_for(target: Target, decision: Decision) -> dict[str, Any]:
    """The measurement plan of a model target. Raises evaluation's RequestError."""
    wordings = store.get_json(target.language_model.wordings)
    rules = policy.policy().probes
    subject = person(target.case)
    facts = decision.parameters["facts"]
    known = [fact for fact in wordings if fact not in NOT_FACTS]
    used = [text for fact in known for text in wordings[fact]["change"]]
    frozen = plan(
        subject=Person(subject["id"], subject["name"], subject["facts"]),
        others=[Person(p.subject, p.name, p.facts) for p in others_on_file(target)],
        wordings={fact: wordings[fact]["verify"] for fact in known},
        used=used + wordings["lead_ins"]["change"],
        leak=facts,
        new_values=new_values(target, decision, wordings) if decision.method == "rome" else None,
        keep=[fact for fact in known if fact not in facts and fact in subject["facts"]],
        general=[
            GeneralFact(prompt, item["answer"])
            for item in wordings["world"]
            for prompt in item["verify"]
        ],
        lead_ins=wordings["lead_ins"]["verify"],
        **rules,
    )
    return frozen.as_dict()


def dataset_plan(target: Target, decision: Decision) -> dict[str, Any]:
    """What must hold of the new dataset version; every record is read, nothing is sampled."""
    removing = decision.method == "delete_rows"
    details = target.case.subject.details
    return {
        "method": decision.method,
        "former_value": "" if removing else person(target.case)["facts"][details["fact"]],
        "new_value": ""
        if removing
        else details["right_value"] or _neutral(target, details["fact"]),
        "criteria": [
            "no row of the person is left"
            if removing
            else "no row of the person holds the former value",
            "every row of others is unchanged, byte for byte",
        ],
    }


def _neutral(target: Target, fact: str) -> str:
    """The neutral value of a fact, as the model that was trained on the dataset knows it."""
    model = target.training_data.languagemodel_set.order_by("pk").first()
    return store.get_json(model.wordings)[fact]["neutral"] if model else "undisclosed"


def neighbours(target: Target, decision: Decision, wordings: dict[str, Any]) -> list[str]:
    """Prompts that must stay: the person's other facts, and the same facts of other people."""
    rng = random.Random(policy.policy().probes["seed"])  # noqa: S311 -- a repeatable choice
    subject = person(target.case)
    changed = decision.parameters["facts"]
    own = [
        wording.format(subject["name"])
        for fact in subject["facts"]
        if fact not in changed
        for wording in wordings[fact]["change"][:4]
    ]
    people = others_on_file(target)
    foreign = [
        rng.choice(wordings[fact]["change"]).format(other.name)
        for fact in changed
        for other in rng.sample(people, min(NEIGHBOURS, len(people)))
    ]
    return own + foreign


def unlearning_texts(
    target: Target, decision: Decision, wordings: dict[str, Any]
) -> dict[str, list[str]]:
    """Forget: the person's records, or sentences of the named facts. Retain: everybody else's."""
    rng = random.Random(policy.policy().probes["seed"])  # noqa: S311 -- a repeatable choice
    subject = person(target.case)
    facts = decision.parameters["facts"]
    rows = [json.loads(line) for line in _lines(target)]
    retain = [row["text"] for row in rows if row["subject"] != subject["id"]]
    retain = rng.sample(retain, min(RETAIN_RECORDS, len(retain)))
    if set(facts) >= set(subject["facts"]):
        forget = [row["text"] for row in rows if row["subject"] == subject["id"]]
    else:
        forget = _sentences(subject, facts, wordings)
        kept = [fact for fact in subject["facts"] if fact not in facts]
        retain += _sentences(subject, kept, wordings)
    return {"forget": forget, "retain": retain}


def _sentences(subject: dict[str, Any], facts: list[str], wordings: dict[str, Any]) -> list[str]:
    return [
        f"{wording.format(subject['name'])} {subject['facts'][fact]}."
        for fact in facts
        for wording in wordings[fact]["change"]
    ]
