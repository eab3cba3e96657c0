"""The one next action of a case for whoever looks at it, and what else they may do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from django.urls import reverse

from compliance import flow
from compliance.models import Case, DecisionOutcome, Job, JobState, Role
from compliance.permissions import Actor, Allowed, Denied, Verdict
from compliance.statuses import Status
from compliance.steps import ending

from .queries import LIVE

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Action:
    """A button (a POST) or a link; where it is denied the reason stands beside it."""

    label: str
    url: str
    verdict: Verdict = field(default_factory=Allowed)
    post: bool = True


@dataclass(frozen=True)
class NextStep:
    """What to do now, in words, with at most one primary action."""

    heading: str
    text: str
    primary: Action | None = None
    others: tuple[Action, ...] = ()


@dataclass(frozen=True)
class Situation:
    """What the choice of the next action rests on."""

    case: Case
    live: bool
    failed: bool
    namesakes: int
    matched: bool
    code_sent: bool

    def url(self, name: str) -> str:
        return reverse(f"officer:{name}", args=[self.case.reference])


def situation(case: Case, jobs: list[Job], namesakes: int) -> Situation:
    """Read what is needed. `jobs`: the newest of each target."""
    checks = list(case.identity_checks.all())
    kind = flow.JOBS.get(Status(case.status))
    return Situation(
        case=case,
        live=any(job.state in LIVE for job in jobs),
        failed=any(
            job.kind == kind and job.state in (JobState.FAILED, JobState.CANCELLED) for job in jobs
        ),
        namesakes=namesakes,
        matched=any(check.matched_at for check in checks),
        code_sent=bool(checks),
    )


def next_step(now: Situation, actor: Actor) -> NextStep:
    """The next step as this person sees it."""
    case = now.case
    refusal = ending.pending_refusal(case)
    if actor.role == Role.AUDITOR:
        return NextStep("You are reading this case", "Officers and the legal team act on it.")
    if actor.role == Role.LEGAL:
        return _for_legal(now, actor, refusing=refusal is not None)
    if refusal is not None:
        return NextStep(
            "A refusal awaits the legal team",
            "Somebody in legal decides on it. The case stays where it is until then.",
        )
    step = _OFFICER[Status(case.status)](now, actor)
    return NextStep(step.heading, step.text, step.primary, (*step.others, *_refusing(case, actor)))


def _for_legal(now: Situation, actor: Actor, *, refusing: bool) -> NextStep:
    case = now.case
    others = () if refusing else _refusing(case, actor)
    decide = Action(
        "Open the approval page", reverse("legal:approval", args=[case.reference]), post=False
    )
    if refusing:
        return NextStep("Decide on the refusal", "A refusal was proposed.", decide)
    if case.status == Status.APPROVAL:
        return NextStep(
            "Decide on the measures", "An officer handed in the proposals.", decide, others
        )
    return NextStep("Nothing waits for you here", "The case is with somebody else.", None, others)


def _refusing(case: Case, actor: Actor) -> tuple[Action, ...]:
    if case.status not in ending.REFUSABLE:
        return ()
    url = reverse("officer:refusal", args=[case.reference])
    verdict = ending.may_propose_refusal(case, actor)
    return (Action("Propose a refusal", url, verdict, post=False),)


def _received(now: Situation, actor: Actor) -> NextStep:
    if now.namesakes > 1:
        return NextStep(
            "Choose the person on file",
            f"{now.namesakes} people on file have that name. Choose one.",
            Action("Go to the identity check", "#identity", post=False),
        )
    text = (
        "One person of this name is on file. The code goes to their address on file."
        if now.namesakes
        else "Nobody of this name is on file. The code goes to the address that was given."
    )
    return NextStep("Send the one-time code", text, Action("Send the code", now.url("send_code")))


def _identity(now: Situation, actor: Actor) -> NextStep:
    again = Action("Send a new code", now.url("send_code"))
    if now.namesakes > 1:
        again = Action("Send a new code", "#identity", post=False)
    if now.matched:
        return NextStep(
            "Confirm the identity",
            "The code was entered correctly. It shows that the mailbox is in the requester's "
            "hands, no more. Once you confirm, the search for targets starts.",
            Action("Confirm the identity", now.url("confirm")),
            (again,),
        )
    waiting = Denied("The code was not entered yet.")
    return NextStep(
        "Wait for the requester",
        "The code was sent. The requester enters it on the status page.",
        None,
        (Action("Confirm the identity", now.url("confirm"), waiting), again),
    )


def _working(now: Situation, heading: str) -> NextStep:
    if now.failed and not now.live:
        return NextStep(
            "Start the step again",
            "The last attempt ended without a result; the reason stands below.",
            Action("Start again", now.url("restart")),
        )
    return NextStep(heading, "The worker is on it. Nothing needs to be done meanwhile.")


def _targets(now: Situation, actor: Actor) -> NextStep:
    targets = list(now.case.targets.all())
    if not targets:
        return _working(now, "The search is running")
    if any(target.affected for target in targets):
        return NextStep(
            "Look at what was found",
            "Check the evidence of each target below, then go on.",
            Action("Go on to choosing methods", now.url("open_selection")),
        )
    return NextStep(
        "Nothing was found",
        "Check below how the search was done. If it is sound, end the case; the letter says how "
        "we searched.",
        Action("Confirm that nothing was found", now.url("nothing_found")),
    )


def _method(now: Situation, actor: Actor) -> NextStep:
    submit = Action(
        "Hand in for approval",
        now.url("submit"),
        flow.may_move(now.case, to=Status.APPROVAL, actor=actor),
    )
    if submit.verdict:
        return NextStep(
            "Hand in the proposals",
            "Every target has a proposal. Somebody in legal approves or returns them.",
            submit,
        )
    proposed = set(
        now.case.decisions.filter(outcome=DecisionOutcome.PENDING).values_list(
            "target_id", flat=True
        )
    )
    missing = now.case.targets.filter(affected=True).exclude(pk__in=proposed).order_by("pk").first()
    anchor = "#targets" if missing is None else f"#target-{missing.pk}"
    return NextStep(
        "Propose a method for each target",
        "The policy suggests one with its reasons; you decide what to propose.",
        Action("Go to the next target", anchor, post=False),
        (submit,),
    )


def _approval(now: Situation, actor: Actor) -> NextStep:
    return NextStep(
        "Wait for the legal team", "The proposals are handed in. Somebody in legal decides."
    )


def _application(now: Situation, actor: Actor) -> NextStep:
    return _working(now, "The measures are being applied")


def _verification(now: Situation, actor: Actor) -> NextStep:
    return _working(now, "The change is being measured")


def _documentation(now: Situation, actor: Actor) -> NextStep:
    close = flow.may_move(now.case, to=Status.CLOSED, actor=actor)
    if close:
        return NextStep(
            "Send the letter and close the case",
            "Read the letter below first: it is sent to the person.",
            Action("Send and close", now.url("close")),
        )
    return _working(now, "Report and letter are being written")


def _closed(now: Situation, actor: Actor) -> NextStep:
    return NextStep("The case is closed", "Report and letter lie below.")


_OFFICER: dict[Status, Callable[[Situation, Actor], NextStep]] = {
    Status.RECEIVED: _received,
    Status.IDENTITY: _identity,
    Status.TARGETS: _targets,
    Status.METHOD: _method,
    Status.APPROVAL: _approval,
    Status.APPLICATION: _application,
    Status.VERIFICATION: _verification,
    Status.DOCUMENTATION: _documentation,
    Status.CLOSED: _closed,
}
