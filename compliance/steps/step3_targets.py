"""Step 3, target identification: where is the person's data, and how was that found?

The job searches every registered dataset for the person's records and asks every registered model
for the person's facts. Each place becomes a Target with its evidence, also where nothing was
found: the report says what was searched.
"""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from compliance import audit, policy, registry, store, vault
from compliance.jobs import Step
from compliance.models import Dataset, Job, LanguageModel, Target, TargetKind, TargetState
from compliance.permissions import SYSTEM
from compliance.subjects import facts_asked, person


def prepare(job: Job) -> dict[str, Any]:
    """What the child process is to search and to ask."""
    case = job.case
    models = LanguageModel.objects.filter(organisation=case.organisation).order_by("pk")
    datasets = Dataset.objects.filter(organisation=case.organisation).order_by("pk")
    wordings = {model.pk: store.get_json(model.wordings) for model in models}
    facts = {fact for words in wordings.values() for fact in facts_asked(case, words)}
    return {
        "operation": "find",
        "person": person(case),
        "facts": sorted(facts),
        "named": case.subject.details["fact"],
        "max_new_tokens": policy.policy().probes["max_new_tokens"],
        "models": [
            {
                "id": model.pk,
                "path": str(store.model_path(registry.current_model(model).digest)),
                "wordings": wordings[model.pk],
            }
            for model in models
        ],
        "datasets": [
            {
                "id": dataset.pk,
                "records": store.get_dataset(registry.current_dataset(dataset).digest).decode(),
            }
            for dataset in datasets
        ],
    }


def record(job: Job, result: dict[str, Any]) -> None:
    """Keep what was found; the officer looks at it and goes on."""
    case = job.case
    key = vault.key_of(case)
    evidence = []
    for kind, rows in ((TargetKind.MODEL, "models"), (TargetKind.DATASET, "datasets")):
        for row in result[rows]:
            Target.objects.create(
                case=case,
                kind=kind,
                **{f"{kind.value}_id": row["id"]},
                state=TargetState.FOUND,
                affected=row["affected"],
                summary=row["summary"],
                evidence=store.put_json(row["evidence"], key),
                found_at=timezone.now(),
            )
            evidence.append(audit.canonical(row["evidence"]))
    audit.record(
        "targets.found",
        actor=SYSTEM,
        case=case,
        searched=len(result["models"]) + len(result["datasets"]),
        affected=case.targets.filter(affected=True).count(),
        evidence=vault.commitment(case, "evidence", audit.canonical(evidence)),
    )


def failed(job: Job, reason: str) -> None:
    """The case stays; the officer may start the search again."""


STEPS = (Step("search", record, prepare),)
