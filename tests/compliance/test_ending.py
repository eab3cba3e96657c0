from __future__ import annotations

import pytest

from compliance import jobs
from compliance.models import Case, Job, JobKind, Outcome, Role
from compliance.permissions import PERSON, NotAllowed
from compliance.statuses import Status
from compliance.steps import ending
from tests.compliance import factories

pytestmark = pytest.mark.django_db
FACTS = "The loan ended this year; the records must be kept for five years."


def _case(status: Status) -> Case:
    case = factories.case(factories.organisation())
    Case.objects.filter(pk=case.pk).update(status=status)
    case.refresh_from_db()
    return case


@pytest.mark.parametrize("status", ending.REFUSABLE)
def test_refusal_by_two_people_ends_the_case(status: Status) -> None:
    case = _case(status)
    officer = factories.actor(Role.OFFICER, case.organisation)
    legal = factories.actor(Role.LEGAL, case.organisation)
    decision = ending.propose_refusal(case, actor=officer, ground="legal_obligation", facts=FACTS)
    assert Case.objects.get().status == status
    ending.decide_refusal(decision, actor=legal, approve=True, reasons="Checked and correct.")
    case.refresh_from_db()
    assert (case.status, case.outcome) == (Status.DOCUMENTATION, Outcome.REFUSED)
    assert Job.objects.get(state="ready").kind == JobKind.DOCUMENT


def test_returned_refusal_leaves_the_case_where_it_was() -> None:
    case = _case(Status.METHOD)
    officer = factories.actor(Role.OFFICER, case.organisation)
    legal = factories.actor(Role.LEGAL, case.organisation)
    decision = ending.propose_refusal(case, actor=officer, ground="legal_claims", facts=FACTS)
    ending.decide_refusal(decision, actor=legal, approve=False, reasons="No claim is open.")
    assert Case.objects.get().status == Status.METHOD
    assert ending.may_propose_refusal(case, officer)
    with pytest.raises(NotAllowed, match="decided already"):
        ending.decide_refusal(decision, actor=legal, approve=True, reasons="Second thoughts.")


def test_refusal_needs_a_ground_of_the_law_and_facts() -> None:
    case = _case(Status.METHOD)
    officer = factories.actor(Role.OFFICER, case.organisation)
    with pytest.raises(NotAllowed, match="Choose a ground"):
        ending.propose_refusal(case, actor=officer, ground="too busy", facts=FACTS)
    with pytest.raises(NotAllowed, match="Give your reasons"):
        ending.propose_refusal(case, actor=officer, ground="legal_claims", facts="no")


def test_legal_cannot_approve_a_refusal_of_their_own() -> None:
    case = _case(Status.TARGETS)
    legal = factories.actor(Role.LEGAL, case.organisation)
    decision = ending.propose_refusal(case, actor=legal, ground="legal_claims", facts=FACTS)
    with pytest.raises(NotAllowed, match="cannot decide on it"):
        ending.decide_refusal(decision, actor=legal, approve=True, reasons="I still think so.")
    other = factories.actor(Role.LEGAL, case.organisation, "legal-2")
    ending.decide_refusal(decision, actor=other, approve=True, reasons="Checked and correct.")
    assert Case.objects.get().outcome == Outcome.REFUSED


@pytest.mark.parametrize("status", [Status.VERIFICATION, Status.APPLICATION, Status.CLOSED])
def test_refusal_is_too_late_once_a_change_is_approved(status: Status) -> None:
    case = factories.case(factories.organisation())
    outcome = Outcome.FULFILLED if status == Status.CLOSED else ""
    Case.objects.filter(pk=case.pk).update(status=status, outcome=outcome)
    officer = factories.actor(Role.OFFICER, case.organisation)
    with pytest.raises(NotAllowed, match="can no longer be refused"):
        ending.propose_refusal(case, actor=officer, ground="legal_claims", facts=FACTS)


@pytest.mark.parametrize("status", ending.WITHDRAWABLE)
def test_withdrawal_by_the_person_ends_the_case(status: Status) -> None:
    case = _case(status)
    ending.withdraw(case, actor=PERSON)
    assert Case.objects.get().outcome == Outcome.WITHDRAWN


@pytest.mark.parametrize("status", [Status.DOCUMENTATION])
def test_withdrawal_is_too_late_once_the_answer_is_written(status: Status) -> None:
    case = _case(status)
    with pytest.raises(NotAllowed, match="no longer be withdrawn"):
        ending.withdraw(case, actor=PERSON)


def test_staff_cannot_withdraw_for_the_person() -> None:
    case = _case(Status.METHOD)
    with pytest.raises(NotAllowed, match="Only Requester"):
        ending.withdraw(case, actor=factories.actor(Role.OFFICER, case.organisation))


def test_nothing_found_needs_a_finished_search_without_hits() -> None:
    case = _case(Status.TARGETS)
    officer = factories.actor(Role.OFFICER, case.organisation)
    with pytest.raises(NotAllowed, match="not finished"):
        ending.nothing_found(case, actor=officer)
    model = factories.model(case.organisation)
    target = factories.target(case, model, {"birth_city": 1})
    with pytest.raises(NotAllowed, match="was found"):
        ending.nothing_found(case, actor=officer)
    target.affected = False
    target.save()
    with pytest.raises(NotAllowed, match="gave out the contact"):
        ending.nothing_found(case, actor=officer)
    target.summary["facts"][0]["hits"] = 0
    target.save()
    ending.nothing_found(case, actor=officer)
    assert Case.objects.get().outcome == Outcome.NOTHING_FOUND


def test_withdrawal_while_a_job_runs_stops_the_job() -> None:
    case = _case(Status.TARGETS)
    job = jobs.claim(jobs.start(JobKind.FIND, case=case).pk)
    ending.withdraw(case, actor=PERSON)
    assert Case.objects.get().outcome == Outcome.WITHDRAWN
    with pytest.raises(jobs.LeaseLost):
        jobs.hold(job)
