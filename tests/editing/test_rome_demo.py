from __future__ import annotations

import pytest

from demo.people import RELATIONS
from editing import EditRequest, edit
from editing.rome import RomeConfig
from evaluation import compare, measure
from language_models.checkpoint import state_digest
from tests.evaluation.demo_case import (
    LEAD_INS,
    PEOPLE,
    WORDS,
    demo_model,
    demo_plan,
    neighbours,
    texts_of,
)


@pytest.mark.slow
def test_rome_on_the_demo_model_overwrites_one_fact_and_nothing_else() -> None:
    lm, subject, fact = demo_model(), PEOPLE[3], "birth_city"
    value = WORDS[fact]["neutral"]
    prompt, *paraphrases = WORDS[fact]["change"]
    keep = [other for other in RELATIONS if other != fact]
    plan = demo_plan(subject, leak=[fact], new_values={fact: value}, keep=keep)
    before, digest = measure(lm, plan), state_digest(lm.model)
    request = EditRequest(
        subject.name, prompt, f"{value}.", tuple(paraphrases), tuple(neighbours(subject, fact))
    )
    config = RomeConfig(
        lead_ins=tuple(LEAD_INS["change"]), moment_texts=tuple(texts_of(subject)[1][::20])
    )

    result = edit(lm, [request], config=config)

    verdict = compare(before, measure(lm, plan))
    assert before.groups["leak"].rate > 0.85
    assert [criterion for criterion in verdict.criteria if not criterion.held] == []
    assert result.details["trace"]["warning"] is None
    assert result.delta.revert(lm) == digest
