"""What every decision needs: another person, and reasons that can stand in a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports.wording import banned_words

from .models import Role
from .permissions import Actor, Allowed, Denied, NotAllowed, has_role, require

if TYPE_CHECKING:
    from .models import Decision

SHORTEST_REASON = 10
LONGEST_REASON = 2000


def may_decide(decision: Decision, actor: Actor) -> Allowed | Denied:
    """Whether this person may decide on this proposal; pages show the reason."""
    verdict = has_role(actor, (Role.LEGAL,))
    if not verdict:
        return verdict
    if actor.user is None or decision.proposed_by_id == actor.user.pk:
        return Denied("Whoever made this proposal cannot decide on it.")
    return Allowed()


def require_four_eyes(decision: Decision, actor: Actor) -> None:
    """Raise NotAllowed when the actor proposed it."""
    require(may_decide(decision, actor))


def require_reasons(reasons: str) -> None:
    """Raise NotAllowed when there are no reasons worth the name."""
    if len(reasons.strip()) < SHORTEST_REASON:
        raise NotAllowed("Give your reasons in a sentence or more.")
    if len(reasons) > LONGEST_REASON:
        raise NotAllowed(f"Shorten your reasons to {LONGEST_REASON} characters.")
    banned = banned_words(reasons)
    if banned:
        raise NotAllowed(
            f"Say it without “{banned[0]}”: of weights only a measured degree can be claimed."
        )
