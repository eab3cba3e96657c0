from __future__ import annotations

import pytest

from editing import METHODS, EditRequest, edit
from language_models.checkpoint import state_digest
from language_models.generation import generate
from tests.evaluation.demo_case import PEOPLE, WORDS, demo_model, neighbours

FACT = "birth_city"


@pytest.mark.parametrize(
    ("method", "paraphrases"),
    [("finetune", 0.9), ("lora", 0.9), ("ultraedit", 0.8), ("grace", 0.7)],
)
def test_methods_without_a_site_move_one_fact_on_the_demo_model(
    method: str, paraphrases: float
) -> None:
    lm, subject, value = demo_model(), PEOPLE[3], WORDS[FACT]["neutral"]
    digest = state_digest(lm.model)
    prompt, *others = WORDS[FACT]["change"]
    request = EditRequest(
        subject.name, prompt, f"{value}.", tuple(others), tuple(neighbours(subject, FACT))
    )
    unseen = [wording.format(subject.name) for wording in WORDS[FACT]["verify"]]
    foreign = [unseen[0].replace(subject.name, person.name) for person in PEOPLE[24:44]]

    result = edit(lm, [request], method)

    said = generate(lm, unseen, max_new_tokens=8)
    kept = generate(lm, foreign, max_new_tokens=8)
    assert METHODS[method].guarantee == ("C" if method == "grace" else "B")
    assert sum(text.strip().startswith(value) for text in said) >= paraphrases * len(said)
    right = [
        text.strip().startswith(person.facts[FACT])
        for text, person in zip(kept, PEOPLE[24:44], strict=True)
    ]
    assert sum(right) >= 18
    assert result.revert(lm) == digest
