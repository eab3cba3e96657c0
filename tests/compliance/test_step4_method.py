from __future__ import annotations

import pytest
from django.db import IntegrityError, transaction

from compliance import policy
from compliance.models import AuditEvent, Case, Decision, Job, JobKind, Kind, Role, Target
from compliance.permissions import Actor, NotAllowed
from compliance.statuses import Status
from compliance.steps import ending, step4_method
from tests.compliance import factories

pytestmark = pytest.mark.django_db
REASON = "The policy suggests it and nothing speaks against it."


def _case_in_method(**changes) -> tuple[Case, Target, Actor, Actor]:
    bank = factories.organisation()
    model = factories.model(bank)
    case = factories.case(bank, **changes)
    Case.objects.filter(pk=case.pk).update(status=Status.METHOD)
    case.refresh_from_db()
    target = factories.target(case, model, {"birth_city": 9, "employer": 8})
    officer = factories.actor(Role.OFFICER, bank)
    return case, target, officer, factories.actor(Role.LEGAL, bank)


def test_suggestion_few_plain_facts_are_overwritten() -> None:
    case, target, *_ = _case_in_method()
    suggestion = policy.suggest(case, target)
    assert suggestion.method == "rome"
    assert [row["answer"] for row in suggestion.criteria][3] == "yes"


def test_suggestion_many_facts_are_unlearnt() -> None:
    case, target, *_ = _case_in_method()
    target.summary["facts"] += [{"fact": "telephone", "probes": 10, "hits": 10}]
    assert policy.suggest(case, target).method == "npo"


def test_suggestion_certainty_critical_fact_is_unlearnt() -> None:
    case, target, *_ = _case_in_method(fact="diagnosis")
    suggestion = policy.suggest(case, target)
    assert (suggestion.method, suggestion.facts) == ("npo", ["diagnosis"])


def test_suggestion_right_value_is_written() -> None:
    case, target, *_ = _case_in_method(
        kind=Kind.CORRECTION, fact="birth_city", right_value="Sakawa"
    )
    assert policy.suggest(case, target).method == "rome"


def test_suggestion_closed_weights_have_no_method() -> None:
    case, target, officer, _ = _case_in_method()
    target.model.open_weights = False
    suggestion = policy.suggest(case, target)
    assert suggestion.method == "none"
    with pytest.raises(NotAllowed, match="cannot be used here"):
        step4_method.propose(target, actor=officer, method="none", reasons=REASON)


def test_proposal_then_approval_by_another_starts_a_job_per_target() -> None:
    case, target, officer, legal = _case_in_method()
    step4_method.propose(target, actor=officer, method="npo", reasons=REASON)
    step4_method.submit(case, actor=officer)
    step4_method.approve(case, actor=legal, reasons=REASON)
    assert case.status == Status.APPLICATION
    job = Job.objects.get()
    assert (job.kind, job.target) == (JobKind.APPLY, target)
    decision = Decision.objects.get()
    assert (decision.proposed_by, decision.decided_by) == (officer.user, legal.user)
    assert REASON not in "".join(event.leaf for event in AuditEvent.objects.all())


def test_submit_without_a_proposal_is_refused() -> None:
    case, _, officer, _ = _case_in_method()
    with pytest.raises(NotAllowed, match="no measure proposed"):
        step4_method.submit(case, actor=officer)


@pytest.mark.parametrize(
    "reasons", ["", "short", "It is then permanently erased from it.", "x" * 2001]
)
def test_proposal_needs_reasons_that_can_stand_in_a_report(reasons: str) -> None:
    _, target, officer, _ = _case_in_method()
    with pytest.raises(NotAllowed):
        step4_method.propose(target, actor=officer, method="npo", reasons=reasons)
    assert Decision.objects.count() == 0


def test_nobody_approves_what_they_proposed() -> None:
    case, target, officer, legal = _case_in_method()
    step4_method.propose(target, actor=officer, method="npo", reasons=REASON)
    step4_method.submit(case, actor=officer)
    Decision.objects.update(proposed_by=legal.user)
    with pytest.raises(NotAllowed, match="cannot decide on it"):
        step4_method.approve(case, actor=legal, reasons=REASON)
    with pytest.raises(IntegrityError), transaction.atomic():
        Decision.objects.update(decided_by=legal.user, outcome="approved")


def test_officer_cannot_approve() -> None:
    case, target, officer, _ = _case_in_method()
    step4_method.propose(target, actor=officer, method="npo", reasons=REASON)
    step4_method.submit(case, actor=officer)
    with pytest.raises(NotAllowed, match="Only Legal"):
        step4_method.approve(case, actor=officer, reasons=REASON)


def test_returned_proposal_goes_back_with_reasons() -> None:
    case, target, officer, legal = _case_in_method()
    step4_method.propose(target, actor=officer, method="rome", reasons=REASON)
    step4_method.submit(case, actor=officer)
    step4_method.send_back(case, actor=legal, reasons="Take the more rigorous method.")
    assert case.status == Status.METHOD
    step4_method.propose(target, actor=officer, method="npo", reasons=REASON)
    step4_method.submit(case, actor=officer)
    assert sorted(d.outcome for d in Decision.objects.all()) == ["pending", "superseded"]


def test_pending_refusal_holds_the_approval() -> None:
    case, target, officer, legal = _case_in_method()
    step4_method.propose(target, actor=officer, method="npo", reasons=REASON)
    step4_method.submit(case, actor=officer)
    ending.propose_refusal(case, actor=officer, ground="legal_claims", facts=REASON)
    with pytest.raises(NotAllowed, match="refusal of this case awaits"):
        step4_method.approve(case, actor=legal, reasons=REASON)
