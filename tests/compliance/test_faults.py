"""What the machine cannot help: it counts as no attempt, and a record tried again is right."""

from __future__ import annotations

import errno

import psycopg
import pytest
from django.db import InternalError, OperationalError, connections
from django.utils import timezone

from compliance import audit, faults, jobs, key_files, vault
from compliance.beat import Beat
from compliance.models import AuditEvent, Case, Job, JobKind, JobState, JobStep, Role
from compliance.statuses import Status
from compliance.steps import step3_targets, step4_method
from tests.compliance import factories

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device: Malee"), "disk is full"),
        (OSError(errno.EIO, "Input/output error"), "input/output error"),
        (OperationalError("terminating connection"), "database was away"),
        (key_files.KeyUnavailable("The key file keys/vault/ab.key is missing."), "is missing"),
    ],
)
def test_hindrance_does_not_count_as_an_attempt(monkeypatch, error, told) -> None:
    job = factories.search()

    def hindered(_job: Job) -> dict:
        raise error

    step = jobs.Step("search", step3_targets.record, hindered)
    monkeypatch.setattr(step3_targets, "STEPS", (step,))
    for _ in range(5):
        Job.objects.filter(pk=job.pk).update(not_before=timezone.now())
        jobs.run(job.pk)
    job.refresh_from_db()
    assert (job.state, job.attempt) == (JobState.READY, 0)
    assert told in job.stage
    assert "Malee" not in job.stage
    monkeypatch.undo()
    Job.objects.filter(pk=job.pk).update(not_before=timezone.now())
    jobs.run(job.pk)
    job.refresh_from_db()
    assert (job.state, job.attempt) == (JobState.DONE, 1)


@pytest.mark.django_db(transaction=True)
def test_database_away_is_outlasted_and_then_given_up(monkeypatch, settings) -> None:
    monkeypatch.setattr(faults, "FIRST_WAIT", 0.001)
    asked = []

    def act() -> None:
        asked.append(1)
        if len(asked) < 4:
            raise OperationalError

    faults.when_database_answers(act)
    assert len(asked) == 4
    settings.JOB_PATIENCE_SECONDS = 0
    asked.clear()
    with pytest.raises(OperationalError):
        faults.when_database_answers(act)


def test_session_that_postgresql_ended_for_idling_is_a_database_that_is_away() -> None:
    ended, wrong = InternalError("idle"), InternalError("current transaction is aborted")
    ended.__cause__ = psycopg.errors.IdleInTransactionSessionTimeout()
    wrong.__cause__ = psycopg.errors.InFailedSqlTransaction()
    assert "database was away" in (faults.hindrance(ended) or "")
    assert faults.hindrance(wrong) is None


@pytest.mark.django_db(transaction=True)
def test_beat_outlasts_a_database_that_is_away(monkeypatch, settings) -> None:
    job = jobs.claim(factories.search().pk)
    settings.JOB_LEASE_SECONDS = -1  # every beat is due

    def away(*_args, **_changes) -> int:
        raise OperationalError

    monkeypatch.setattr("django.db.models.query.QuerySet.update", away)
    assert Beat(job)(None) is True


def test_broken_log_ends_the_job_with_its_reason(monkeypatch) -> None:
    job = factories.search()

    def broken(_job: Job) -> dict:
        raise audit.LogBroken("The first 3 events are not those that were signed.")

    monkeypatch.setattr(step3_targets, "STEPS", (jobs.Step("search", lambda *_: None, broken),))
    jobs.run(job.pk)
    job.refresh_from_db()
    assert (job.state, job.error) == (
        JobState.FAILED,
        "The first 3 events are not those that were signed.",
    )


def test_destroyed_key_ends_the_job_with_its_reason() -> None:
    job = factories.search()
    vault.destroy(str(job.case.data_key.pk))
    jobs.run(job.pk)
    job.refresh_from_db()
    assert job.state == JobState.FAILED
    assert "was destroyed" in job.error


@pytest.mark.django_db(transaction=True)
def test_record_whose_commit_failed_is_done_again_from_the_rows(monkeypatch) -> None:
    """A disk that fills up at the COMMIT: the next try must not build on the last one's objects."""
    bank = factories.organisation()
    dataset = factories.dataset(bank)
    case = factories.case(bank)
    case.subject.on_file = factories.MALEE | {"dataset": dataset.pk}
    case.subject.save()
    Case.objects.filter(pk=case.pk).update(status=Status.TARGETS)
    jobs.run(jobs.start(JobKind.FIND, case=Case.objects.get(pk=case.pk)).pk)
    officer, legal = (factories.actor(role, bank) for role in (Role.OFFICER, Role.LEGAL))
    case = step4_method.open_selection(Case.objects.get(pk=case.pk), actor=officer)
    (target,) = case.targets.all()
    step4_method.propose(target, actor=officer, method="delete_rows", reasons="All rows go.")
    case = step4_method.submit(Case.objects.get(pk=case.pk), actor=officer)
    step4_method.approve(case, actor=legal, reasons="Checked and agreed.")
    failing = iter([True, True, False])
    monkeypatch.setattr(faults, "FIRST_WAIT", 0.0)
    commit = type(connections["default"])._commit

    def full(self) -> None:
        change = JobStep.objects.filter(name="change").exists()
        if change and next(failing, False):
            raise OperationalError("database or disk is full")
        commit(self)

    monkeypatch.setattr(type(connections["default"]), "_commit", full)
    job = Job.objects.get(kind=JobKind.APPLY)
    jobs.run(job.pk)
    monkeypatch.undo()
    job.refresh_from_db()
    assert (job.state, job.attempt, job.error) == (JobState.DONE, 1, "")
    assert AuditEvent.objects.filter(action="change.applied").count() == 1
    assert Case.objects.get(pk=case.pk).status == Status.VERIFICATION
