from __future__ import annotations

import pytest
from django.conf import settings
from django.utils import timezone

from compliance import store, vault
from compliance.demonstration import Office
from compliance.models import (
    Application,
    Decision,
    Role,
    Target,
    TargetKind,
    TargetState,
    Verification,
)
from compliance.rehearsal import MAIL_END, Rehearsal, RehearsalFailed, code_from_mail
from tests.compliance import factories

pytestmark = pytest.mark.django_db


def test_code_is_that_of_the_case_also_when_one_file_holds_several_messages() -> None:
    bank = factories.organisation()
    first, second, third = (factories.case(bank) for _ in range(3))
    mail = settings.MAIL_DIR / "several.log"
    mail.write_text(
        f"Subject: [{first.reference}]\n\nYour one-time code is AAAAAAAA\n{MAIL_END}\n"
        f"Subject: [{second.reference}]\n\nYour one-time code is BBBBBBBB\n{MAIL_END}\n"
        f"Subject: [{first.reference}]\n\nYour one-time code is CCCCCCCC\n{MAIL_END}\n"
    )
    try:
        assert code_from_mail(first) == "CCCCCCCC"
        assert code_from_mail(second) == "BBBBBBBB"
        with pytest.raises(RehearsalFailed, match="not found"):
            code_from_mail(third)
    finally:
        mail.unlink()


def test_dataset_whose_verification_did_not_hold_ends_the_rehearsal() -> None:
    bank = factories.organisation()
    office = Office(bank, {})
    for role in (Role.OFFICER, Role.LEGAL):
        factories.user(role, bank, role.value)
    case = factories.case(bank)
    target = Target.objects.create(
        case=case, kind=TargetKind.DATASET, dataset=factories.dataset(bank), affected=True,
        state=TargetState.FAILED, summary={"facts": []}, found_at=timezone.now(),
        evidence=store.put_json([], vault.key_of(case)),
    )  # fmt: skip
    decision = Decision.objects.create(
        case=case, target=target, method="delete_rows", reasons="ok", outcome="superseded",
        proposed_at=timezone.now(),
    )  # fmt: skip
    application = Application.objects.create(
        target=target, decision=decision, plan_frozen_at=timezone.now(), started_at=timezone.now()
    )
    # Every row of a dataset is read: its verdict needs no reasons beside the counts.
    Verification.objects.create(
        application=application, after={"groups": {}}, passed=False, verified_at=timezone.now(),
        verdict={"passed": False, "criteria": []},
    )  # fmt: skip
    rehearsal = Rehearsal(office, lambda _line: None)

    with pytest.raises(RehearsalFailed, match="the verification did not hold"):
        rehearsal.propose(rehearsal.parts[0], case)
