"""The pages of the person who asks: file a request, follow it, withdraw it, read the answer."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from compliance import vault
from compliance.models import Case, DocumentKind, Kind, Organisation, Outcome
from compliance.permissions import PERSON
from compliance.secret import find_case
from compliance.statuses import Status
from compliance.steps import documentation, ending, step1_intake, step2_identity

from .access import REFUSALS, attempt, words
from .forms import CodeForm, RequestForm, StatusForm
from .queries import fact_labels

# One answer for an unknown reference and for a wrong secret.
UNKNOWN = "No request with this reference and secret. Check both."

PLAIN_STEPS = (
    ("We received your request", "We read it and prepare the identity check."),
    ("Identity check", "You enter a one-time code that we send by e-mail; a person confirms it."),
    ("Search", "We search the training data and ask the models what they say about you."),
    ("Decision", "One person proposes what is done and why; another one decides."),
    ("Change", "The measure is carried out on a copy of the model or the data."),
    ("Check of the result", "The copy is measured by a plan fixed before the change."),
    ("Our answer", "You get a letter with what was done, the figures and your rights."),
)


@dataclass(frozen=True)
class PlainStep:
    """A step in plain words; `state` is done, current or todo."""

    name: str
    text: str
    state: str


@login_not_required
@require_safe
def start(request: HttpRequest) -> HttpResponse:
    """What can be asked here and how it goes on."""
    return render(request, "public/start.html", {"steps": PLAIN_STEPS})


@login_not_required
@never_cache
def request_form(request: HttpRequest) -> HttpResponse:
    """The request form."""
    organisations = list(Organisation.objects.order_by("name"))
    if not organisations:
        return render(request, "public/not_ready.html", status=503)
    form = RequestForm(
        request.POST if request.method == "POST" else None,
        organisations=organisations,
        facts=fact_labels(organisations[0] if len(organisations) == 1 else None),
    )
    if request.method == "POST" and form.is_valid():
        case, secret = step1_intake.receive(form.organisation_chosen, form.request)
        # A session rests in the database, so the secret lies there sealed until it is shown.
        sealed = base64.b64encode(vault.seal(secret.encode(), vault.house_key())).decode()
        request.session["filed"] = {"case": case.pk, "secret": sealed}
        return redirect("public:filed")
    return render(
        request,
        "public/request.html",
        {"form": form, "organisation": organisations[0] if len(organisations) == 1 else None},
    )


@login_not_required
@never_cache
@require_safe
def filed(request: HttpRequest) -> HttpResponse:
    """Reference and secret, once."""
    kept = request.session.pop("filed", None)
    if kept is None:
        return redirect("public:status")
    secret = vault.unseal(base64.b64decode(kept["secret"])).decode()
    case = Case.objects.select_related("organisation").get(pk=kept["case"])
    return render(
        request,
        "public/filed.html",
        {"case": case, "secret": secret, "steps": PLAIN_STEPS},
    )


@login_not_required
@never_cache
def status(request: HttpRequest) -> HttpResponse:
    """Where the request stands; without a case in the session, the form that opens one."""
    case = _case(request)
    if case is not None:
        return _status(request, case, CodeForm())
    form = StatusForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        found = find_case(form.cleaned_data["reference"], form.cleaned_data["secret"])
        if found is not None:
            request.session.cycle_key()
            request.session["case"] = found.pk
            return redirect("public:status")
        # What was entered is not shown again, so that the two answers are one.
        return render(
            request,
            "public/status_form.html",
            {"form": StatusForm(), "wrong_forms": [UNKNOWN], "unknown": UNKNOWN},
        )
    return render(request, "public/status_form.html", {"form": form})


def _case(request: HttpRequest) -> Case | None:
    """The case this session opened with its secret."""
    key = request.session.get("case")
    if key is None:
        return None
    return Case.objects.filter(pk=key).select_related("organisation", "subject").first()


def _required(request: HttpRequest) -> Case:
    case = _case(request)
    if case is None:
        raise Http404
    return case


def _status(request: HttpRequest, case: Case, form: CodeForm) -> HttpResponse:
    letter = case.documents.filter(kind=DocumentKind.LETTER).first()
    last = case.identity_checks.order_by("-sent_at").first()
    return render(
        request,
        "public/status.html",
        {
            "case": case,
            "steps": _plain_steps(case),
            "heading": _heading(case),
            "form": form,
            "code_wanted": case.status == Status.IDENTITY
            and last is not None
            and last.matched_at is None,
            "code_entered": case.status == Status.IDENTITY
            and last is not None
            and last.matched_at is not None,
            "withdrawable": case.status in ending.WITHDRAWABLE,
            "letter": letter if case.status == Status.CLOSED else None,
        },
    )


def _heading(case: Case) -> str:
    if case.status != Status.CLOSED:
        return PLAIN_STEPS[Status(case.status).step - 1][0]
    return {
        Outcome.FULFILLED: "Your request has been carried out",
        Outcome.REFUSED: "Your request was refused",
        Outcome.WITHDRAWN: "You withdrew your request",
        Outcome.NOTHING_FOUND: "We found nothing about you",
    }[Outcome(case.outcome)]


def _plain_steps(case: Case) -> list[PlainStep]:
    """The steps on the way; those that a refused or withdrawn request never takes are left out."""
    now = Status(case.status).step
    closed = case.status == Status.CLOSED
    early = case.outcome not in ("", Outcome.FULFILLED)
    skipped = range(4, 7) if case.outcome in (Outcome.REFUSED, Outcome.NOTHING_FOUND) else ()
    if case.outcome == Outcome.WITHDRAWN:
        skipped = range(2, 7)
    steps = []
    for number, (name, text) in enumerate(PLAIN_STEPS, 1):
        if early and number in skipped:
            continue
        done = number < now or closed
        steps.append(PlainStep(name, text, "done" if done else _state(number, now)))
    return steps


def _state(number: int, now: int) -> str:
    return "current" if number == now else "todo"


@login_not_required
@never_cache
@require_POST
def code(request: HttpRequest) -> HttpResponse:
    """The one-time code of the identity check."""
    case = _required(request)
    form = CodeForm(request.POST)
    if form.is_valid():
        try:
            step2_identity.enter_code(case, form.cleaned_data["code"])
        except REFUSALS as error:
            form.add_error("code", words(error))
        else:
            messages.success(request, "Thank you. The code is right; one of us confirms it next.")
            return redirect("public:status")
    return _status(request, case, form)


@login_not_required
@never_cache
def withdraw(request: HttpRequest) -> HttpResponse:
    """Ask whether the request is really to be withdrawn, then withdraw it."""
    case = _required(request)
    if case.status not in ending.WITHDRAWABLE:
        messages.error(request, "The request can no longer be withdrawn.")
        return redirect("public:status")
    if request.method == "POST":
        attempt(
            request,
            lambda: ending.withdraw(case, actor=PERSON),
            "Your request is withdrawn. A letter that confirms it follows.",
        )
        return redirect("public:status")
    return render(
        request, "public/withdraw.html", {"case": case, "removal": case.kind == Kind.REMOVAL}
    )


@login_not_required
@never_cache
@require_safe
def letter(request: HttpRequest) -> HttpResponse:
    """The letter of a closed case."""
    case = _required(request)
    found = case.documents.filter(kind=DocumentKind.LETTER).first()
    if case.status != Status.CLOSED or found is None:
        raise Http404
    try:
        content = documentation.download(found, actor=PERSON)
    except REFUSALS as error:
        messages.error(request, words(error))
        return redirect("public:status")
    return HttpResponse(
        content,
        content_type="application/pdf",
        headers={"Content-Disposition": f'attachment; filename="{found.file_name}"'},
    )


@login_not_required
@require_POST
def leave(request: HttpRequest) -> HttpResponse:
    """Close the case in this browser."""
    request.session.pop("case", None)
    messages.success(request, "The request is no longer open in this browser.")
    return redirect("public:status")
