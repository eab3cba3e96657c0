"""The pages of the legal team: what awaits a decision, and everything needed to decide."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import messages
from django.core.paginator import Paginator
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from compliance.decisions import may_decide
from compliance.models import Case, Decision, DecisionOutcome, Role
from compliance.permissions import Actor, Denied, Verdict
from compliance.statuses import Status
from compliance.steps import ending, step4_method

from . import case_view, queries
from .access import REFUSALS, StaffRequest, note_read, staff_page, words
from .forms import ReasonsForm

if TYPE_CHECKING:
    from django.http import HttpResponse

PAGE = 25


@staff_page(Role.LEGAL)
@require_safe
def queue(request: StaffRequest) -> HttpResponse:
    """Cases with measures or a refusal to decide on, the most urgent first."""
    found = queries.cases(request.organisation).filter(queries.OPEN & queries.WAITS_FOR_LEGAL)
    page = Paginator(found, PAGE).get_page(request.GET.get("page"))
    return render(
        request,
        "legal/queue.html",
        {"page": page, "rows": [queries.row(case) for case in page]},
    )


def _pending(case: Case) -> list[Decision]:
    return list(
        case.decisions.filter(target__isnull=False, outcome=DecisionOutcome.PENDING)
        .select_related("proposed_by", "target__model", "target__dataset")
        .order_by("pk")
    )


def _may_decide_all(decisions: list[Decision], actor: Actor) -> Verdict:
    """The first refusal among several proposals, else the permission."""
    verdicts = [may_decide(decision, actor) for decision in decisions]
    for verdict in verdicts:
        if not verdict:
            return verdict
    return verdicts[0] if verdicts else Denied("No proposal awaits a decision.")


@staff_page(Role.LEGAL)
@require_safe
def approval(request: StaffRequest, reference: str) -> HttpResponse:
    """The proposals with their criteria and evidence."""
    case = queries.find_case(request.organisation, reference)
    note_read(request, case)
    return _page(request, case)


def _page(
    request: StaffRequest,
    case: Case,
    *,
    measures: ReasonsForm | None = None,
    refusal_form: ReasonsForm | None = None,
) -> HttpResponse:
    pending = _pending(case) if case.status == Status.APPROVAL else []
    refusal = ending.pending_refusal(case)
    law = case_view.law_of(case)
    grounds = {ground.id: ground for ground in law["pack"].refusal_grounds}
    given = [form for form in (measures, refusal_form) if form is not None]
    return render(
        request,
        "legal/approval.html",
        {
            "case": case,
            "status": Status(case.status),
            "due": queries.due(case.due_at, closed=case.closed_at is not None),
            "law": law,
            "steps": case_view.steps(case),
            "targets": case_view.target_views(case, proposing=False),
            "pending": pending,
            "measures": measures or ReasonsForm(prefix="measures"),
            "may_decide_measures": _may_decide_all(pending, request.actor),
            "refusal": refusal,
            "ground": None if refusal is None else grounds.get(refusal.ground),
            "refusal_form": refusal_form or ReasonsForm(prefix="refusal"),
            "may_decide_refusal": None if refusal is None else may_decide(refusal, request.actor),
            "may_propose_refusal": ending.may_propose_refusal(case, request.actor),
            "seen": seen(case),
            "wrong_forms": [form for form in given if form.errors],
        },
    )


CHANGED = "The proposals changed after you opened this page. Read them again, then decide."


def seen(case: Case) -> str:
    """What a decision page shows: the numbers of the proposals that are pending."""
    pending = case.decisions.filter(outcome=DecisionOutcome.PENDING).order_by("pk")
    return "-".join(str(number) for number in pending.values_list("pk", flat=True))


@staff_page(Role.LEGAL)
@require_POST
def decide_measures(request: StaffRequest, reference: str) -> HttpResponse:
    """Approve the proposals or return them."""
    case = queries.find_case(request.organisation, reference)
    form = ReasonsForm(request.POST, prefix="measures")
    approve = request.POST.get("decision") == "approve"
    if request.POST.get("seen") != seen(case):
        form.add_error(None, CHANGED)
    if form.is_valid():
        decide = step4_method.approve if approve else step4_method.send_back
        try:
            decide(case, actor=request.actor, reasons=form.cleaned_data["reasons"])
        except REFUSALS as error:
            form.add_error(None, words(error))
        else:
            done = "Approved. The measures are being applied." if approve else "Returned."
            messages.success(request, f"{case.reference}: {done}")
            return redirect("legal:queue")
    case.refresh_from_db()
    return _page(request, case, measures=form)


@staff_page(Role.LEGAL)
@require_POST
def decide_refusal(request: StaffRequest, reference: str) -> HttpResponse:
    """Approve the refusal, which ends the case, or return it."""
    case = queries.find_case(request.organisation, reference)
    decision = ending.pending_refusal(case)
    form = ReasonsForm(request.POST, prefix="refusal")
    approve = request.POST.get("decision") == "approve"
    if decision is None:
        messages.error(request, "This refusal was decided already.")
        return redirect("legal:approval", reference)
    if request.POST.get("seen") != seen(case):
        form.add_error(None, CHANGED)
    if form.is_valid():
        try:
            ending.decide_refusal(
                decision,
                actor=request.actor,
                approve=approve,
                reasons=form.cleaned_data["reasons"],
            )
        except REFUSALS as error:
            form.add_error(None, words(error))
        else:
            done = "The refusal is approved." if approve else "The refusal was returned."
            messages.success(request, f"{case.reference}: {done}")
            return redirect("legal:queue")
    return _page(request, queries.find_case(request.organisation, reference), refusal_form=form)
