"""The review list, holds and clocks: nothing is destroyed by a date alone."""

from __future__ import annotations

from datetime import timedelta

import pytest
import time_machine
from django.conf import settings
from django.utils import timezone

from compliance import audit, jobs, policy, retention, shredding, store
from compliance.models import AuditEvent, Case, Job, Outcome, Role
from compliance.permissions import PERSON, Actor, NotAllowed
from compliance.statuses import Status
from compliance.steps import documentation, ending
from reports.signature import make_demo_certificate
from reports.transparency_log import open_proof
from reports.verify import verify
from tests.compliance import factories
from tests.web import factories as pages

pytestmark = pytest.mark.django_db
REASON = "A court asked for the file on 3 November."


def _closed(outcome: Outcome, days_ago: int) -> tuple[Case, Actor]:
    bank = factories.organisation()
    legal = factories.actor(Role.LEGAL, bank)
    case = factories.case(bank)
    Case.objects.filter(pk=case.pk).update(
        status=Status.CLOSED,
        outcome=outcome,
        closed_at=timezone.now() - timedelta(days=days_ago),
    )
    return Case.objects.get(pk=case.pk), legal


def test_policy_has_a_period_for_every_outcome_and_for_what_stalls() -> None:
    assert set(policy.policy().retention) == {*Outcome.values, "stalled"}
    assert all(days > 0 for days in policy.policy().retention.values())


@pytest.mark.parametrize("outcome", Outcome)
def test_every_end_state_comes_onto_the_list_and_not_before(outcome: Outcome) -> None:
    days = policy.policy().retention[outcome]
    case, legal = _closed(outcome, days - 1)
    found = retention.review(case.organisation)
    assert ([item.case for item in found.due], [i.case for i in found.coming]) == ([], [case])
    with pytest.raises(NotAllowed, match="is kept until"):
        retention.shred_reviewed([case], actor=legal)
    Case.objects.filter(pk=case.pk).update(closed_at=timezone.now() - timedelta(days=days))
    assert [item.case for item in retention.review(case.organisation).due] == [case]
    case.refresh_from_db()
    assert retention.shred_reviewed([case], actor=legal) == 1
    case.refresh_from_db()
    assert case.shredded_at is not None
    assert retention.review(case.organisation).due == []
    event = AuditEvent.objects.get(action="case.shredded")
    assert legal.reference in event.leaf


def test_hold_keeps_a_case_until_it_is_lifted() -> None:
    case, legal = _closed(Outcome.WITHDRAWN, 5000)
    retention.place_hold(case, actor=legal, reason=REASON)
    found = retention.review(case.organisation)
    assert (found.due, [item.hold.reason for item in found.held]) == ([], [REASON])
    with pytest.raises(NotAllowed, match="legal hold"):
        retention.shred_reviewed([case], actor=legal)
    with pytest.raises(NotAllowed, match="already"):
        retention.place_hold(case, actor=legal, reason=REASON)
    retention.lift_hold(case, actor=legal)
    with pytest.raises(NotAllowed, match="no legal hold"):
        retention.lift_hold(case, actor=legal)
    case = Case.objects.get(pk=case.pk)
    assert retention.shred_reviewed([case], actor=legal) == 1
    leaves = "".join(AuditEvent.objects.values_list("leaf", flat=True))
    assert "court" not in leaves


def test_one_case_that_may_not_keeps_all_of_them() -> None:
    case, legal = _closed(Outcome.WITHDRAWN, 5000)
    held, _ = factories.case(case.organisation), None
    Case.objects.filter(pk=held.pk).update(
        status=Status.CLOSED, outcome=Outcome.REFUSED, closed_at=timezone.now()
    )
    held = Case.objects.get(pk=held.pk)
    with pytest.raises(NotAllowed, match=held.reference):
        retention.shred_reviewed([case, held], actor=legal)
    case.refresh_from_db()
    assert case.shredded_at is None


def test_another_organisations_legal_team_cannot() -> None:
    case, _ = _closed(Outcome.WITHDRAWN, 5000)
    stranger = factories.actor(Role.LEGAL, factories.organisation("shop"))
    with pytest.raises(NotAllowed, match="another organisation"):
        retention.shred_reviewed([case], actor=stranger)
    with pytest.raises(NotAllowed, match="another organisation"):
        retention.place_hold(case, actor=stranger, reason=REASON)


def test_nothing_chosen_is_told() -> None:
    legal = factories.actor(Role.LEGAL, factories.organisation())
    with pytest.raises(NotAllowed, match="at least one"):
        retention.shred_reviewed([], actor=legal)


def test_case_in_which_nothing_happens_is_listed() -> None:
    """An identity that was never confirmed, a measure that never held: failed, and kept."""
    bank = factories.organisation()
    with time_machine.travel(timezone.now() - timedelta(days=181)):
        case = factories.case(bank)
    factories.case(bank)
    (item,) = retention.review(bank).stalled
    assert (item.case, item.days) == (case, 181)


@pytest.mark.parametrize(
    ("days", "words"), [(-1, "later than"), (-400, "later than"), (400, "jumped")]
)
def test_clock_that_looks_wrong_is_told_before_anybody_decides(days: int, words: str) -> None:
    case, _ = _closed(Outcome.WITHDRAWN, 1)
    assert retention.clock_warning() == ""
    with time_machine.travel(timezone.now() + timedelta(days=days)):
        assert words in retention.review(case.organisation).clock


def test_report_of_a_shredded_case_stays_valid() -> None:
    """The auditor's report is signed, in the log, and opens after the case's key is gone."""
    if not (settings.KEY_DIR / "signing").exists():
        make_demo_certificate(settings.KEY_DIR / "signing", "Tests")
    bank = factories.organisation()
    case = factories.case(bank)
    ending.withdraw(case, actor=PERSON)
    jobs.run(Job.objects.get().pk)
    officer = factories.actor(Role.OFFICER, bank)
    case = documentation.close(Case.objects.get(pk=case.pk), actor=officer)
    shredding.shred(case, actor=officer, reason="test")
    report = case.documents.get(kind="report")
    assert verify(store.get(report.artefact)).valid
    proof = documentation.proof(report, actor=officer)
    leaf, _, _ = open_proof(proof, audit.verifier_key())
    assert report.sha256 in leaf.decode()


# --- Pages ---


def test_legal_reviews_confirms_and_shreds(client) -> None:
    case, legal = _closed(Outcome.WITHDRAWN, 5000)
    client.force_login(legal.user)
    text = client.get("/approvals/retention/").content.decode()
    assert case.reference in text
    text = client.post("/approvals/retention/confirm/", {"case": [case.reference]}).content.decode()
    assert "This cannot be taken back." in text
    case.refresh_from_db()
    assert case.shredded_at is None
    answer = client.post("/approvals/retention/shred/", {"case": [case.reference]}, follow=True)
    assert "was destroyed" in answer.content.decode()
    page = client.get(f"/cases/{case.reference}/").content.decode()
    assert "personal data of this case was destroyed" in page


def test_hold_page_needs_a_reason(client) -> None:
    case, legal = _closed(Outcome.WITHDRAWN, 5000)
    client.force_login(legal.user)
    url = f"/approvals/{case.reference}/hold/"
    assert "Give your reasons" in client.post(url, {"reason": "no"}).content.decode()
    assert (
        "is under a legal hold"
        in client.post(url, {"reason": REASON}, follow=True).content.decode()
    )
    assert REASON in client.get("/approvals/retention/").content.decode()
    assert "is lifted" in client.post(f"{url}lift/", follow=True).content.decode()


def test_nothing_chosen_on_the_page_is_told(client) -> None:
    _, legal = _closed(Outcome.WITHDRAWN, 5000)
    client.force_login(legal.user)
    answer = client.post("/approvals/retention/confirm/", follow=True)
    assert "Choose at least one case." in answer.content.decode()


def test_officers_do_not_see_the_list(client) -> None:
    bank = factories.organisation()
    client.force_login(factories.user(Role.OFFICER, bank))
    assert client.get("/approvals/retention/").status_code == 403


def test_steward_pauses_and_resumes_on_the_page(client) -> None:
    place = pages.organisation()
    client.force_login(pages.user(Role.STEWARD, place))
    assert "Say why" in client.post("/models/pause/", {}).content.decode()
    answer = client.post("/models/pause/", {"reason": "New disks."}, follow=True).content.decode()
    assert "All jobs are paused" in answer
    assert "New disks." in answer
    assert "The jobs go on." in client.post("/models/resume/", follow=True).content.decode()
