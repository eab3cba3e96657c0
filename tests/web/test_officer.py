"""The officer's queue and the case page."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from compliance.models import (
    AuditEvent,
    Decision,
    DecisionOutcome,
    Job,
    JobState,
    Role,
)
from compliance.permissions import staff
from compliance.statuses import Status
from compliance.steps import ending
from compliance.web import queries
from tests.web import factories, results
from tests.web.case_page import act, page

pytestmark = pytest.mark.django_db


# --- The queue ---


def test_queue_is_sorted_by_due_date(client, place, officer):
    late, _ = factories.received(place, days=40)
    fresh, _ = factories.received(place)
    soon, _ = factories.received(place, days=27)
    rows = client.get(reverse("officer:queue")).context["rows"]
    assert [row.case for row in rows] == [late, soon, fresh]
    assert [row.due.colour for row in rows] == ["red", "yellow", "green"]


@pytest.mark.parametrize(
    ("days", "text", "colour"),
    [
        (8, "8 days left", "green"),
        (7, "7 days left", "yellow"),
        (1, "1 day left", "yellow"),
        (0, "due today", "yellow"),
        (-2, "overdue by 2 days", "red"),
    ],
)
def test_due_badge_says_it_in_words(days, text, colour):
    badge = queries.due(timezone.now() + timedelta(days=days), closed=False)
    assert (badge.text, badge.colour) == (text, colour)


def test_tabs_count_open_waiting_and_closed(client, place, officer):
    factories.received(place)
    searching, _ = factories.received(place)
    factories.searching(searching)
    done, _ = factories.received(place)
    factories.closed(done)
    tabs = client.get(reverse("officer:queue")).context["tabs"]
    assert [tab["count"] for tab in tabs] == [2, 1, 1]


def test_filter_by_reference_and_status(client, place, officer):
    wanted, _ = factories.received(place)
    factories.received(place)
    for query in (
        {"q": wanted.reference[6:].lower()},
        {"q": wanted.reference, "status": "received"},
    ):
        rows = client.get(reverse("officer:queue"), query).context["rows"]
        assert [row.case for row in rows] == [wanted]
    assert client.get(reverse("officer:queue"), {"status": "closed"}).context["rows"] == []


@pytest.mark.parametrize(
    ("role", "name"),
    [
        (Role.OFFICER, "officer:queue"),
        (Role.LEGAL, "legal:queue"),
        (Role.AUDITOR, "auditor:cases"),
        (Role.AUDITOR, "auditor:events"),
        (Role.STEWARD, "steward:models"),
    ],
)
def test_lists_ask_the_same_for_one_row_and_three(client, place, role, name):
    client.force_login(factories.user(role, place))
    counts = []
    for more in (1, 2):
        for _ in range(more):
            case, _ = factories.received(place)
            factories.closed(case) if role in (Role.AUDITOR, Role.STEWARD) else (
                factories.proposed(case)
            )
        with CaptureQueriesContext(connection) as asked:
            assert client.get(reverse(name)).status_code == 200
        counts.append(len(asked))
    assert counts[0] == counts[1]


# --- From received to closed ---


def test_officer_walks_the_identity_check(client, place, officer):
    case, _ = factories.received(place)
    assert page(client, case).context["next"].heading == "Send the one-time code"
    assert "The code was sent." in act(client, case, "send_code")
    assert page(client, case).context["next"].heading == "Wait for the requester"
    early = act(client, case, "confirm")
    assert "Not done." in early
    assert "The code was not entered yet." in early
    case.refresh_from_db()
    factories.code_entered(case)
    assert page(client, case).context["next"].primary.label == "Confirm the identity"
    act(client, case, "confirm")
    case.refresh_from_db()
    assert case.status == Status.TARGETS


def test_namesakes_must_be_told_apart(client, place, officer):
    case, _ = factories.received(place, name="Anou Vong")
    text = page(client, case).content.decode()
    assert "a•••@mail.example" in text
    assert "anou.v@mail.example" not in text
    assert "Choose one of them" in act(client, case, "send_code")
    act(client, case, "send_code", {"subject_id": "c-003"})
    case.refresh_from_db()
    assert case.subject.on_file["subject"] == "c-003"


def test_officer_proposes_and_hands_in(client, place, officer):
    case, _ = factories.received(place)
    factories.searched(case)
    act(client, case, "open_selection")
    view = page(client, case)
    assert view.context["next"].heading == "Propose a method for each target"
    assert "A target has no measure proposed yet." in view.content.decode()
    for target in case.targets.all():
        method = "npo" if target.model else "delete_rows"
        given = {
            f"target-{target.pk}-method": method,
            f"target-{target.pk}-reasons": factories.REASONS,
        }
        act(client, case, "propose", given, target.pk)
    assert page(client, case).context["next"].primary.label == "Hand in for approval"
    act(client, case, "submit")
    case.refresh_from_db()
    assert case.status == Status.APPROVAL


@pytest.mark.parametrize(
    ("reasons", "error"),
    [
        ("short", "Give your reasons in a sentence or more."),
        ("The fact is then permanently gone.", "Say it without “permanently”"),
    ],
)
def test_reasons_that_cannot_stand_come_back(client, place, officer, reasons, error):
    case, _ = factories.received(place)
    factories.selecting(case)
    target = case.targets.exclude(model=None).get()
    given = {f"target-{target.pk}-method": "npo", f"target-{target.pk}-reasons": reasons}
    text = act(client, case, "propose", given, target.pk)
    assert error in text
    assert reasons in text
    assert "<title>Error: " in text
    assert Decision.objects.count() == 0


def test_a_method_that_is_not_offered_is_refused(client, place, officer):
    case, _ = factories.received(place)
    factories.selecting(case)
    target = case.targets.exclude(dataset=None).get()
    given = {f"target-{target.pk}-method": "npo", f"target-{target.pk}-reasons": factories.REASONS}
    assert "There is a problem" in act(client, case, "propose", given, target.pk)


def test_a_move_that_is_not_possible_is_told_on_the_page(client, place, officer):
    case, _ = factories.received(place)
    for name in ("open_selection", "submit", "nothing_found", "restart", "close"):
        assert "Not done." in act(client, case, name)


def test_nothing_found_is_confirmed(client, place, officer):
    case, _ = factories.received(place)
    factories.searched(case, affected=False)
    assert page(client, case).context["next"].heading == "Nothing was found"
    act(client, case, "nothing_found")
    case.refresh_from_db()
    assert case.outcome == "nothing_found"


def test_failed_job_shows_its_reason_and_can_be_started_again(client, place, officer):
    case, _ = factories.received(place)
    job = factories.searching(case)
    Job.objects.filter(pk=job.pk).update(
        state=JobState.FAILED, attempt=3, error="The step ran past its time limit."
    )
    view = page(client, case)
    assert "The step ran past its time limit." in view.content.decode()
    assert view.context["next"].primary.label == "Start again"
    act(client, case, "restart")
    assert case.jobs.filter(state=JobState.READY).count() == 1


def test_progress_polls_while_a_job_lives(client, place, officer):
    case, _ = factories.received(place)
    job = factories.searching(case)
    url = reverse("officer:progress", args=[case.reference])
    Job.objects.filter(pk=job.pk).update(
        state=JobState.RUNNING, attempt=1, stage="Asking the model", done=30, total=120
    )
    answer = client.get(url)
    assert 'hx-trigger="every 2s"' in answer.content.decode()
    assert "Asking the model: 30 of 120" in answer.content.decode()
    assert "HX-Refresh" not in answer
    factories.finished(job)
    answer = client.get(url)
    assert "hx-trigger" not in answer.content.decode()
    assert answer["HX-Refresh"] == "true"


# --- Personal data ---


def test_personal_data_is_masked(client, place, officer):
    case, _ = factories.received(place)
    text = page(client, case).content.decode()
    for personal in ("Malee", "malee@post.example", "my diagnosis"):
        assert personal not in text


def test_reveal_is_logged_and_shown_once(client, place, officer):
    case, _ = factories.received(place)
    text = act(client, case, "reveal", {"purpose": "identity"})
    assert "Malee Tanaka" in text
    event = case.events.get(action="subject.revealed")
    assert f'"actor":"officer {officer.reference}"' in event.leaf
    assert '"purpose":"identity"' in event.leaf
    assert "Malee" not in event.leaf
    assert "Malee" not in page(client, case).content.decode()


def test_reveal_without_purpose_shows_nothing(client, place, officer):
    case, _ = factories.received(place)
    text = act(client, case, "reveal")
    assert "Choose why you need to see the personal data." in text
    assert "Malee" not in text
    assert case.events.filter(action="subject.revealed").count() == 0


# --- Refusal and documents ---


def test_refusal_needs_a_ground_and_facts(client, place, officer):
    case, _ = factories.received(place)
    url = reverse("officer:refusal", args=[case.reference])
    assert sorted(client.post(url).context["form"].errors) == ["facts", "ground"]
    given = {"ground": "legal_claims", "facts": factories.REASONS}
    assert client.post(url, given).status_code == 302
    assert case.decisions.get().outcome == DecisionOutcome.PENDING
    assert "awaits decision already" in client.get(url).content.decode()
    assert page(client, case).context["next"].heading == "A refusal awaits the legal team"


def test_second_refusal_is_told_on_the_form(client, place, officer):
    case, _ = factories.received(place)
    ending.propose_refusal(
        case, actor=staff(officer), ground="legal_claims", facts=factories.REASONS
    )
    given = {"ground": "legal_claims", "facts": factories.REASONS}
    answer = client.post(reverse("officer:refusal", args=[case.reference]), given)
    assert answer.context["form"].non_field_errors() == [
        "A refusal of this case awaits decision already."
    ]


def test_document_download_is_logged(client, place, officer):
    case, _ = factories.received(place)
    factories.closed(case)
    answer = client.get(reverse("officer:document", args=[case.reference, "report"]))
    assert answer.content == results.PDF
    assert case.events.last().action == "document.downloaded"


def test_unknown_document_is_not_there(client, place, officer):
    case, _ = factories.received(place)
    for kind in ("report", "invoice"):
        url = reverse("officer:document", args=[case.reference, kind])
        assert client.get(url).status_code == 404


def test_cases_of_a_person_are_found_by_exact_name_and_the_search_is_logged(client, place, officer):
    case, _ = factories.received(place)
    url = reverse("officer:find")
    name = case.subject.details["name"]
    text = client.post(url, {"person": name.upper()}).content.decode()
    assert case.reference in text
    assert case.reference not in client.post(url, {"person": "Somebody Else"}).content.decode()
    assert "Enter a name" in client.post(url, {}).content.decode()
    assert client.get(url, {"person": name}).status_code == 405
    searched = AuditEvent.objects.filter(action="subject.searched")
    assert [json.loads(event.leaf)["facts"]["found"] for event in searched] == [1, 0]
    assert name not in "".join(event.leaf for event in searched)
