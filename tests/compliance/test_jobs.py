"""The queue of record, with real child processes; no worker of ours is imitated."""

from __future__ import annotations

import os
import subprocess
from datetime import timedelta

import pytest
from django.utils import timezone

from compliance import child, jobs, store
from compliance.beat import Beat
from compliance.models import AuditEvent, Case, Job, JobKind, JobState, Role, Target
from compliance.permissions import SYSTEM
from compliance.statuses import Status
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


def test_child_past_its_time_limit_is_ended(settings) -> None:
    settings.JOB_TIME_LIMIT_SECONDS = 0
    with pytest.raises(child.StepFailed, match="time limit"):
        child.run({"operation": "find"}, lambda progress: True)


def test_child_killed_is_told_by_its_signal() -> None:
    def kill(progress: child.Progress | None) -> bool:
        subprocess.run(
            ["/usr/bin/pkill", "-9", "-f", "compliance.engine", "-P", str(os.getpid())], check=False
        )
        return True

    # Loading torch takes the child long enough to be met alive.
    with pytest.raises(child.StepCrashed, match="SIGKILL"):
        child.run({"operation": "verify_model", "path": "nowhere", "plan": {}}, kill)


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
