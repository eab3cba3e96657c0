"""E-mails: a reference and a link, never what a case is about."""

from __future__ import annotations

import logging
from smtplib import SMTPException
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction

if TYPE_CHECKING:
    from .models import Case


log = logging.getLogger(__name__)


def _send(case: Case, address: str, subject: str, body: str) -> None:
    message = EmailMessage(
        subject=f"[{case.reference}] {subject}",
        body=f"{body}\n\n{case.organisation.name}\nData protection: {case.organisation.contact}\n",
        to=[address],
    )
    transaction.on_commit(lambda: _deliver(message, case.reference))


def _deliver(message: EmailMessage, reference: str) -> None:
    """Send. A mail server that is away must not undo or hide what was committed."""
    try:
        message.send()
    except (OSError, SMTPException) as error:
        # Without the error's message: a mail server repeats the address in it.
        log.error("An e-mail of case %s was not sent: %s", reference, type(error).__name__)


def _status_link() -> str:
    return f"{settings.PUBLIC_URL}/status/"


def acknowledge(case: Case) -> None:
    """Tell the requester that the request arrived and by when it is answered."""
    _send(
        case,
        case.subject.details["contact"],
        "We received your request",
        f"We received your request on {case.received_at:%d %B %Y} and answer it by "
        f"{case.due_at:%d %B %Y}.\nFollow it with the reference above and the secret that was "
        f"shown to you: {_status_link()}",
    )


def send_code(case: Case, address: str, code: str, minutes: int) -> None:
    """Send the one-time code to the address on file."""
    _send(
        case,
        address,
        "Your one-time code",
        f"Your one-time code is {code}\nIt can be used once, within {minutes} minutes, at "
        f"{_status_link()}\nIf you did not file this request, tell us.",
    )


def job_failed(case: Case, what: str) -> None:
    """Tell the office that a step gave up; why stands on the case page, not in an e-mail."""
    _send(
        case,
        case.organisation.contact,
        "A step of this case failed",
        f"Failed after its attempts: {what}. The reason stands on the case page; an officer can "
        f"start the step again there: {settings.PUBLIC_URL}/cases/{case.reference}/",
    )


def letter_ready(case: Case) -> None:
    """Tell the requester that the answer lies on the status page."""
    _send(
        case,
        case.subject.details["contact"],
        "Our answer to your request",
        f"Our answer is ready. Read and download the letter at {_status_link()}",
    )
