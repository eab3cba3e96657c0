"""The legal team's queue and its decisions."""

from __future__ import annotations

import pytest
from django.urls import reverse

from compliance.models import DecisionOutcome, Outcome, Role
from compliance.permissions import staff
from compliance.statuses import Status
from compliance.steps import ending
from compliance.web import legal
from tests.web import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def lawyer(client, place):
    account = factories.user(Role.LEGAL, place)
    client.force_login(account)
    return account


def decide(client, case, what: str, decision: str, reasons: str = factories.REASONS):
    url = reverse(f"legal:decide_{what}", args=[case.reference])
    prefix = "measures" if what == "measures" else "refusal"
    given = {f"{prefix}-reasons": reasons, "decision": decision, "seen": legal.seen(case)}
    return client.post(url, given, follow=True)


def refusal(case, account):
    return ending.propose_refusal(
        case, actor=staff(account), ground="legal_claims", facts=factories.REASONS
    )


def test_queue_holds_what_awaits_a_decision(client, place, lawyer):
    factories.received(place)
    waiting, _ = factories.received(place, days=3)
    factories.proposed(waiting)
    refused, _ = factories.received(place)
    refusal(refused, factories.user(Role.OFFICER, place))
    rows = client.get(reverse("legal:queue")).context["rows"]
    assert [row.case for row in rows] == [waiting, refused]


def test_approval_page_shows_all_that_is_needed(client, place, lawyer):
    case, _ = factories.received(place)
    factories.proposed(case)
    text = client.get(reverse("legal:approval", args=[case.reference])).content.decode()
    for words in ("How many facts?", factories.REASONS, "96.9 %", "layer 2", "Approve and start"):
        assert words in text


def test_approving_starts_the_application(client, place, lawyer):
    case, _ = factories.received(place)
    factories.proposed(case)
    decide(client, case, "measures", "approve")
    case.refresh_from_db()
    assert case.status == Status.APPLICATION
    assert set(case.decisions.values_list("outcome", flat=True)) == {DecisionOutcome.APPROVED}


def test_returning_sends_the_case_back_to_the_officer(client, place, lawyer):
    case, _ = factories.received(place)
    factories.proposed(case)
    decide(client, case, "measures", "return")
    case.refresh_from_db()
    assert case.status == Status.METHOD


@pytest.mark.parametrize("what", ["measures", "refusal"])
def test_a_decision_needs_reasons(client, place, lawyer, what):
    case, _ = factories.received(place)
    factories.proposed(case)
    refusal(case, factories.user(Role.OFFICER, place))
    answer = decide(client, case, what, "approve", reasons="no")
    assert "Give your reasons in a sentence or more." in answer.content.decode()
    assert "<title>Error: " in answer.content.decode()
    case.refresh_from_db()
    assert case.status == Status.APPROVAL


def test_a_case_that_moved_on_is_told_so(client, place, lawyer):
    case, _ = factories.received(place)
    factories.approved(case)
    answer = decide(client, case, "measures", "approve")
    assert "The case is in “Applying”" in answer.content.decode()


def test_own_refusal_cannot_be_decided(client, place, lawyer):
    case, _ = factories.received(place)
    refusal(case, lawyer)
    text = client.get(reverse("legal:approval", args=[case.reference])).content.decode()
    assert "Whoever made this proposal cannot decide on it." in text
    answer = decide(client, case, "refusal", "approve")
    assert "Whoever made this proposal cannot decide on it." in answer.content.decode()
    case.refresh_from_db()
    assert case.status == Status.RECEIVED


def test_approved_refusal_ends_the_case(client, place, lawyer):
    case, _ = factories.received(place)
    refusal(case, factories.user(Role.OFFICER, place))
    decide(client, case, "refusal", "approve")
    case.refresh_from_db()
    assert (case.status, case.outcome) == (Status.DOCUMENTATION, Outcome.REFUSED)


def test_returned_refusal_leaves_the_case_where_it_is(client, place, lawyer):
    case, _ = factories.received(place)
    refusal(case, factories.user(Role.OFFICER, place))
    decide(client, case, "refusal", "return")
    case.refresh_from_db()
    assert case.status == Status.RECEIVED
    answer = decide(client, case, "refusal", "return")
    assert "This refusal was decided already." in answer.content.decode()


def test_legal_may_propose_a_refusal_of_any_open_case(client, place, lawyer):
    case, _ = factories.received(place)
    url = reverse("officer:refusal", args=[case.reference])
    client.post(url, {"ground": "legal_claims", "facts": factories.REASONS})
    assert case.decisions.get().proposed_by == lawyer
