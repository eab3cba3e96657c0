"""What a page says when keys, log, store or database are not as they must be: 503, and why."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string

from compliance.audit import LogBroken
from compliance.envelope import SealError
from compliance.key_files import KeyUnavailable
from compliance.store import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

# Their messages are written to be shown: they name a file of the installation, never a person.
TOLD = (KeyUnavailable, SealError, StoreError, LogBroken)


class Unavailable:
    """Answers 503 where the installation cannot serve; its transaction undoes what was begun."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if isinstance(error, TOLD):
            reason = str(error)
        elif isinstance(error, OperationalError | InterfaceError):
            reason = "The database does not answer. Try again in a minute."
        else:
            return None
        log.error("A page could not be served: %s", reason)
        # Staff read the reason; a stranger need not know how the house is furnished.
        staff = isinstance(error, TOLD) and request.user.is_authenticated
        page = render_to_string("503.html", {"reason": reason if staff else ""})
        return HttpResponse(page, status=503, headers={"Cache-Control": "no-store"})
