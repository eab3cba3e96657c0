"""The retention pages of the legal team: what is due for destruction, and legal holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import messages
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from compliance import policy, retention
from compliance.models import Case, Outcome, Role

from . import queries
from .access import StaffRequest, attempt, note_read, staff_page
from .forms import HoldForm

if TYPE_CHECKING:
    from django.http import HttpResponse


@staff_page(Role.LEGAL)
@require_safe
def review(request: StaffRequest) -> HttpResponse:
    """The list that is looked at before anything is destroyed."""
    periods = policy.policy().retention
    found = retention.review(request.organisation)
    for item in found.held:  # the reason of a hold may be personal
        note_read(request, item.case)
    return render(
        request,
        "legal/retention.html",
        {
            "review": found,
            "periods": [(Outcome(name).label, periods[name]) for name in Outcome.values],
            "stalled_days": periods["stalled"],
        },
    )


def _chosen(request: StaffRequest) -> list[Case]:
    return list(
        Case.objects.filter(
            organisation=request.organisation, reference__in=request.POST.getlist("case")
        ).order_by("pk")
    )


@staff_page(Role.LEGAL)
@require_POST
def confirm(request: StaffRequest) -> HttpResponse:
    """Ask once more, with what goes and what stays."""
    cases = _chosen(request)
    if not cases:
        messages.error(request, "Choose at least one case.")
        return redirect("legal:retention")
    return render(request, "legal/shred.html", {"cases": cases})


@staff_page(Role.LEGAL)
@require_POST
def shred(request: StaffRequest) -> HttpResponse:
    """Destroy the personal data of the cases that were confirmed."""
    cases = _chosen(request)
    count = len(cases)
    attempt(
        request,
        lambda: retention.shred_reviewed(cases, actor=request.actor),
        f"The personal data of {count} {'case' if count == 1 else 'cases'} was destroyed.",
    )
    return redirect("legal:retention")


@staff_page(Role.LEGAL)
def hold(request: StaffRequest, reference: str) -> HttpResponse:
    """Place a legal hold, with its reason."""
    case = queries.find_case(request.organisation, reference)
    form = HoldForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        attempt(
            request,
            lambda: retention.place_hold(
                case, actor=request.actor, reason=form.cleaned_data["reason"]
            ),
            f"{case.reference} is under a legal hold.",
        )
        return redirect("legal:retention")
    return render(request, "legal/hold.html", {"case": case, "form": form})


@staff_page(Role.LEGAL)
@require_POST
def lift(request: StaffRequest, reference: str) -> HttpResponse:
    """Lift a legal hold."""
    case = queries.find_case(request.organisation, reference)
    attempt(
        request,
        lambda: retention.lift_hold(case, actor=request.actor),
        f"The hold of {case.reference} is lifted.",
    )
    return redirect("legal:retention")
