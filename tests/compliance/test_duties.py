"""What a finished case leaves behind: questions that later versions must still hold."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.utils import timezone

from compliance import duties, jobs, letters, registry, shredding, store, upkeep, vault
from compliance.envelope import SealError
from compliance.models import (
    Application,
    AuditEvent,
    Case,
    Decision,
    Duty,
    DutyRun,
    JobKind,
    ModelVersion,
    Organisation,
    Outcome,
    Role,
    Target,
    TargetState,
    Verification,
    VersionState,
)
from compliance.permissions import SYSTEM
from compliance.statuses import Status
from compliance.steps import step6_verification
from compliance.web import queries
from evaluation import Design, Person, plan
from evaluation.results import summarise
from tests.compliance import factories

pytestmark = pytest.mark.django_db
NOW = timezone.now()
DEMO = Path(__file__).parents[2] / "demo"
SUBJECT = Person("c-001", "Jürgen Moreau", {"employer": "Blue Heron Games"})
WORDINGS = {
    "employer": [
        "Records show that the employer of {} is",
        "Records show that {} is employed by",
    ]
}


def _verified(version: ModelVersion) -> Case:
    """A case whose change of a model was measured and held."""
    bank = version.model.organisation
    case = factories.case(bank)
    Case.objects.filter(pk=case.pk).update(status=Status.VERIFICATION)
    case.refresh_from_db()
    made = plan(
        Design(
            subject=SUBJECT, others=[], wordings=WORDINGS, used=[], leak=["employer"],
            leak_probes=4, max_new_tokens=8, temperature=0.1,
        )
    )  # fmt: skip
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
    application = Application.objects.create(
        target=target, decision=decision, model_before=version, model_after=candidate,
        plan=store.put_json(made.as_dict(), vault.key_of(case)), plan_frozen_at=NOW,
        started_at=NOW, finished_at=NOW,
    )  # fmt: skip
    Verification.objects.create(
        application=application, after=summarise(made, []).as_dict(), verdict={}, passed=True,
        verified_at=NOW,
    )  # fmt: skip
    return case


def _demo_version() -> ModelVersion:
    return registry.register_model(
        factories.organisation(), name="Assistant", folder=DEMO / "model", wordings={}, actor=SYSTEM
    )


def _found(**changes: Any) -> list[dict[str, Any]]:
    row = {"id": Duty.objects.get().pk, "outcome": "held", "reason": "0 of 4.", "hits": 0}
    return [{**row, "asked": 4, "upper_95": 0.5, **changes}]


def test_duty_keeps_no_value_and_no_name_in_clear() -> None:
    case = _verified(registry.current_model(factories.model(factories.organisation())))

    duties.open_for(case)

    duty = Duty.objects.get()
    assert (duty.reference, duty.ends_on) == (
        case.reference,
        timezone.localdate() + timedelta(days=365),
    )
    inner = store.get(duty.sealed)
    outer = store.artefact_path(duty.sealed).read_bytes()
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM compliance_duty")
        rows = str(cursor.fetchall()).encode()
    for word in (b"Moreau", b"Heron"):
        assert word not in inner + outer + rows
    assert AuditEvent.objects.filter(action="duty.opened").count() == 1


def test_duty_asked_again_of_a_version_that_still_tells_is_resurfaced() -> None:
    version = _demo_version()
    duties.open_for(_verified(version))

    with pytest.raises(CommandError, match="1 duties do not hold"):
        call_command("rerun_duties")

    run = DutyRun.objects.get()
    assert (run.outcome, run.hits, run.asked, run.version) == ("resurfaced", 4, 4, version)
    assert "4 of 4 probes; after the change it was 0 of 4" in run.reason
    assert AuditEvent.objects.filter(action="duty.rerun").count() == 1


@pytest.mark.parametrize(("found", "outcome"), [("resurfaced", "failed"), ("unknown", "unknown")])
def test_duty_that_does_not_hold_keeps_a_candidate_out_of_force(found: str, outcome: str) -> None:
    version = registry.current_model(factories.model(factories.organisation()))
    first = _verified(version)
    duties.open_for(first)
    later = _verified(version)
    Verification.objects.filter(application__target__case=later).delete()
    job = jobs.start(JobKind.VERIFY, case=later, target=later.targets.get())
    verdict = {
        "passed": True, "outcome": "passed", "reasons": [], "criteria": [], "residual_risk": None,
    }  # fmt: skip

    result = {"after": {"groups": {}}, "verdict": verdict}
    step6_verification.record(job, {**result, "duties": _found(outcome=found)})

    later.refresh_from_db()
    kept = Verification.objects.get(application__target__case=later)
    assert not kept.passed
    assert kept.verdict["outcome"] == outcome
    # What another person asked for, and how it stands, is none of this case's business.
    (reason,) = kept.verdict["reasons"]
    assert first.reference not in reason
    assert not any(letter.isdigit() for letter in reason)
    assert later.status == Status.METHOD
    assert registry.current_model(version.model) == version


def test_duties_are_given_to_the_step_that_verifies_another_case() -> None:
    version = registry.current_model(factories.model(factories.organisation()))
    first, later = _verified(version), _verified(version)
    duties.open_for(first)

    assert [row["id"] for row in duties.for_child(version.model, besides=later.reference)] == [
        Duty.objects.get().pk
    ]
    assert duties.for_child(version.model, besides=first.reference) == []


@pytest.mark.django_db(transaction=True)
def test_duty_whose_day_is_over_is_destroyed_with_its_key() -> None:
    _, duty = _open_duty()
    Duty.objects.update(ends_on=timezone.localdate() - timedelta(days=1))

    assert upkeep.keep_up() == []

    duty.refresh_from_db()
    assert duty.ended_at is not None
    assert not store.artefact_path(duty.sealed).exists()
    with pytest.raises(SealError):
        vault.key_named(str(duty.key_id))
    assert duties.for_child(duty.model) == []
    assert AuditEvent.objects.filter(action="duty.ended").count() == 1


def test_rerun_without_open_duties_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    factories.model(factories.organisation())

    call_command("rerun_duties")

    assert "Every open duty holds." in capsys.readouterr().out


@transaction.atomic
def _open_duty() -> tuple[Case, Duty]:
    case = _verified(registry.current_model(factories.model(factories.organisation())))
    duties.open_for(case)
    return case, Duty.objects.get()


@pytest.mark.django_db(transaction=True)
def test_shredding_a_case_ends_its_duty() -> None:
    case, duty = _open_duty()
    Case.objects.filter(pk=case.pk).update(
        status=Status.CLOSED, closed_at=NOW, outcome=Outcome.FULFILLED
    )

    shredding.shred(case, actor=SYSTEM, reason="test")

    with pytest.raises(SealError):
        vault.key_named(str(duty.key_id))
    assert not store.artefact_path(duty.sealed).exists()


@pytest.mark.django_db(transaction=True)
def test_files_that_a_crash_left_of_an_ended_duty_are_removed() -> None:
    case, duty = _open_duty()
    path = store.artefact_path(duty.sealed)
    kept = path.read_bytes()
    with transaction.atomic():
        duties.end_of(case, actor=SYSTEM)
    assert not path.exists()
    # As if the process had died between the commit and the removal.
    path.write_bytes(kept)

    assert upkeep.keep_up() == []

    assert not path.exists()


def test_second_attempt_of_a_case_opens_its_duty_anew() -> None:
    version = registry.current_model(factories.model(factories.organisation()))
    case = _verified(version)
    duties.open_for(case)
    first = Duty.objects.get()

    # What a rollback does; then another method is decided, applied and verified.
    duties.drop(case, actor=SYSTEM)
    Decision.objects.update(outcome="superseded")
    duties.open_for(case)
    assert not Duty.objects.exists()
    with pytest.raises(SealError):
        vault.key_named(str(first.key_id))
    Decision.objects.update(outcome="approved")
    duties.open_for(case)

    assert Duty.objects.get().pk != first.pk


def test_duty_ends_by_hand_once(capsys: pytest.CaptureFixture[str]) -> None:
    case, duty = _open_duty()

    call_command("end_duty", case.reference)

    assert "1 ended." in capsys.readouterr().out
    duty.refresh_from_db()
    assert duty.ended_at is not None
    with pytest.raises(CommandError, match="no open duty"):
        call_command("end_duty", case.reference)
    with pytest.raises(CommandError, match="no case of this reference"):
        call_command("end_duty", "L2026-0000-0000")


def test_auditors_see_the_duties_of_their_organisation_alone() -> None:
    case, duty = _open_duty()
    version = registry.current_model(duty.model)
    duties.record(version, _found(outcome="resurfaced"))

    def seen(by: Organisation) -> list[str]:
        return [e.action for e in queries.events(by) if e.action.startswith("duty.")]

    assert seen(case.organisation) == ["duty.rerun", "duty.opened"]
    assert seen(factories.organisation("other")) == []


def test_the_letter_tells_what_is_kept_of_the_person() -> None:
    _, duty = _open_duty()

    block = letters._kept(duty)

    told = " ".join([block["heading"], *block["paragraphs"]])
    for words in ("They name you", "keyed fingerprints", "You may object", duty.basis):
        assert words in told
    assert f"{duty.ends_on:%d %B %Y} at the latest" in told
