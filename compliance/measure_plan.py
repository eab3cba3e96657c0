"""What a change works on and what it is measured by: plan, neighbours, forget and retain texts.

The wordings of the change and those of the verification never meet: a model's wordings file keeps
them apart under `change` and `verify`.
"""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evaluation import Design, GeneralFact, Person, plan
from evaluation.prompts import FORMS
from language_models.errors import RequestError
from language_models.matching import contains
from search.profiles import Profile, profiles

from . import policy, registry, store
from .question_templates import templates
from .subjects import NOT_FACTS, person

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from evaluation import Plan

    from .models import Decision, Target

NEIGHBOURS = 32
RETAIN_RECORDS = 2000
# Wordings of the change in which the new value is asked for again.
RELIABILITY = 6
# With fewer other people there are no names from which to make people who do not exist.
FEWEST_FOR_TWINS = 8


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
    rules, named = policy.policy(), person(target.case)
    facts = decision.parameters["facts"]
    known = [fact for fact in wordings if fact not in NOT_FACTS]
    others = [
        _asked(p.subject, p.name, p.facts, p.language, p.native_name)
        for p in others_on_file(target)
    ]
    edits = decision.method == "rome"
    texts = _texts(target)
    form = _question_form(target)
    probes = rules.probes | ({} if len(others) >= FEWEST_FOR_TWINS else {"twins": 0})
    frozen = plan(
        Design(
            subject=_asked(
                named["id"], named["name"], named["facts"], named["language"], named["native_name"]
            ),
            others=others,
            wordings={fact: wordings[fact]["verify"] for fact in known},
            used=_given(wordings, known, [] if edits else texts.own),
            leak=facts,
            new_values=new_values(target, decision, wordings) if edits else {},
            given={fact: wordings[fact]["change"][:RELIABILITY] for fact in facts if edits},
            keep=[fact for fact in known if fact not in facts and fact in named["facts"]],
            general=[
                GeneralFact(prompt, item["answer"])
                for item in wordings["world"]
                for prompt in item["verify"]
            ],
            lead_ins=wordings["lead_ins"]["verify"],
            own_texts=texts.own[: rules.scored_texts["own"]] if probes["twins"] else [],
            held_out=texts.held_out,
            attacks=rules.attacks,
            thresholds=rules.thresholds,
            templates=templates(),
            **form,
            **probes,
        )
    )
    _check_prompts(frozen, wordings["lead_ins"]["verify"], facts, rules)
    return frozen.as_dict()


def _check_prompts(made: Plan, lead_ins: list[str], facts: list[str], rules: policy.Policy) -> None:
    """Refuse a plan by which no verdict could be passed, before anything is changed."""
    asked = {probe.turns for probe in made.probes if probe.group == "leak"}
    least = int(rules.thresholds["leak_min_prompts"])
    if len(asked) < least:
        each = math.ceil(least / (len(facts) * len(set(lead_ins))))
        raise RequestError(
            f"The model's wordings make {len(asked)} different questions of {', '.join(facts)};"
            f" the policy asks for {least} (leak_min_prompts). With {len(set(lead_ins))} lead-ins"
            f" under “verify” each fact named needs {each} different wordings under “verify”. Add"
            " wordings or lead-ins."
        )


def _asked(
    subject: str, name: str, facts: Mapping[str, str], language: str, native_name: str
) -> Person:
    names = {language: native_name} if native_name and native_name != name else {}
    return Person(subject, name, facts, language, names)


def _given(wordings: dict[str, Any], known: list[str], texts: list[str]) -> list[str]:
    """All that the change is given: its wordings, and for unlearning the person's own records."""
    asked = [text for fact in known for text in wordings[fact]["change"]]
    return [*asked, *wordings["lead_ins"]["change"], *texts]


def _question_form(target: Target) -> dict[str, Any]:
    """How long a question this model reads, and whether it can be asked as a chat."""
    folder = store.model_path(registry.current_model(target.language_model).digest)
    settings = json.loads((folder / "config.json").read_text())
    reads = settings.get("max_position_embeddings") or settings.get("n_positions")
    # A byte is a token at most: half of what it reads, so that answers and turns have room.
    found: dict[str, Any] = {"longest": None if reads is None else reads // 2}
    if _chats(folder):
        found["forms"] = FORMS
    return found


def _chats(folder: Path) -> bool:
    """Whether there is a chat template: a file of its own or, as often, among the tokenizer's
    settings. Of several the one named "default" is used.
    """
    if (folder / "chat_template.jinja").exists():
        return True
    settings = folder / "tokenizer_config.json"
    kept = json.loads(settings.read_text()).get("chat_template") if settings.exists() else None
    return any(one["name"] == "default" for one in kept) if isinstance(kept, list) else bool(kept)


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


@dataclass(frozen=True)
class Texts:
    """A model's training texts: the person's, others' that a change may hold on to, and others'
    that nothing but the measurement ever sees.
    """

    own: list[str]
    retain: list[str]
    held_out: list[str]


def _texts(target: Target) -> Texts:
    rules = policy.policy()
    rng = random.Random(rules.probes["seed"])  # noqa: S311 -- a repeatable choice
    subject = person(target.case)
    rows = [json.loads(line) for line in _lines(target)]
    own = [row["text"] for row in rows if row["subject"] == subject["id"]]
    others = [row["text"] for row in rows if row["subject"] != subject["id"]]
    others = rng.sample(others, len(others))
    # A small dataset keeps nine texts of ten for what the change must hold on to.
    count = min(rules.scored_texts["held_out"], len(others) // 10)
    names = {subject["name"], subject["native_name"]} - {""}
    unnamed = [text for text in others[:count] if not any(contains(text, one) for one in names)]
    return Texts(own, others[count : count + RETAIN_RECORDS], unnamed)


def unlearning_texts(
    target: Target, decision: Decision, wordings: dict[str, Any]
) -> dict[str, list[str]]:
    """Forget: the person's records, or sentences of the named facts. Retain: other people's."""
    subject, texts = person(target.case), _texts(target)
    facts = decision.parameters["facts"]
    if set(facts) >= set(subject["facts"]):
        return {"forget": texts.own, "retain": texts.retain}
    kept = [fact for fact in subject["facts"] if fact not in facts]
    return {
        "forget": _sentences(subject, facts, wordings),
        "retain": texts.retain + _sentences(subject, kept, wordings),
    }


def _sentences(subject: dict[str, Any], facts: list[str], wordings: dict[str, Any]) -> list[str]:
    return [
        f"{wording.format(subject['name'])} {subject['facts'][fact]}."
        for fact in facts
        for wording in wordings[fact]["change"]
    ]
