"""Drive three cases through the flow as their people would: requester, officer, legal.

Every act is the step function that the pages call; every heavy step is done by the real worker.
The one-time codes are read from the e-mails that were sent.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings
from django.utils import timezone

from . import policy
from .models import Case, Job, JobState, Kind, Verification
from .permissions import staff
from .statuses import Status
from .steps import documentation, ending, step1_intake, step2_identity, step4_method

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from .demonstration import Office

PATIENCE_SECONDS = 600
POLL_SECONDS = 0.2
BAR_WIDTH = 24
MAIL_END = "-" * 79


class RehearsalFailed(Exception):
    """The demonstration cannot go on; the message says where it stopped."""


@dataclass
class Part:
    """One of the three requests and what becomes of it."""

    title: str
    request: step1_intake.Request
    refusal: tuple[str, str] | None = None
    case: Case | None = None
    seen: set[str] = field(default_factory=set)


def parts() -> list[Part]:
    """The three requests; the people are in demo/people.json."""
    from demo.people import people

    by_language = {
        language: [p for p in people() if p.language == language] for language in ("th", "ja", "en")
    }
    removed, corrected, refused = (by_language[code][0] for code in ("th", "ja", "en"))
    other_city = next(p.birth_city for p in people() if p.birth_city != corrected.birth_city)
    return [
        Part(
            "removal by unlearning",
            step1_intake.Request(
                kind=Kind.REMOVAL,
                name=removed.native_name,
                contact=removed.email,
                statement="Delete everything that your assistant knows of me.",
                law="th-pdpa",
            ),
        ),
        Part(
            "correction by editing",
            step1_intake.Request(
                kind=Kind.CORRECTION,
                name=corrected.name,
                contact=corrected.email,
                fact="birth_city",
                right_value=other_city,
                law="gdpr",
                statement="Your assistant states a wrong place of birth.",
            ),
        ),
        Part(
            "refusal on a legal ground",
            step1_intake.Request(
                kind=Kind.REMOVAL,
                name=refused.name,
                contact=refused.email,
                law="gdpr",
                statement="Delete my data from your model.",
            ),
            refusal=(
                "legal_obligation",
                "The customer's loan ended this year. The rules against money laundering oblige "
                "the bank to keep its records for five years after the end of the relation.",
            ),
        ),
    ]


class Rehearsal:
    """The three cases, advanced whenever one waits for a person."""

    def __init__(self, office: Office, write: Callable[[str], object]) -> None:
        self.office = office
        self.write = write
        self.parts = parts()
        self.officer = staff(office.user("officer"))
        self.legal = staff(office.user("legal"))
        self.started = time.monotonic()

    def run(self, worker: subprocess.Popen) -> None:
        """Until all cases are closed. Raises RehearsalFailed with the reason."""
        self.file()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while any(part.case.status != Status.CLOSED for part in self.parts if part.case):
            if worker.poll() is not None:
                raise RehearsalFailed("The worker ended. See the lines above.")
            if time.monotonic() > deadline:
                raise RehearsalFailed(f"Not finished after {PATIENCE_SECONDS} s.")
            for part in self.parts:
                self.advance(part)
            time.sleep(POLL_SECONDS)

    def file(self) -> None:
        """The three people file their requests."""
        for part in self.parts:
            part.case, _ = step1_intake.receive(self.office.organisation, part.request)
            self.say(part, "received")

    def say(self, part: Part, text: str) -> None:
        seconds = time.monotonic() - self.started
        reference = part.case.reference if part.case else ""
        self.write(f"{seconds:6.1f} s  {reference}  {part.title:26} {text}")

    def advance(self, part: Part) -> None:
        """Do what the case waits for, if it waits for a person."""
        case = part.case
        if case is None or case.status == Status.CLOSED:
            return
        case.refresh_from_db()
        self.show_jobs(part, case)
        if case.jobs.filter(state__in=(JobState.READY, JobState.RUNNING)).exists():
            return
        act = {
            Status.RECEIVED: self.identify,
            Status.IDENTITY: self.confirm,
            Status.TARGETS: self.select,
            Status.METHOD: self.propose,
            Status.APPROVAL: self.approve,
            Status.DOCUMENTATION: self.close,
        }.get(Status(case.status))
        if act is not None:
            act(part, case)
            case.refresh_from_db()

    # --- What people do ---

    def identify(self, part: Part, case: Case) -> None:
        step2_identity.send_code(case, actor=self.officer)
        self.say(part, "one-time code sent to the e-mail on file")

    def confirm(self, part: Part, case: Case) -> None:
        step2_identity.enter_code(case, code_from_mail(case))
        step2_identity.confirm(case, actor=self.officer)
        self.say(part, "identity confirmed by the officer")

    def select(self, part: Part, case: Case) -> None:
        found = ", ".join(
            f"{target.name}: {sum(fact['hits'] for fact in target.summary['facts'])} hits"
            if target.model
            else f"{target.name}: {target.summary['records']} records"
            for target in case.targets.all()
        )
        self.say(part, f"found ({found})")
        if part.refusal is not None:
            ground, facts = part.refusal
            decision = ending.propose_refusal(case, actor=self.officer, ground=ground, facts=facts)
            ending.decide_refusal(
                decision,
                actor=self.legal,
                approve=True,
                reasons="The obligation was checked and applies to these records.",
            )
            self.say(part, "refusal proposed by the officer, approved by legal")
            return
        step4_method.open_selection(case, actor=self.officer)

    def propose(self, part: Part, case: Case) -> None:
        if case.targets.filter(state="failed").exists():
            reasons = Verification.objects.filter(application__target__case=case, passed=False)
            told = " ".join(reason for row in reasons for reason in row.verdict.get("reasons", ()))
            raise RehearsalFailed(f"{case.reference}: the verification did not hold. {told}")
        for target in case.targets.filter(affected=True):
            suggestion = policy.suggest(case, target)
            step4_method.propose(
                target, actor=self.officer, method=suggestion.method, reasons=suggestion.reason
            )
            self.say(part, f"proposed for {target.name}: {suggestion.measure}")
        step4_method.submit(case, actor=self.officer)

    def approve(self, part: Part, case: Case) -> None:
        step4_method.approve(
            case,
            actor=self.legal,
            reasons="The criteria of the policy were checked; the measure is proportionate.",
        )
        self.say(part, "approved by legal")

    def close(self, part: Part, case: Case) -> None:
        documentation.close(case, actor=self.officer)
        self.say(part, f"closed: {case.get_outcome_display().lower()}, letter sent")

    # --- What the terminal shows ---

    def show_jobs(self, part: Part, case: Case) -> None:
        for job in case.jobs.exclude(state=JobState.READY).order_by("created_at"):
            if job.state == JobState.FAILED and f"{job.pk} failed" not in part.seen:
                raise RehearsalFailed(f"{case.reference}: {job.get_kind_display()}: {job.error}")
            self.show_job(part, job)

    def show_job(self, part: Part, job: Job) -> None:
        """A line for each stage; the bar shows how far the step is."""
        stage = "done" if job.state == JobState.DONE else job.stage
        key = f"{job.pk} {stage}"
        if not stage or key in part.seen:
            return
        part.seen.add(key)
        percent = 100 if job.state == JobState.DONE else job.percent
        filled = round(BAR_WIDTH * percent / 100)
        bar = "█" * filled + "░" * (BAR_WIDTH - filled)
        end = job.finished_at or timezone.now()
        seconds = (end - job.started_at).total_seconds() if job.started_at else 0.0
        where = f" ({job.target.name})" if job.target else ""
        self.say(part, f"{bar} {job.get_kind_display()}{where}: {stage}, {seconds:.1f} s")


def code_from_mail(case: Case) -> str:
    """The newest one-time code that was mailed for the case."""
    mails = sorted(Path(settings.MAIL_DIR).iterdir(), key=lambda path: path.stat().st_mtime)
    # Django may append messages of one second to one file, each ended by a line of dashes.
    messages = [text for mail in mails for text in mail.read_text().split(MAIL_END)]
    for text in reversed(messages):
        found = re.search(r"one-time code is ([0-9A-Z]{8})", text)
        if case.reference in text and found:
            return found.group(1)
    raise RehearsalFailed("The e-mail with the one-time code was not found.")
