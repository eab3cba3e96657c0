"""The queue of record, with real child processes; no worker of ours is imitated."""

from __future__ import annotations

import errno
from datetime import timedelta

import psycopg
import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.db import InternalError, OperationalError, connections
from django.utils import timezone

from compliance import audit, child, faults, jobs, key_files, pause, store, vault
from compliance.beat import Beat
from compliance.models import AuditEvent, Case, Job, JobKind, JobState, JobStep, Role, Target
from compliance.permissions import SYSTEM, NotAllowed
from compliance.statuses import Status
from compliance.steps import step3_targets, step4_method
from tests.compliance import factories

pytestmark = pytest.mark.django_db


def _search(records: str = factories.PROFILE + factories.NOTE, **changes) -> Job:
    """A case whose identity is confirmed, with its search waiting; one dataset, no model."""
    bank = factories.organisation()
    factories.dataset(bank, records)
    case = factories.case(bank, **changes)
    found = factories.NOBODY if changes else factories.MALEE
    case.subject.on_file = found
    case.subject.save()
    Case.objects.filter(pk=case.pk).update(status=Status.TARGETS)
    return jobs.start(JobKind.FIND, case=Case.objects.get(pk=case.pk))


def test_run_records_the_effect_once() -> None:
    job = _search()
    jobs.run(job.pk)
    jobs.run(job.pk)
    job.refresh_from_db()
    assert (job.state, job.attempt) == (JobState.DONE, 1)
    target = Target.objects.get()
    assert (target.affected, target.summary["records"]) == (True, 1)
    (match,) = store.get_json(target.evidence)
    assert (match["record"], match["own"]) == ("n-1", True)
    assert AuditEvent.objects.filter(action="targets.found").count() == 1


def test_search_for_nobody_on_file_says_how_it_searched() -> None:
    job = _search(name="Nobody Known")
    jobs.run(job.pk)
    target = Target.objects.get()
    assert target.affected is False
    assert "All 2 records were read" in target.summary["how"]


def test_job_of_a_dead_worker_is_taken_up_again_after_its_lease() -> None:
    job = _search()
    assert jobs.claim(job.pk) is not None  # a worker takes it and is killed
    assert jobs.claim(job.pk) is None
    Job.objects.filter(pk=job.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    assert jobs.sweep() == 1
    jobs.run(job.pk)
    job.refresh_from_db()
    assert (job.state, job.attempt) == (JobState.DONE, 2)
    assert AuditEvent.objects.filter(action="job.restarted").count() == 1


def test_stale_worker_cannot_record() -> None:
    job = _search()
    stale = jobs.claim(job.pk)
    Job.objects.filter(pk=job.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    jobs.run(job.pk)
    with pytest.raises(jobs.LeaseLost):
        jobs.hold(stale)


def test_crash_is_tried_three_times_then_a_person_is_told() -> None:
    job = _search(records=factories.PROFILE)
    # Nested deeper than the child can read.
    record = b'{"id":"n-1","subject":"c-1","kind":"note","text":' + b"[" * 100_000 + b'"Malee"'
    job.case.organisation.dataset_set.get().versions.update(digest=store.put_dataset(record))
    for _ in range(3):
        Job.objects.filter(pk=job.pk).update(not_before=timezone.now())
        jobs.run(job.pk)
    job.refresh_from_db()
    assert (job.state, job.attempt) == (JobState.FAILED, 3)
    assert job.error.startswith("RecursionError in ")
    assert "Malee" not in job.error
    assert AuditEvent.objects.filter(action="job.failed").count() == 1


def test_unreadable_record_ends_the_job_at_once_with_its_line() -> None:
    job = _search()
    digest = store.put_dataset(b'{"subject":"c-1","text":"Malee Tanaka"}\n')
    job.case.organisation.dataset_set.get().versions.update(digest=digest)
    jobs.run(job.pk)
    job.refresh_from_db()
    assert (job.state, job.attempt) == (JobState.FAILED, 1)
    assert job.error == 'Line 1 of the records is no object with an "id".'


@pytest.mark.django_db(transaction=True)
def test_failed_job_is_told_to_the_office_by_reference(mailoutbox, monkeypatch) -> None:
    job = _search()
    vault.destroy(str(job.case.data_key.pk))
    mailoutbox.clear()
    jobs.run(job.pk)
    (mail,) = mailoutbox
    assert mail.to == [job.case.organisation.contact]
    assert job.case.reference in mail.subject
    assert "Malee" not in mail.body


def test_worker_that_dies_each_time_ends_the_job_with_a_reason() -> None:
    job = _search()
    for _ in range(3):
        assert jobs.claim(job.pk) is not None
        Job.objects.filter(pk=job.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    jobs.run(job.pk)
    job.refresh_from_db()
    assert job.state == JobState.FAILED
    assert "worker ended each time" in job.error


def test_cancelled_job_does_not_start_and_a_running_one_cannot_record(settings) -> None:
    waiting = _search()
    jobs.cancel(waiting.case, actor=SYSTEM)
    assert jobs.claim(waiting.pk) is None
    running = jobs.claim(jobs.start(JobKind.FIND, case=waiting.case).pk)
    jobs.cancel(waiting.case, actor=SYSTEM)
    with pytest.raises(jobs.LeaseLost):
        jobs.hold(running)
    settings.JOB_LEASE_SECONDS = -1  # every beat is due
    assert Beat(running)(None) is False


def test_child_refusal_comes_in_its_own_words(tmp_path) -> None:
    (tmp_path / "model.bin").write_bytes(b"pickle")
    request = {"operation": "verify_model", "path": str(tmp_path), "plan": {}}
    with pytest.raises(child.StepFailed, match="does not belong in a model folder"):
        child.run(request, lambda progress: True)


def test_restart_needs_a_failed_job_and_an_officer() -> None:
    from compliance import flow
    from compliance.permissions import NotAllowed

    job = _search()
    officer = factories.actor(Role.OFFICER, job.case.organisation)
    with pytest.raises(NotAllowed, match="has failed"):
        flow.restart_jobs(job.case, actor=officer)
    Job.objects.filter(pk=job.pk).update(state=JobState.FAILED)
    flow.restart_jobs(job.case, actor=officer)
    assert Job.objects.filter(state=JobState.READY).count() == 1


# --- Steps ---


def test_step_that_is_on_record_is_not_done_again() -> None:
    """A worker that died after the record and before its end leaves nothing to do twice."""
    job = _search()
    jobs.run(job.pk)
    Job.objects.filter(pk=job.pk).update(state=JobState.READY, not_before=timezone.now())
    jobs.run(job.pk)
    assert Target.objects.count() == 1
    assert JobStep.objects.get(job=job).name == "search"


@pytest.mark.django_db(transaction=True)
def test_commit_whose_answer_was_lost_is_not_an_effect_twice(monkeypatch) -> None:
    job = _search()
    record = jobs._record
    answers = iter([OperationalError("server closed the connection"), None])

    def committed_without_answer(*args, **kwargs) -> None:
        record(*args, **kwargs)
        error = next(answers)
        if error is not None:
            raise error

    monkeypatch.setattr(jobs, "_record", committed_without_answer)
    monkeypatch.setattr(faults, "FIRST_WAIT", 0.0)
    jobs.run(job.pk)
    job.refresh_from_db()
    assert (job.state, job.attempt) == (JobState.DONE, 1)
    assert AuditEvent.objects.filter(action="targets.found").count() == 1


# --- What the machine cannot help ---


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
    job = _search()

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
    job = jobs.claim(_search().pk)
    settings.JOB_LEASE_SECONDS = -1  # every beat is due

    def away(*_args, **_changes) -> int:
        raise OperationalError

    monkeypatch.setattr("django.db.models.query.QuerySet.update", away)
    assert Beat(job)(None) is True


def test_broken_log_ends_the_job_with_its_reason(monkeypatch) -> None:
    job = _search()

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
    job = _search()
    vault.destroy(str(job.case.data_key.pk))
    jobs.run(job.pk)
    job.refresh_from_db()
    assert job.state == JobState.FAILED
    assert "was destroyed" in job.error


# --- Clocks ---


@pytest.mark.parametrize("days", [1, 400])
def test_clock_set_back_leaves_no_job_waiting(days: int) -> None:
    """A lease or a wait that was written before the clock was set back lies far ahead."""
    held, waiting = _search(), None
    jobs.claim(held.pk)  # its worker dies
    waiting = jobs.start(JobKind.DOCUMENT, case=held.case)
    with time_machine.travel(timezone.now() - timedelta(days=days)):
        assert jobs.sweep() == 2
        jobs.run(held.pk)
        held.refresh_from_db()
        assert held.state == JobState.DONE
        assert jobs.claim(waiting.pk) is not None


@pytest.mark.parametrize("days", [1, 400])
def test_clock_set_forward_lets_one_worker_record(days: int) -> None:
    job = _search()
    stale = jobs.claim(job.pk)
    with time_machine.travel(timezone.now() + timedelta(days=days)):
        jobs.run(job.pk)
        with pytest.raises(jobs.LeaseLost):
            jobs.hold(stale)
    assert Target.objects.count() == 1


# --- Pause ---


def test_pause_lets_no_job_begin_and_none_is_lost() -> None:
    job = _search()
    steward = factories.actor(Role.STEWARD, job.case.organisation, "pausing")
    pause.pause(actor=steward, reason="The disk is exchanged.")
    jobs.run(job.pk)
    job.refresh_from_db()
    assert (job.state, job.attempt, jobs.sweep()) == (JobState.READY, 0, 0)
    with pytest.raises(NotAllowed, match="paused already"):
        pause.pause(actor=steward, reason="Again.")
    pause.resume(actor=steward)
    jobs.run(job.pk)
    job.refresh_from_db()
    assert job.state == JobState.DONE
    actions = set(AuditEvent.objects.values_list("action", flat=True))
    assert {"jobs.paused", "jobs.resumed"} <= actions


def test_pause_stops_a_job_between_its_steps(monkeypatch) -> None:
    job = _search()

    def first(_job: Job, _result: dict) -> None:
        pause.pause(actor=SYSTEM, reason="Between two steps.")

    steps = (
        jobs.Step("first", first, lambda _job: {}, heavy=False),
        jobs.Step("second", lambda *_: None, lambda _job: {}, heavy=False),
    )
    monkeypatch.setattr(step3_targets, "STEPS", steps)
    jobs.run(job.pk)
    job.refresh_from_db()
    assert (job.state, job.attempt) == (JobState.READY, 0)
    assert "Between two steps." in job.stage
    assert [step.name for step in job.steps.all()] == ["first"]
    pause.resume(actor=SYSTEM)
    Job.objects.filter(pk=job.pk).update(not_before=timezone.now())
    jobs.run(job.pk)
    job.refresh_from_db()
    assert job.state == JobState.DONE


def test_pause_by_command(capsys) -> None:
    call_command("pause_jobs", reason="New disks.")
    assert pause.in_force().reason == "New disks."
    with pytest.raises(CommandError, match="paused already"):
        call_command("pause_jobs", reason="New disks.")
    call_command("pause_jobs", resume=True)
    assert "The jobs go on." in capsys.readouterr().out
    assert pause.in_force() is None


def test_only_a_steward_pauses() -> None:
    officer = factories.actor(Role.OFFICER, factories.organisation())
    with pytest.raises(NotAllowed, match="Only Model steward"):
        pause.pause(actor=officer, reason="I want to.")
    with pytest.raises(NotAllowed, match="No pause"):
        pause.resume(actor=SYSTEM)


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
