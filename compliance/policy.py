"""The policy file: criteria, rules and thresholds. It proposes; people decide."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.conf import settings

from .models import Case, Kind, Target, TargetKind
from .policy_file import FOR_MODELS, METHODS, Policy, read

__all__ = [
    "FOR_MODELS",
    "METHODS",
    "Policy",
    "Suggestion",
    "affected_facts",
    "dataset_method",
    "policy",
    "suggest",
]


@dataclass(frozen=True)
class Suggestion:
    """A method for one target with the answers that led to it. `method` may be "none"."""

    method: str
    measure: str
    guarantee_class: str
    criteria: list[dict[str, str]]
    reason: str
    facts: list[str]


_read = lru_cache(maxsize=4)(read)


def policy() -> Policy:
    """The policy in force (LETHE_POLICY names another file), read once a process.

    Raises ImproperlyConfigured with all that is wrong in the file.
    """
    return _read(settings.POLICY_FILE)


def affected_facts(case: Case, target: Target) -> list[str]:
    """Which kinds of fact the case is about: the one that was named, or all that were asked for."""
    named = case.subject.details["fact"]
    if named:
        return [named]
    return sorted(fact["fact"] for fact in target.summary["facts"])


def suggest(case: Case, target: Target) -> Suggestion:
    """What the policy proposes for a target, with each question and its answer."""
    rules = policy()
    if target.kind == TargetKind.DATASET:
        return _for_dataset(case, target)
    facts = affected_facts(case, target)
    answers = _answers(case, target, facts, rules)
    rule = next(
        rule
        for rule in rules.rules
        if all(answers[question] == wanted for question, wanted in rule["when"].items())
    )
    measure, guarantee = METHODS.get(rule["method"], ("No method of this version fits", ""))
    return Suggestion(
        method=rule["method"],
        measure=measure,
        guarantee_class=guarantee,
        criteria=_criteria(answers, facts, rules),
        reason=rule["reason"],
        facts=facts,
    )


def _answers(case: Case, target: Target, facts: list[str], rules: Policy) -> dict[str, Any]:
    model = target.language_model
    critical = any(fact in rules.certainty_critical for fact in facts)
    return {
        "wish": "replace" if case.kind == Kind.CORRECTION else "remove",
        "facts": "few" if len(facts) <= rules.few_facts else "many",
        "certainty": "critical" if critical else "standard",
        "open_weights": model.open_weights,
        "training_ours": model.training_ours,
    }


def _criteria(answers: dict[str, Any], facts: list[str], rules: Policy) -> list[dict[str, str]]:
    def row(question: str, answer: str, effect: str) -> dict[str, str]:
        return {"question": question, "answer": answer, "effect": effect}

    replace = answers["wish"] == "replace"
    critical = answers["certainty"] == "critical"
    ours = answers["training_ours"]
    return [
        row(
            "Is there a right value, or is the influence to go?",
            "a right value" if replace else "the influence is to go",
            "editing can write the value" if replace else "unlearning, or a neutral value",
        ),
        row(
            "How many facts?",
            f"{len(facts)} ({answers['facts']}; up to {rules.few_facts} are few)",
            "small-scale editing suffices" if answers["facts"] == "few" else "unlearning",
        ),
        row(
            "How much certainty is required?",
            answers["certainty"],
            "the more rigorous method first" if critical else "the smaller change is preferred",
        ),
        row(
            "Are the weights open to us?",
            "yes" if answers["open_weights"] else "no",
            "they can be changed" if answers["open_weights"] else "no change of weights",
        ),
        row(
            "Was the training ours?",
            "yes" if ours else "no",
            "the training data is a target too" if ours else "the data is out of our hands",
        ),
    ]


def dataset_method(case: Case) -> str:
    """Rows go as a whole when all is to go; for one named fact its value is replaced in them."""
    return "correct_rows" if case.subject.details["fact"] else policy().datasets[case.kind]


def _for_dataset(case: Case, target: Target) -> Suggestion:
    method = dataset_method(case)
    measure, guarantee = METHODS[method]
    return Suggestion(
        method=method,
        measure=measure,
        guarantee_class=guarantee,
        criteria=[
            {
                "question": "Is the dataset in our hands?",
                "answer": "yes",
                "effect": "a new version is made; a later training never sees the former rows",
            }
        ],
        reason="Otherwise the next training would bring the data back into the model.",
        facts=affected_facts(case, target),
    )
