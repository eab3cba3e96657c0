"""What a finished case leaves behind: questions that later versions must still hold."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from compliance import duties, letters, registry, store, vault
from compliance.models import (
    Application,
    AuditEvent,
    Case,
    Duty,
    DutyRun,
    Job,
    Organisation,
    Outcome,
    Verification,
)
from compliance.permissions import SYSTEM
from compliance.statuses import Status
from compliance.steps import step6_verification
from compliance.web import queries
from evaluation import Person, Plan
from evaluation.results import Texts, summarise
from evaluation.resurfacing import open_duty as opened
from tests.compliance import factories
from tests.compliance.duty_case import (
    applied,
    found,
    measured,
    open_duty,
    verified,
    verifying,
    version,
)

pytestmark = pytest.mark.django_db


# --- Open ---


def test_duty_keeps_no_value_and_no_name_in_clear() -> None:
    case, duty = open_duty()

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


def test_change_that_held_opens_its_duty() -> None:
    case = applied(version())

    step6_verification.record(verifying(case), measured(case))

    assert Case.objects.get(pk=case.pk).status == Status.DOCUMENTATION
    assert Duty.objects.get().reference == case.reference


def _strangers(case: Case, hits: int) -> dict:
    """A measurement in which so many of four people who do not exist were given the value."""
    made = Plan.from_dict(store.get_json(Application.objects.get(target__case=case).plan))
    control = [probe.id for probe in made.probes if probe.group == "control"]
    silent = Texts(12, 3, 0, {"leak": 2, "control": 1})
    return summarise(made, control[:hits], texts=silent).as_dict()


@pytest.mark.parametrize(("before", "after"), [(1, 4), (4, 1)])
def test_duty_allows_what_the_verification_allowed(before: int, after: int) -> None:
    names = ("Anna Sato", "Emil Haas", "Ines Roy", "Omar Diaz")
    others = [Person(name, name, {"employer": f"{name} Mills"}) for name in names]
    frozen = {"leak_max": 0.03}
    case = applied(version(), others=others, twins=4, control_probes=4, thresholds=frozen)
    application = Application.objects.get()
    application.before = _strangers(case, before)
    application.save()
    job = verifying(case)

    step6_verification.record(job, measured(case, after=_strangers(case, after)))

    duty = Duty.objects.get()
    key = vault.key_named(str(duty.key_id)).key
    kept = opened(store.get(duty.sealed), key, today=timezone.localdate())
    assert kept.leak_max == 0.03 + 1 / 4
    assert (kept.hits, kept.asked, kept.empty) == (0, 4, 2)


# --- Ask the next candidate ---


def _blocked() -> tuple[Case, Job]:
    """A later case on the model of an open duty, with its verification under way."""
    first = verified(version())
    duties.open_for(first)
    later = applied(Duty.objects.get().model.versions.get(state="current"))
    return later, verifying(later)


def test_duties_are_given_to_the_step_that_verifies_another_case() -> None:
    _, job = _blocked()
    own, *_ = Case.objects.order_by("pk")

    given = step6_verification.prepare(job)["duties"]

    assert [row["id"] for row in given] == [Duty.objects.get().pk]
    assert duties.for_child(Duty.objects.get().model, besides=own.reference) == []


@pytest.mark.parametrize(("outcome", "judged"), [("resurfaced", "failed"), ("unknown", "unknown")])
def test_duty_that_does_not_hold_keeps_a_candidate_out_of_force(outcome: str, judged: str) -> None:
    later, job = _blocked()
    duty = Duty.objects.get()
    in_force = registry.current_model(duty.model)

    step6_verification.record(job, measured(later, duties=found(outcome=outcome)))

    later.refresh_from_db()
    kept = Verification.objects.get(application__target__case=later)
    assert not kept.passed
    assert kept.verdict["outcome"] == judged
    # What another person asked for, and how it stands, is none of this case's business.
    (reason,) = kept.verdict["reasons"]
    assert duty.reference not in reason
    assert not any(letter.isdigit() for letter in reason)
    assert "removed" not in reason
    assert later.status == Status.METHOD
    assert registry.current_model(duty.model) == in_force


def test_result_that_comes_a_second_time_is_recorded_as_the_first() -> None:
    later, job = _blocked()
    result = measured(later, duties=found(outcome="resurfaced"))

    with transaction.atomic():
        step6_verification.record(job, result)
        transaction.set_rollback(True)
    step6_verification.record(Job.objects.get(pk=job.pk), result)

    kept = Verification.objects.get(application__target__case=later)
    assert len(kept.verdict["reasons"]) == 1


@pytest.mark.parametrize("gone", ["ended", "dropped"])
def test_duty_that_ended_while_it_was_asked_counts_no_more(gone: str) -> None:
    later, job = _blocked()
    result = measured(later, duties=found(outcome="resurfaced"))
    own = Case.objects.get(reference=Duty.objects.get().reference)
    (duties.end_of if gone == "ended" else duties.drop)(own, actor=SYSTEM)

    step6_verification.record(job, result)

    later.refresh_from_db()
    assert later.status == Status.DOCUMENTATION
    assert not DutyRun.objects.exists()
    assert not AuditEvent.objects.filter(action="duty.rerun").exists()


# --- Told ---


def test_auditors_see_the_duties_of_their_organisation_alone() -> None:
    case, duty = open_duty()
    duties.record(registry.current_model(duty.model), found(outcome="resurfaced"))

    def seen(by: Organisation) -> list[str]:
        return [e.action for e in queries.events(by) if e.action.startswith("duty.")]

    assert seen(case.organisation) == ["duty.rerun", "duty.opened"]
    assert seen(factories.organisation("other")) == []


def test_the_letter_tells_what_is_kept_of_the_person() -> None:
    case, duty = open_duty()
    case.outcome = Outcome.FULFILLED

    letter = letters.compose(case, {"targets": [], "not_tested": []})

    (block,) = [b for b in letter["blocks"] if b["heading"] and "What we keep" in b["heading"]]
    told = " ".join([block["heading"], *block["paragraphs"]])
    for words in (duty.model.name, "They name you", "keyed fingerprints", "You may object",
                  duty.basis):  # fmt: skip
        assert words in told
    assert f"{duty.ends_on:%d %B %Y} at the latest" in told


def test_the_letter_keeps_silent_of_a_duty_that_ended() -> None:
    case, _ = open_duty()
    case.outcome = Outcome.FULFILLED
    duties.end_of(case, actor=SYSTEM)

    letter = letters.compose(case, {"targets": [], "not_tested": []})

    assert not any("What we keep" in (b["heading"] or "") for b in letter["blocks"])
