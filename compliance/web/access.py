"""Who may open a page, and how a refused act is told.

Every page but the public ones asks for a login (LoginRequiredMiddleware); `staff_page` adds the
role. Objects are looked up inside the user's organisation, so that another's are simply not there.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import TYPE_CHECKING, cast

from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache

from compliance import audit
from compliance.audit import LogBroken
from compliance.envelope import SealError
from compliance.flow import FlowError
from compliance.key_files import KeyUnavailable
from compliance.models.organisation import STAFF_ROLES
from compliance.permissions import Actor, NotAllowed, has_role, staff
from compliance.store import StoreError
from language_models.errors import LetheError

if TYPE_CHECKING:
    from compliance.models import Case, Organisation, Role, User

# What a step may raise with words that are fit to show.
REFUSALS = (
    NotAllowed,
    FlowError,
    ValidationError,
    StoreError,
    SealError,
    KeyUnavailable,
    LogBroken,
    LetheError,
)

View = Callable[..., HttpResponse]


class StaffRequest(HttpRequest):
    """A request that passed `staff_page`."""

    actor: Actor
    organisation: Organisation


def actor_of(user: User) -> Actor:
    """The actor of a logged-in account. Raises PermissionDenied when it has no place here."""
    if user.role not in STAFF_ROLES or user.organisation is None:
        raise PermissionDenied("Your account has no role in an organisation yet.")
    return staff(user)


def staff_page(*roles: Role) -> Callable[[View], View]:
    """Let only these roles in, and keep the answer out of every cache."""

    def decorate(view: View) -> View:
        @never_cache
        @wraps(view)
        def guarded(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
            actor = actor_of(cast("User", request.user))
            verdict = has_role(actor, roles)
            if not verdict:
                raise PermissionDenied(verdict.reason)
            known = cast("StaffRequest", request)
            known.actor = actor
            known.organisation = cast("Organisation", cast("User", actor.user).organisation)
            return view(known, *args, **kwargs)

        return guarded

    return decorate


def note_read(request: StaffRequest, case: Case, action: str = "case.read") -> None:
    """That somebody looked is an event of the log, once an hour for each person and case."""
    actor = request.actor
    recently = case.events.filter(
        action=action,
        at__gt=timezone.now() - timedelta(hours=1),
        at__lte=timezone.now(),  # an event from the future was dated by a clock set back since
        leaf__contains=f'"actor":{audit.canonical(actor.reference)}',
    )
    if not recently.exists():
        with transaction.atomic():
            audit.record(action, actor=actor, case=case)


def words(error: Exception) -> str:
    """What a refusal says, on one line."""
    if isinstance(error, ValidationError):
        return " ".join(error.messages)
    return str(error)


def attempt(request: HttpRequest, act: Callable[[], object], done: str) -> bool:
    """Do it and say so on the next page, or say why it was refused."""
    try:
        act()
    except REFUSALS as error:
        messages.error(request, words(error))
        return False
    messages.success(request, done)
    return True
