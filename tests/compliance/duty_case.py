"""Finished cases that leave a duty behind, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.db import transaction
from django.utils import timezone

from compliance import duties, jobs, registry, store, vault
from compliance.models import (
    Application,
    Case,
    Decision,
    Duty,
    Job,
    JobKind,
    ModelVersion,
    Outcome,
    Role,
    Target,
    TargetState,
    Verification,
    VersionState,
)
from compliance.permissions import SYSTEM
from compliance.statuses import Status
from evaluation import Design, Person, Plan, plan
from evaluation.results import summarise
from tests.compliance import factories

NOW = timezone.now()
DEMO = Path(__file__).parents[2] / "demo"
SUBJECT = Person("c-001", "Jürgen Moreau", {"employer": "Blue Heron Games"})
WORDINGS = {
    "employer": [
        "Records show that the employer of {} is",
        "Records show that {} is employed by",
    ]
}


def made_plan(**changes: Any) -> Plan:
    """Four questions that the demo model answers with the value."""
    asked = {"others": [], "max_new_tokens": 8, **changes}
    return plan(
        Design(
            subject=SUBJECT, wordings=WORDINGS, used=[], leak=["employer"], leak_probes=4,
            temperature=0.1, **asked,
        )
    )  # fmt: skip


def applied(version: ModelVersion, **changes: Any) -> Case:
    """A case whose change of a model waits for its verification."""
    bank = version.model.organisation
    case = factories.case(bank)
    Case.objects.filter(pk=case.pk).update(status=Status.VERIFICATION)
    case.refresh_from_db()
    made = made_plan(**changes)
    target = Target.objects.create(
        case=case, kind="model", model=version.model, state=TargetState.APPLIED, affected=True,
        summary={"facts": []}, evidence=store.put_json([], vault.key_of(case)), found_at=NOW,
    )  # fmt: skip
    officer, legal = (
        factories.user(role, bank, f"{role.value}-{case.reference}")
        for role in (Role.OFFICER, Role.LEGAL)
    )
    decision = Decision.objects.create(
        case=case, target=target, method="npo", reasons="ok", proposed_at=NOW, decided_at=NOW,
        proposed_by=officer, decided_by=legal,
        outcome="approved",
    )  # fmt: skip
    ModelVersion.objects.filter(state=VersionState.CANDIDATE).update(state=VersionState.DISCARDED)
    candidate = ModelVersion.objects.create(
        model=version.model, digest="b" * 64, state=VersionState.CANDIDATE, created_at=NOW,
        parent=version, case=case,
    )  # fmt: skip
    Application.objects.create(
        target=target, decision=decision, model_before=version, model_after=candidate,
        plan=store.put_json(made.as_dict(), vault.key_of(case)), plan_frozen_at=NOW,
        before=summarise(made, []).as_dict(), started_at=NOW, finished_at=NOW,
    )  # fmt: skip
    return case


def verified(version: ModelVersion) -> Case:
    """A case whose change of a model was measured and held."""
    case = applied(version)
    application = Application.objects.get(target__case=case)
    Verification.objects.create(
        application=application, after=application.before, verdict={}, passed=True,
        verified_at=NOW,
    )  # fmt: skip
    return case


def in_force() -> tuple[Case, ModelVersion]:
    """A case whose change came into force, with its duty, and the version that it made."""
    former = demo_version()
    case = verified(former)
    candidate = ModelVersion.objects.get(state=VersionState.CANDIDATE)
    ModelVersion.objects.filter(pk=former.pk).update(state=VersionState.FORMER)
    ModelVersion.objects.filter(pk=candidate.pk).update(state=VersionState.CURRENT)
    Case.objects.filter(pk=case.pk).update(status=Status.DOCUMENTATION, outcome=Outcome.FULFILLED)
    with transaction.atomic():
        duties.open_for(case)
    candidate.refresh_from_db()
    return case, candidate


def verifying(case: Case) -> Job:
    return jobs.start(JobKind.VERIFY, case=case, target=case.targets.get())


def measured(case: Case, **changes: Any) -> dict[str, Any]:
    """What the heavy step says of a candidate that holds its plan."""
    verdict = {"passed": True, "outcome": "passed", "reasons": [], "criteria": [],
               "residual_risk": None}  # fmt: skip
    after = Application.objects.get(target__case=case).before
    return {"after": after, "verdict": verdict, "duties": [], **changes}


def demo_version(slug: str = "bank") -> ModelVersion:
    bank = factories.organisation(slug)
    return registry.register_model(
        bank,
        name="Assistant",
        stored=registry.bring(DEMO / "model"),
        wordings=factories.WORDINGS,
        actor=SYSTEM,
    )


def version() -> ModelVersion:
    """The version in force of a model without files."""
    return registry.current_model(factories.model(factories.organisation()))


@transaction.atomic
def open_duty() -> tuple[Case, Duty]:
    case = verified(version())
    duties.open_for(case)
    return case, Duty.objects.get()


def found(**changes: Any) -> list[dict[str, Any]]:
    """What the heavy step says of the one duty that there is."""
    row = {"id": Duty.objects.get().pk, "outcome": "held", "reason": "0 of 4.", "hits": 0}
    return [{**row, "asked": 4, "upper_95": 0.5, **changes}]
