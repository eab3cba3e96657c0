"""Who may do what. A refusal says why, and the same words reach page, API and log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .models import Role, User

if TYPE_CHECKING:
    from .models import Case


@dataclass(frozen=True)
class Actor:
    """Who acts: a member of staff, the requester (by reference and secret), or the worker."""

    role: Role
    user: User | None = None

    @property
    def reference(self) -> str:
        """How the actor stands in the log: never a name."""
        if self.user is not None:
            return f"{self.role.value} {self.user.reference}"
        return self.role.value


SYSTEM = Actor(Role.SYSTEM)
PERSON = Actor(Role.PERSON)


def staff(user: User) -> Actor:
    """The actor of a logged-in member of staff."""
    return Actor(Role(user.role), user)


@dataclass(frozen=True)
class Allowed:
    """Truthy."""

    reason: str = ""

    def __bool__(self) -> bool:
        return True


@dataclass(frozen=True)
class Denied:
    """Falsy, with the reason to show."""

    reason: str

    def __bool__(self) -> bool:
        return False


Verdict = Allowed | Denied


class NotAllowed(Exception):
    """An act was refused; the message is fit to show."""


def same_organisation(actor: Actor, case: Case) -> Verdict:
    """Staff see their own organisation's cases only."""
    if actor.user is not None and actor.user.organisation_id != case.organisation_id:
        return Denied("This case belongs to another organisation.")
    return Allowed()


def has_role(actor: Actor, roles: tuple[Role, ...]) -> Verdict:
    """Whether the actor's role is one of `roles`."""
    if actor.role in roles:
        return Allowed()
    names = " or ".join(role.label for role in roles)
    return Denied(f"Only {names} may do this.")


def require(verdict: Verdict) -> None:
    """Raise NotAllowed with the reason of a refusal."""
    if not verdict:
        raise NotAllowed(verdict.reason)
