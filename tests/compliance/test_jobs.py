"""The queue of record, with real child processes; no worker of ours is imitated."""

from __future__ import annotations

from datetime import timedelta

import pytest
import time_machine
from django.db import OperationalError
from django.utils import timezone

from compliance import child, faults, jobs, store, vault
from compliance.beat import Beat
from compliance.models import AuditEvent, Job, JobKind, JobState, JobStep, Role, Target
from compliance.permissions import SYSTEM, NotAllowed
from tests.compliance import factories

pytestmark = pytest.mark.django_db


def test_run_records_the_effect_once() -> None:
    job = factories.search()
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
    job = factories.search(name="Nobody Known")
    jobs.run(job.pk)
    target = Target.objects.get()
    assert target.affected is False
    assert "All 2 records were read" in target.summary["how"]


def test_job_of_a_dead_worker_is_taken_up_again_after_its_lease() -> None:
    job = factories.search()
    assert jobs.claim(job.pk) is not None  # a worker takes it and is killed
    assert jobs.claim(job.pk) is None
    Job.objects.filter(pk=job.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    assert jobs.sweep() == 1
    jobs.run(job.pk)
    job.refresh_from_db()
    assert (job.state, job.attempt) == (JobState.DONE, 2)
    assert AuditEvent.objects.filter(action="job.restarted").count() == 1


def test_stale_worker_cannot_record() -> None:
    job = factories.search()
    stale = jobs.claim(job.pk)
    Job.objects.filter(pk=job.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    jobs.run(job.pk)
    with pytest.raises(jobs.LeaseLost):
        jobs.hold(stale)


def test_crash_is_tried_three_times_then_a_person_is_told() -> None:
    job = factories.search(records=factories.PROFILE)
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
    job = factories.search()
    digest = store.put_dataset(b'{"subject":"c-1","text":"Malee Tanaka"}\n')
    job.case.organisation.dataset_set.get().versions.update(digest=digest)
    jobs.run(job.pk)
    job.refresh_from_db()
    assert (job.state, job.attempt) == (JobState.FAILED, 1)
    assert job.error == 'Line 1 of the records is no object with an "id".'


@pytest.mark.django_db(transaction=True)
def test_failed_job_is_told_to_the_office_by_reference(mailoutbox, monkeypatch) -> None:
    job = factories.search()
    vault.destroy(str(job.case.data_key.pk))
    mailoutbox.clear()
    jobs.run(job.pk)
    (mail,) = mailoutbox
    assert mail.to == [job.case.organisation.contact]
    assert job.case.reference in mail.subject
    assert "Malee" not in mail.body


def test_worker_that_dies_each_time_ends_the_job_with_a_reason() -> None:
    job = factories.search()
    for _ in range(3):
        assert jobs.claim(job.pk) is not None
        Job.objects.filter(pk=job.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    jobs.run(job.pk)
    job.refresh_from_db()
    assert job.state == JobState.FAILED
    assert "worker ended each time" in job.error


def test_cancelled_job_does_not_start_and_a_running_one_cannot_record(settings) -> None:
    waiting = factories.search()
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

    job = factories.search()
    officer = factories.actor(Role.OFFICER, job.case.organisation)
    with pytest.raises(NotAllowed, match="has failed"):
        flow.restart_jobs(job.case, actor=officer)
    Job.objects.filter(pk=job.pk).update(state=JobState.FAILED)
    flow.restart_jobs(job.case, actor=officer)
    assert Job.objects.filter(state=JobState.READY).count() == 1


# --- Steps ---


def test_step_that_is_on_record_is_not_done_again() -> None:
    """A worker that died after the record and before its end leaves nothing to do twice."""
    job = factories.search()
    jobs.run(job.pk)
    Job.objects.filter(pk=job.pk).update(state=JobState.READY, not_before=timezone.now())
    jobs.run(job.pk)
    assert Target.objects.count() == 1
    assert JobStep.objects.get(job=job).name == "search"


@pytest.mark.django_db(transaction=True)
def test_commit_whose_answer_was_lost_is_not_an_effect_twice(monkeypatch) -> None:
    job = factories.search()
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


# --- Clocks ---


@pytest.mark.parametrize("days", [1, 400])
def test_clock_set_back_leaves_no_job_waiting(days: int) -> None:
    """A lease or a wait that was written before the clock was set back lies far ahead."""
    held, waiting = factories.search(), None
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
    job = factories.search()
    stale = jobs.claim(job.pk)
    with time_machine.travel(timezone.now() + timedelta(days=days)):
        jobs.run(job.pk)
        with pytest.raises(jobs.LeaseLost):
            jobs.hold(stale)
    assert Target.objects.count() == 1
