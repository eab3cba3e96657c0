"""Step 2, identity: a one-time code to the e-mail on file, confirmed by an officer.

GDPR Art. 12(6): proof only where there is reasonable doubt, and no more than is needed. A code
proves that the mailbox on file is in the requester's hands, no more; the officer decides.
"""

from __future__ import annotations

import hmac
from datetime import timedelta

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from compliance import audit, flow, notify, registry, vault
from compliance.models import Case, IdentityCheck, Role
from compliance.permissions import (
    PERSON,
    Actor,
    Allowed,
    Denied,
    NotAllowed,
    has_role,
    require,
    same_organisation,
)
from compliance.secret import new_code, tidy_code
from compliance.statuses import Status

CODE_MINUTES = 10
MAX_ATTEMPTS = 5
MAX_CODES_A_DAY = 5
# One sentence for a wrong, late, used or unknown code: nothing to learn from it.
CODE_REFUSED = "This code is not valid. Check it, or ask us for a new one."


def candidates(case: Case) -> list[registry.OnFile]:
    """People on file who may be the requester: same name, in any script."""
    details = case.subject.details
    return registry.find_on_file(case.organisation, name=details["name"])


@transaction.atomic
def send_code(case: Case, *, actor: Actor, subject_id: str = "") -> IdentityCheck:
    """Link the case to the person on file and send the code there.

    With several namesakes the officer names one by `subject_id`; with nobody on file the code
    goes to the address given, and the check says so. Raises NotAllowed.
    """
    case = flow.locked(case)
    require(same_organisation(actor, case))
    require(has_role(actor, (Role.OFFICER,)))
    require(_may_send(case))
    person = _choose(candidates(case), subject_id)
    subject = case.subject
    subject.on_file = None if person is None else person.as_dict()
    subject.save(update_fields=["on_file"])
    now = timezone.now()
    code = new_code()
    check = IdentityCheck.objects.create(
        case=case,
        on_file=person is not None,
        code_digest=_digest(case, code),
        sent_at=now,
        expires_at=now + timedelta(minutes=CODE_MINUTES),
    )
    address = person.email if person is not None else subject.details["contact"]
    notify.send_code(case, address, code, CODE_MINUTES)
    audit.record("identity.code_sent", actor=actor, case=case, on_file=check.on_file)
    if case.status == Status.RECEIVED:
        flow.move(case, to=Status.IDENTITY, actor=actor)
    return check


def _may_send(case: Case) -> Allowed | Denied:
    if case.status not in (Status.RECEIVED, Status.IDENTITY):
        return Denied("The identity check of this case is over.")
    today = case.identity_checks.filter(sent_at__gt=timezone.now() - timedelta(days=1))
    if today.count() >= MAX_CODES_A_DAY:
        return Denied("Five codes were sent within a day. Try again tomorrow.")
    return Allowed()


def _choose(found: list[registry.OnFile], subject_id: str) -> registry.OnFile | None:
    if subject_id:
        for person in found:
            if person.subject_id == subject_id:
                return person
        raise NotAllowed("That person is not among those found on file.")
    if len(found) > 1:
        raise NotAllowed(f"{len(found)} people on file have this name. Choose one of them.")
    return found[0] if found else None


def _digest(case: Case, code: str) -> str:
    return vault.keyed_digest("one-time code", f"{case.reference}:{tidy_code(code)}")


def enter_code(case: Case, code: str) -> None:
    """The requester enters the code. Raises NotAllowed for a wrong, late or used one.

    The attempt is counted by one atomic UPDATE, outside any rollback, before the code is compared.
    """
    check = case.identity_checks.order_by("-sent_at").first()
    if check is None or not _counted(check):
        # Not in the log: it only grows, and a stranger could let it grow.
        raise NotAllowed(CODE_REFUSED)
    if not hmac.compare_digest(check.code_digest, _digest(case, code)):
        with transaction.atomic():
            audit.record("identity.code_failed", actor=PERSON, case=case)
        raise NotAllowed(CODE_REFUSED)
    with transaction.atomic():
        IdentityCheck.objects.filter(pk=check.pk).update(matched_at=timezone.now())
        audit.record("identity.code_matched", actor=PERSON, case=case)


def _counted(check: IdentityCheck) -> bool:
    """Count the attempt in one UPDATE; False when the code is used, late or tried too often."""
    counted = IdentityCheck.objects.filter(
        pk=check.pk,
        attempts__lt=MAX_ATTEMPTS,
        matched_at__isnull=True,
        expires_at__gt=timezone.now(),
        # A code from the future was sent before the clock was set back.
        sent_at__lte=timezone.now(),
        case__status=Status.IDENTITY,
    ).update(attempts=F("attempts") + 1)
    return counted == 1


@transaction.atomic
def confirm(case: Case, *, actor: Actor) -> Case:
    """The officer confirms the identity; the search for targets starts. Raises NotAllowed."""
    case = flow.locked(case)
    require(same_organisation(actor, case))
    require(has_role(actor, (Role.OFFICER,)))
    # The newest alone: an older code may have gone to another person of the same name.
    check = case.identity_checks.order_by("-sent_at").first()
    if check is None or check.matched_at is None:
        raise NotAllowed("The code that was sent last was not entered yet.")
    check.confirmed_at = timezone.now()
    check.confirmed_by = actor.user
    check.save(update_fields=["confirmed_at", "confirmed_by"])
    audit.record("identity.confirmed", actor=actor, case=case, on_file=check.on_file)
    return flow.move(case, to=Status.TARGETS, actor=actor)
