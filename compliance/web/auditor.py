"""The pages of auditors: cases with their reports, and the log of record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.core.paginator import Paginator
from django.shortcuts import render
from django.views.decorators.http import require_safe

from compliance import audit
from compliance.models import AuditEvent, DocumentKind, Role

from . import queries
from .access import StaffRequest, staff_page

if TYPE_CHECKING:
    from django.http import HttpResponse

PAGE = 25
EVENTS = 50


@staff_page(Role.AUDITOR)
@require_safe
def cases(request: StaffRequest) -> HttpResponse:
    """Every case, newest first, with its report."""
    found = (
        queries.cases(request.organisation)
        .prefetch_related("documents")
        .order_by("-received_at", "-pk")
    )
    page = Paginator(found, PAGE).get_page(request.GET.get("page"))
    rows = [
        {
            "row": queries.row(case),
            "report": next(
                (d for d in case.documents.all() if d.kind == DocumentKind.REPORT), None
            ),
        }
        for case in page
    ]
    return render(request, "auditor/cases.html", {"page": page, "rows": rows})


@staff_page(Role.AUDITOR)
@require_safe
def events(request: StaffRequest) -> HttpResponse:
    """The log, newest first, and whether every event fits the one before."""
    page = Paginator(queries.events(request.organisation), EVENTS).get_page(request.GET.get("page"))
    return render(
        request,
        "auditor/events.html",
        {
            "page": page,
            "events": [queries.event_line(event) for event in page],
            "broken": audit.first_broken(),
            "last": AuditEvent.objects.order_by("-seq").first(),
        },
    )
