"""All jobs stand still, and none is lost."""

from __future__ import annotations

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from compliance import jobs, pause
from compliance.models import AuditEvent, Job, JobState, Role
from compliance.permissions import SYSTEM, NotAllowed
from compliance.steps import step3_targets
from tests.compliance import factories

pytestmark = pytest.mark.django_db


def test_pause_lets_no_job_begin_and_none_is_lost() -> None:
    job = factories.search()
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
    job = factories.search()

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
