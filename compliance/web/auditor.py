"""The pages of auditors: cases with their reports, and the log of record."""

from __future__ import annotations

from pathlib import Path

from django.contrib import messages
from django.core.paginator import Paginator
from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_safe

from compliance import audit, audit_check
from compliance.models import DocumentKind, Role
from reports import transparency_log

from . import queries
from .access import REFUSALS, StaffRequest, staff_page, words

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
    """The log, newest first, and whether it is the one that was signed."""
    page = Paginator(queries.events(request.organisation), EVENTS).get_page(request.GET.get("page"))
    return render(
        request,
        "auditor/events.html",
        {
            "page": page,
            "events": [queries.event_line(event) for event in page],
            "check": audit_check.verify(),
        },
    )


def _file(content: str, name: str) -> HttpResponse:
    return HttpResponse(
        content,
        content_type="text/plain; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


@staff_page(Role.AUDITOR)
@require_safe
def checkpoint(request: StaffRequest) -> HttpResponse:
    """The log as it is now, signed: kept elsewhere it shows every later change."""
    with transaction.atomic():
        audit.record("log.exported", actor=request.actor, what="checkpoint")
    try:
        note = audit.checkpoint()
    except REFUSALS as error:
        messages.error(request, words(error))
        return redirect("auditor:events")
    return _file(note, f"lethe-{note.splitlines()[1]}.checkpoint")


@staff_page(Role.AUDITOR)
@require_safe
def key(request: StaffRequest) -> HttpResponse:
    """The public key of the log."""
    return _file(audit.verifier_key_text(), "log.vkey")


@staff_page(Role.AUDITOR)
@require_safe
def verifier(request: StaffRequest) -> HttpResponse:
    """The one-file verifier: standard library and `cryptography`, nothing of Lethe."""
    return _file(Path(transparency_log.__file__).read_text(), "transparency_log.py")
