"""What becomes of a candidate: into force when all held, back to method selection otherwise."""

from __future__ import annotations

import pytest
from django.utils import timezone

from compliance import jobs, registry, store, vault
from compliance.models import (
    Application,
    Case,
    DatasetVersion,
    Decision,
    Job,
    JobKind,
    Role,
    Target,
    TargetState,
    Verification,
    VersionState,
)
from compliance.statuses import Status
from compliance.steps import step6_verification
from tests.compliance import factories

pytestmark = pytest.mark.django_db
NOW = timezone.now()


def _measured() -> Job:
    """A case whose dataset change waits for its verification."""
    bank = factories.organisation()
    dataset = factories.dataset(bank)
    case = factories.case(bank)
    Case.objects.filter(pk=case.pk).update(status=Status.VERIFICATION)
    case.refresh_from_db()
    target = Target.objects.create(
        case=case,
        kind="dataset",
        dataset=dataset,
        state=TargetState.APPLIED,
        affected=True,
        summary={"facts": []},
        evidence=store.put_json([], vault.key_of(case)),
        found_at=NOW,
    )
    decision = Decision.objects.create(
        case=case,
        target=target,
        method="delete_rows",
        reasons="ok",
        proposed_at=NOW,
        proposed_by=factories.user(Role.OFFICER, bank),
        decided_at=NOW,
        decided_by=factories.user(Role.LEGAL, bank),
        outcome="approved",
    )
    former = registry.current_dataset(dataset)
    candidate = DatasetVersion.objects.create(
        dataset=dataset,
        digest="b" * 64,
        records=1,
        parent=former,
        made_for=target,
        case=target.case,
        state=VersionState.CANDIDATE,
        created_at=NOW,
    )
    Application.objects.create(
        target=target,
        decision=decision,
        dataset_before=former,
        dataset_after=candidate,
        plan_frozen_at=NOW,
        started_at=NOW,
        finished_at=NOW,
        before={"groups": {}},
    )
    return jobs.start(JobKind.VERIFY, case=case, target=target)


def _result(*, passed: bool) -> dict:
    return {"after": {"groups": {}}, "verdict": {"passed": passed, "criteria": []}}


def test_held_verification_puts_the_candidate_into_force() -> None:
    job = _measured()
    step6_verification.record(job, _result(passed=True))
    case = Case.objects.get()
    assert (case.status, case.outcome) == (Status.DOCUMENTATION, "fulfilled")
    assert registry.current_dataset(job.on.training_data).digest == "b" * 64


def test_failed_verification_goes_back_with_its_figures_and_changes_nothing() -> None:
    job = _measured()
    former = registry.current_dataset(job.on.training_data)
    step6_verification.record(job, _result(passed=False))
    case = Case.objects.get()
    assert (case.status, case.outcome) == (Status.METHOD, "")
    assert registry.current_dataset(job.on.training_data) == former
    assert DatasetVersion.objects.get(digest="b" * 64).state == VersionState.DISCARDED
    assert Verification.objects.get().passed is False


def test_version_that_changed_meanwhile_sends_the_case_back() -> None:
    job = _measured()
    DatasetVersion.objects.exclude(digest="b" * 64).update(state=VersionState.FORMER)
    step6_verification.record(job, _result(passed=True))
    assert Case.objects.get().status == Status.METHOD
    assert DatasetVersion.objects.get(digest="b" * 64).state == VersionState.DISCARDED


def test_candidate_that_cannot_be_measured_does_not_come_into_force() -> None:
    job = _measured()
    step6_verification.failed(job, "The process was killed.")
    assert Case.objects.get().status == Status.METHOD
    assert DatasetVersion.objects.get(digest="b" * 64).state == VersionState.DISCARDED
