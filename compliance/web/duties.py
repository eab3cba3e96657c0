"""The duties of finished cases: what is still asked of later versions, and its end by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.shortcuts import redirect, render
from django.views.decorators.http import require_safe

from compliance import duties
from compliance.models import DutyEnd, Role

from . import queries
from .access import StaffRequest, attempt, staff_page
from .forms import EndDutyForm

if TYPE_CHECKING:
    from django.http import HttpResponse


@staff_page(Role.LEGAL)
@require_safe
def listed(request: StaffRequest) -> HttpResponse:
    """The open duties of each model, with the newest answer and what it keeps out of force."""
    return render(request, "legal/duties.html", {"models": queries.duties(request.organisation)})


@staff_page(Role.LEGAL)
def end(request: StaffRequest, reference: str) -> HttpResponse:
    """Ask for the reason; then end the duties of a case."""
    case = queries.find_case(request.organisation, reference)
    form = EndDutyForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        reason = DutyEnd(form.cleaned_data["reason"])
        attempt(
            request,
            lambda: duties.end_by_hand(case, actor=request.actor, reason=reason, via="page"),
            f"Later versions are not asked for {case.reference} any more.",
        )
        return redirect("legal:duties")
    return render(request, "legal/end_duty.html", {"case": case, "form": form})
