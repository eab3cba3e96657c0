from __future__ import annotations

from demo.people import RELATIONS
from evaluation import compare, measure
from language_models.checkpoint import state_digest
from tests.evaluation.demo_case import PEOPLE, demo_model, demo_plan, texts_of
from unlearning import unlearn


def test_npo_on_the_demo_model_removes_one_person_and_nobody_else() -> None:
    lm, subject = demo_model(), PEOPLE[3]
    plan = demo_plan(subject, leak=list(RELATIONS))
    before, digest = measure(lm, plan), state_digest(lm.model)
    forget, retain = texts_of(subject)

    result = unlearn(lm, forget, retain)

    verdict = compare(before, measure(lm, plan))
    assert before.groups["leak"].rate > 0.85
    assert [criterion for criterion in verdict.criteria if not criterion.held] == []
    assert verdict.residual_risk is not None
    assert verdict.residual_risk.level in {"low", "moderate"}
    assert result.delta.revert(lm) == digest
