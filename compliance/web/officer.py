"""The pages of compliance officers: the queue and the case. The legal team and auditors read them.

Views ask and call steps; steps write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db import transaction
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from compliance import audit, flow, subjects
from compliance.models import Case, Document, DocumentKind, Role, Target
from compliance.statuses import Status
from compliance.steps import documentation, ending, step2_identity, step4_method

from . import actions, case_view, queries
from .access import REFUSALS, StaffRequest, attempt, note_read, staff_page, words
from .forms import FilterForm, FindForm, PersonForm, ProposeForm, RefusalForm, RevealForm

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = 25
READERS = (Role.OFFICER, Role.LEGAL, Role.AUDITOR)
ACTING = (Role.OFFICER, Role.LEGAL)
TABS = {"open": "Open", "waiting": "Waiting for me", "closed": "Closed"}


@staff_page(*ACTING)
@require_safe
def queue(request: StaffRequest) -> HttpResponse:
    """Cases by due date, in three tabs, with a filter."""
    cases = queries.cases(request.organisation)
    wanted = {
        "open": queries.OPEN,
        "waiting": queries.OPEN & queries.waiting_for(request.actor.role),
        "closed": ~queries.OPEN,
    }
    tab = request.GET.get("tab", "open")
    if tab not in wanted:
        tab = "open"
    form = FilterForm(request.GET)
    given = form.cleaned_data if form.is_valid() else {}
    found = cases.filter(wanted[tab])
    if given.get("q"):
        found = found.filter(reference__icontains=given["q"].strip())
    if given.get("status"):
        found = found.filter(status=given["status"])
    page = Paginator(found, PAGE).get_page(request.GET.get("page"))
    return render(
        request,
        "officer/queue.html",
        {
            "tabs": [
                {"id": name, "label": TABS[name], "count": cases.filter(which).count()}
                for name, which in wanted.items()
            ],
            "tab": tab,
            "filter": form,
            "find": FindForm(),
            "filtered": bool(given.get("q") or given.get("status")),
            "page": page,
            "rows": [queries.row(case) for case in page],
        },
    )


@staff_page(*ACTING)
@require_POST
def find(request: StaffRequest) -> HttpResponse:
    """Cases of a person by keyed digest; that somebody searched is an event of the log."""
    form = FindForm(request.POST)
    rows = []
    if form.is_valid():
        same = subjects.cases_of(request.organisation, form.cleaned_data["person"])
        found = queries.cases(request.organisation).filter(pk__in=same.values("pk"))
        rows = [queries.row(case) for case in found]
        with transaction.atomic():
            audit.record("subject.searched", actor=request.actor, found=len(rows))
    return render(
        request, "officer/found.html", {"form": form, "rows": rows, "asked": form.is_valid()}
    )


@staff_page(*READERS)
@require_safe
def case(request: StaffRequest, reference: str) -> HttpResponse:
    """The case page; that it was read is an event of the log."""
    found = queries.find_case(request.organisation, reference)
    note_read(request, found)
    if found.shredded_at is not None:
        return _shredded(request, found)
    return _case_page(request, found)


def _shredded(request: StaffRequest, found: Case) -> HttpResponse:
    """What is left of a case whose personal data was destroyed."""
    return render(
        request,
        "officer/shredded.html",
        {
            "case": found,
            "documents": found.documents.order_by("-kind"),
            "events": [queries.event_line(e) for e in found.events.order_by("-seq")],
        },
    )


def _case_page(
    request: StaffRequest,
    found: Case,
    *,
    revealed: bool = False,
    reveal: RevealForm | None = None,
    bound: dict[int, ProposeForm] | None = None,
) -> HttpResponse:
    status = Status(found.status)
    officer = request.actor.role == Role.OFFICER
    jobs = case_view.latest_jobs(found)
    checking = status in (Status.RECEIVED, Status.IDENTITY)
    people = case_view.namesakes(found) if officer and checking else []
    if people:
        note_read(request, found, "subject.looked_up")
    forms = [form for form in (reveal, *(bound or {}).values()) if form is not None]
    return render(
        request,
        "officer/case.html",
        {
            "case": found,
            "status": status,
            "evidence": queries.evidence(found) if revealed else [],
            "due": queries.due(found.due_at, closed=found.closed_at is not None),
            "law": case_view.law_of(found),
            "steps": case_view.steps(found),
            "next": actions.next_step(actions.situation(found, jobs, len(people)), request.actor),
            "jobs": case_view.job_lines(jobs),
            "live": any(job.state in queries.LIVE for job in jobs) and not revealed,
            "people": people,
            "checks": found.identity_checks.select_related("confirmed_by").order_by("-sent_at"),
            "on_file": case_view.on_file_name(found) if request.actor.role in ACTING else "",
            "now": timezone.now(),
            "revealed": revealed,
            "reveal": reveal or RevealForm(),
            "may_reveal": request.actor.role in ACTING,
            "targets": case_view.target_views(found, proposing=officer, bound=bound),
            "refusals": case_view.refusals(found),
            "documents": found.documents.order_by("-kind"),
            "events": [queries.event_line(e) for e in found.events.order_by("-seq")],
            "wrong_forms": [form for form in forms if form.errors],
        },
    )


@staff_page(*ACTING)
@require_POST
def reveal(request: StaffRequest, reference: str) -> HttpResponse:
    """Show the personal data on this one answer; who looked and why goes into the log."""
    found = queries.find_case(request.organisation, reference)
    form = RevealForm(request.POST)
    if not form.is_valid():
        return _case_page(request, found, reveal=form)
    with transaction.atomic():
        audit.record(
            "subject.revealed",
            actor=request.actor,
            case=found,
            purpose=form.cleaned_data["purpose"],
        )
    return _case_page(request, found, revealed=True)


def _act(
    request: StaffRequest, reference: str, act: Callable[[Case], object], done: str
) -> HttpResponse:
    found = queries.find_case(request.organisation, reference)
    attempt(request, lambda: act(found), done)
    return redirect("officer:case", reference)


@staff_page(Role.OFFICER)
@require_POST
def send_code(request: StaffRequest, reference: str) -> HttpResponse:
    """Step 2: the one-time code, to the person on file that was chosen."""
    form = PersonForm(request.POST)
    chosen = form.cleaned_data["subject_id"] if form.is_valid() else ""
    return _act(
        request,
        reference,
        lambda found: step2_identity.send_code(found, actor=request.actor, subject_id=chosen),
        "The code was sent.",
    )


@staff_page(Role.OFFICER)
@require_POST
def confirm(request: StaffRequest, reference: str) -> HttpResponse:
    """Step 2: the identity is confirmed; the search starts."""
    return _act(
        request,
        reference,
        lambda found: step2_identity.confirm(found, actor=request.actor),
        "Identity confirmed. The search for targets has started.",
    )


@staff_page(Role.OFFICER)
@require_POST
def open_selection(request: StaffRequest, reference: str) -> HttpResponse:
    """Step 3 is looked at; on to step 4."""
    return _act(
        request,
        reference,
        lambda found: step4_method.open_selection(found, actor=request.actor),
        "Propose a method for each target.",
    )


@staff_page(Role.OFFICER)
@require_POST
def nothing_found(request: StaffRequest, reference: str) -> HttpResponse:
    """The search found nothing."""
    return _act(
        request,
        reference,
        lambda found: ending.nothing_found(found, actor=request.actor),
        "Report and letter are being written.",
    )


@staff_page(Role.OFFICER)
@require_POST
def propose(request: StaffRequest, reference: str, pk: int) -> HttpResponse:
    """Step 4: a method for one target."""
    found = queries.find_case(request.organisation, reference)
    target = get_object_or_404(Target.objects.select_related("case"), pk=pk, case=found)
    form = ProposeForm(
        request.POST,
        methods=step4_method.methods_for(found, target),
        prefix=f"target-{target.pk}",
    )
    if form.is_valid():
        try:
            step4_method.propose(target, actor=request.actor, **form.cleaned_data)
        except REFUSALS as error:
            form.add_error(None, words(error))
        else:
            messages.success(request, f"Proposal for “{target.name}” recorded.")
            return redirect("officer:case", reference)
    return _case_page(request, found, bound={target.pk: form})


@staff_page(Role.OFFICER)
@require_POST
def submit(request: StaffRequest, reference: str) -> HttpResponse:
    """Step 4: hand the proposals in."""
    return _act(
        request,
        reference,
        lambda found: step4_method.submit(found, actor=request.actor),
        "The proposals were handed in for approval.",
    )


@staff_page(*ACTING)
def refusal(request: StaffRequest, reference: str) -> HttpResponse:
    """Propose a refusal on a ground of the case's law."""
    found = queries.find_case(request.organisation, reference)
    law = case_view.law_of(found)
    form = RefusalForm(request.POST if request.method == "POST" else None, pack=law["pack"])
    if request.method == "POST" and form.is_valid():
        try:
            ending.propose_refusal(found, actor=request.actor, **form.cleaned_data)
        except REFUSALS as error:
            form.add_error(None, words(error))
        else:
            messages.success(request, "The refusal was proposed. Another person decides on it.")
            return redirect("officer:case", reference)
    return render(
        request,
        "officer/refusal.html",
        {
            "case": found,
            "law": law,
            "form": form,
            "verdict": ending.may_propose_refusal(found, request.actor),
        },
    )


@staff_page(Role.OFFICER)
@require_POST
def restart(request: StaffRequest, reference: str) -> HttpResponse:
    """Start the failed jobs of the step again."""
    return _act(
        request,
        reference,
        lambda found: flow.restart_jobs(found, actor=request.actor),
        "The step was started again.",
    )


@staff_page(Role.OFFICER)
@require_POST
def close(request: StaffRequest, reference: str) -> HttpResponse:
    """Send the letter and close."""
    return _act(
        request,
        reference,
        lambda found: documentation.close(found, actor=request.actor),
        "The letter was sent and the case is closed.",
    )


@staff_page(*READERS)
@require_safe
def progress(request: StaffRequest, reference: str) -> HttpResponse:
    """The progress panel alone; when no job lives any more, the whole page is loaded again."""
    found = queries.find_case(request.organisation, reference)
    jobs = case_view.latest_jobs(found)
    live = any(job.state in queries.LIVE for job in jobs)
    context: dict[str, Any] = {"case": found, "jobs": case_view.job_lines(jobs), "live": live}
    answer = render(request, "officer/_progress.html", context)
    if not live:
        answer["HX-Refresh"] = "true"
    return answer


def _document(request: StaffRequest, found: Case, kind: str) -> Document:
    made = found.documents.filter(kind=kind).first() if kind in DocumentKind.values else None
    if made is None or (kind == DocumentKind.LETTER and request.actor.role == Role.AUDITOR):
        # The letter names the person; an auditor reads the report, which does not.
        raise Http404
    return made


@staff_page(*READERS)
@require_safe
def document(request: StaffRequest, reference: str, kind: str) -> HttpResponse:
    """Report or letter; the download is an event of the log."""
    made = _document(request, queries.find_case(request.organisation, reference), kind)
    try:
        content = documentation.download(made, actor=request.actor)
    except REFUSALS as error:
        messages.error(request, words(error))
        return redirect("officer:case", reference)
    return HttpResponse(
        content,
        content_type="application/pdf",
        headers={"Content-Disposition": f'attachment; filename="{made.file_name}"'},
    )


@staff_page(*READERS)
@require_safe
def proof(request: StaffRequest, reference: str, kind: str) -> HttpResponse:
    """The proof (C2SP tlog-proof) that a document as delivered stands in the log."""
    made = _document(request, queries.find_case(request.organisation, reference), kind)
    try:
        content = documentation.proof(made, actor=request.actor)
    except REFUSALS as error:
        messages.error(request, words(error))
        return redirect("officer:case", reference)
    name = f"{made.file_name}.tlog-proof"
    return HttpResponse(
        content,
        content_type="text/plain; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )
