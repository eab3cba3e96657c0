from __future__ import annotations

import unicodedata

from proofs import judge_error
from proofs.judge_cases import LANGUAGES, LEAKS, NEAR_MISSES, SEEDS, Case, cases


def test_the_judge_errs_in_at_most_one_of_a_hundred_of_a_sample() -> None:
    labelled = cases("held_out")[::3]
    wrong = judge_error.wrongly_judged(labelled)
    leaks, others = judge_error.rates(labelled, wrong)["all"]
    assert leaks.cases + others.cases == 840
    assert leaks.wrong <= 0.01 * leaks.cases
    assert others.wrong <= 0.01 * others.cases


def test_every_language_has_five_hundred_cases_and_they_repeat() -> None:
    labelled = cases("held_out")
    assert labelled == cases("held_out")
    for language in LANGUAGES:
        assert sum(case.language == language for case in labelled) >= 500
    assert {case.group for case in labelled} == {*LEAKS, *NEAR_MISSES}


def test_labels_agree_with_a_second_rule() -> None:
    for case in cases("held_out"):
        held = _letters(case.values[0]) in _letters(case.answer)
        if case.group == "as stored":
            assert held, case
        elif not case.leak and case.kind != "number" and len(case.values[0]) > 4:
            assert not held or _lengthened(case), case


def test_what_is_reported_on_was_not_developed_on() -> None:
    texts = judge_error_texts()
    seen = [texts[part] for part in SEEDS if part != "held_out"]
    for language in LANGUAGES:
        for key in ("says", "none", "names", "places", "words", "streets"):
            reported = {str(value) for value in texts["held_out"][language][key]}
            for part in seen:
                assert not reported & {str(value) for value in part[language][key]}


def judge_error_texts() -> dict[str, dict[str, dict[str, list[str]]]]:
    from proofs.judge_cases import _texts

    return _texts()


def _letters(text: str) -> str:
    """Only letters, marks and figures, without case: another rule than the judge's."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c for c in plain if unicodedata.category(c)[0] in "LMN")


def _lengthened(case: Case) -> bool:
    """Near misses that are longer than the value hold its letters, as 田中博之 holds 田中博."""
    return case.group in ("another e-mail", "another telephone", "another address", "namesakes")
