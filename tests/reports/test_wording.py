"""Words that promise what no measurement can show."""

from __future__ import annotations

import pytest

from reports import letter, report
from reports.evidence import EvidenceError
from reports.pdf import TEMPLATES
from reports.wording import banned_words
from tests.reports import factories, letters


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The data were ERASED.", ["erased"]),
        ("for\u00adgotten, then guaranteed", ["forgotten", "guaranteed"]),
        ("perma\u200bnently", ["permanently"]),
        ("the right to be forgotten", []),
        ("right to erasure, class of certainty", []),
    ],
)
def test_banned_words(text: str, found: list[str]) -> None:
    assert banned_words(text) == found


def test_templates_use_no_banned_word() -> None:
    files = sorted(TEMPLATES.rglob("*.j2"))
    found = {file.name: banned_words(file.read_text(encoding="utf-8")) for file in files}
    assert {name: words for name, words in found.items() if words} == {}


def test_report_with_banned_word_is_refused() -> None:
    record = factories.full_evidence()
    record["targets"][0]["decision"]["reasons"] = "It is guaranteed to be gone."
    with pytest.raises(EvidenceError, match=r'targets\[0\].decision.reasons uses "guaranteed"'):
        report.render(record)


def test_letter_with_banned_word_is_refused() -> None:
    record = letters.english_letter()
    record["subject"] = "Your data were erased"
    with pytest.raises(EvidenceError, match=r'letter\.subject uses "erased"'):
        letter.render(record)
