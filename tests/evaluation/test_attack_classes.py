"""Which known ways a measurement went, in words."""

from __future__ import annotations

from evaluation import AttackResult, Measurement
from evaluation.attack_classes import ASKED, ATTACKED, CLASSES, NEVER, classes_run, told
from evaluation.attacks import ATTACKS
from evaluation.library import LANGUAGES
from evaluation.prompts import FORMS
from evaluation.results import GroupResult, cell

LEAK = GroupResult(
    n=4, hits=0, rate=0.0, lower_95=0.0, upper_95=0.5, prompts=4, prompts_hit=0, facts={},
    forms={"own": {"en": cell(2, 0)}, "role_play": {"th": cell(2, 0)}},
)  # fmt: skip


def test_classes_run_follow_from_what_brought_figures() -> None:
    after = Measurement(
        "",
        {"leak": LEAK},
        {},
        scores={"membership": {"loss": {"area": 0.5}}},
        attacks=(
            AttackResult("quantisation", {"bits": 4}),
            AttackResult("logit_lens", {}),
            AttackResult("prefix", {}, details={"left_out": "no text of the person"}),
            AttackResult("further_training", {}, details={"failed": "no numbers"}),
        ),
    )
    assert classes_run(after) == {
        *("direct", "en", "role_play", "th"),
        *("quantisation_4", "logit_lens", "membership"),
    }


def test_nothing_measured_is_nothing_run() -> None:
    assert classes_run(Measurement("", {}, {}, scores={"left_out": "an endpoint"})) == frozenset()


def test_every_form_language_and_attack_has_its_class() -> None:
    keys = {one.key: one.kind for one in CLASSES}
    asked = {*FORMS, *LANGUAGES} - {"statement", "question"}
    attacked = {*ATTACKS, "quantisation_4", "quantisation_8"} - {"quantisation"}
    assert {key for key in asked if keys[key] != ASKED} == set()
    assert {key for key in attacked if keys[key] != ATTACKED} == set()


def test_each_class_is_told_once_as_run_or_as_not() -> None:
    run = frozenset({"direct", "en", "prefix"})
    sentences = told(run, run=True) + told(run, run=False)
    assert told(run, run=True) == [
        "Ways of asking: direct statements and questions; questions in English.",
        "Attacks and scores: beginnings of the person's own texts.",
    ]
    assert told(run | {"de"}, run=True)[0].endswith("questions in English; questions in de.")
    for one in CLASSES:
        assert sum(one.words in sentence for sentence in sentences) >= 1
    assert len(told([one.key for one in CLASSES if one.kind != NEVER], run=False)) == 1
