from __future__ import annotations

import pytest
from django.conf import settings

from compliance.rehearsal import MAIL_END, RehearsalFailed, code_from_mail
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
