from __future__ import annotations

from compliance.evidence import _readable
from reports.evidence import strings
from reports.wording import banned_words
from unlearning.guarantee import guarantee


def test_the_class_of_a_result_is_readable_in_the_report() -> None:
    told = guarantee("B")

    figures = _readable({"steps": 50, "guarantee": told.as_dict()})

    assert figures == {
        "steps": 50,
        "class": "B",
        "claim": told.claim,
        "conditions": " ".join(told.conditions),
        "limits": " ".join(told.limits),
    }
    assert [banned_words(text) for _, text in strings(figures, "details")] == [[]] * 4
