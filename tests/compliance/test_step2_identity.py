from __future__ import annotations

import re
from datetime import timedelta

import pytest
import time_machine
from django.core import mail
from django.utils import timezone

from compliance.models import Case, Job, JobKind, Role
from compliance.permissions import NotAllowed
from compliance.statuses import Status
from compliance.steps import step2_identity
from tests.compliance import factories

pytestmark = pytest.mark.django_db(transaction=True)


def _sent_code(case: Case, officer) -> str:
    step2_identity.send_code(case, actor=officer)
    return re.search(r"code is (\w{8})", mail.outbox[-1].body).group(1)


def test_code_goes_to_the_address_on_file() -> None:
    bank = factories.organisation()
    factories.dataset(bank)
    case = factories.case(bank)
    _sent_code(case, factories.actor(Role.OFFICER, bank))
    assert mail.outbox[-1].to == ["tea9@mail.example"]
    assert case.status == Status.IDENTITY
    assert case.subject.on_file["subject"] == "c-1"


def test_code_finds_the_person_by_the_native_name() -> None:
    bank = factories.organisation()
    factories.dataset(bank)
    case = factories.case(bank, name="มาลี ทานากะ")
    _sent_code(case, factories.actor(Role.OFFICER, bank))
    assert mail.outbox[-1].to == ["tea9@mail.example"]


def test_code_for_nobody_on_file_goes_to_the_contact_and_says_so() -> None:
    bank = factories.organisation()
    case = factories.case(bank, name="Nobody Known")
    _sent_code(case, factories.actor(Role.OFFICER, bank))
    assert mail.outbox[-1].to == ["malee@home.example"]
    assert case.identity_checks.get().on_file is False


def test_namesakes_must_be_chosen() -> None:
    bank = factories.organisation()
    twin = factories.PROFILE.replace("c-1", "c-9").replace("n-1", "n-9").replace("tea9", "tea8")
    factories.dataset(bank, factories.PROFILE + twin)
    case = factories.case(bank)
    officer = factories.actor(Role.OFFICER, bank)
    with pytest.raises(NotAllowed, match="2 people on file"):
        step2_identity.send_code(case, actor=officer)
    step2_identity.send_code(case, actor=officer, subject_id="c-9")
    assert mail.outbox[-1].to == ["tea8@mail.example"]


def test_right_code_then_confirmation_starts_the_search() -> None:
    bank = factories.organisation()
    officer = factories.actor(Role.OFFICER, bank)
    case = factories.case(bank)
    code = _sent_code(case, officer)
    with pytest.raises(NotAllowed, match="not entered yet"):
        step2_identity.confirm(case, actor=officer)
    step2_identity.enter_code(case, f" {code[:4].lower()}-{code[4:]} ")
    step2_identity.confirm(case, actor=officer)
    assert case.status == Status.TARGETS
    assert Job.objects.get().kind == JobKind.FIND


def test_wrong_code_is_refused_and_five_tries_end_it() -> None:
    bank = factories.organisation()
    case = factories.case(bank)
    code = _sent_code(case, factories.actor(Role.OFFICER, bank))
    for _ in range(5):
        with pytest.raises(NotAllowed, match="not valid"):
            step2_identity.enter_code(case, "00000000")
    with pytest.raises(NotAllowed, match="not valid"):
        step2_identity.enter_code(case, code)


def test_late_code_is_refused() -> None:
    bank = factories.organisation()
    case = factories.case(bank)
    code = _sent_code(case, factories.actor(Role.OFFICER, bank))
    with (
        time_machine.travel(timezone.now() + timedelta(minutes=11)),
        pytest.raises(NotAllowed, match="not valid"),
    ):
        step2_identity.enter_code(case, code)


def test_used_code_is_refused() -> None:
    bank = factories.organisation()
    case = factories.case(bank)
    code = _sent_code(case, factories.actor(Role.OFFICER, bank))
    step2_identity.enter_code(case, code)
    with pytest.raises(NotAllowed, match="not valid"):
        step2_identity.enter_code(case, code)


def test_codes_are_limited_a_day() -> None:
    bank = factories.organisation()
    case = factories.case(bank)
    officer = factories.actor(Role.OFFICER, bank)
    for _ in range(5):
        step2_identity.send_code(case, actor=officer)
    with pytest.raises(NotAllowed, match="Five codes"):
        step2_identity.send_code(case, actor=officer)


def test_only_an_officer_of_the_organisation_sends_codes() -> None:
    bank, shop = factories.organisation(), factories.organisation("shop")
    case = factories.case(bank)
    with pytest.raises(NotAllowed, match="another organisation"):
        step2_identity.send_code(case, actor=factories.actor(Role.OFFICER, shop))
    with pytest.raises(NotAllowed, match="Only Compliance officer"):
        step2_identity.send_code(case, actor=factories.actor(Role.LEGAL, bank))


def test_code_of_one_namesake_does_not_confirm_another() -> None:
    bank = factories.organisation()
    twin = factories.PROFILE.replace("c-1", "c-9").replace("n-1", "n-9").replace("tea9", "tea8")
    factories.dataset(bank, factories.PROFILE + twin)
    case = factories.case(bank)
    officer = factories.actor(Role.OFFICER, bank)
    step2_identity.send_code(case, actor=officer, subject_id="c-1")
    step2_identity.enter_code(case, re.search(r"is (\w{8})", mail.outbox[-1].body).group(1))
    step2_identity.send_code(case, actor=officer, subject_id="c-9")
    with pytest.raises(NotAllowed, match="sent last"):
        step2_identity.confirm(case, actor=officer)
