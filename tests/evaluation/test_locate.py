from __future__ import annotations

import pytest

from evaluation import Person, probe
from language_models import RequestError, generate
from tests.evaluation.factories import WORDINGS
from tests.language_models.factories import tiny_model


def test_probe_finds_what_the_model_gives_out_with_the_evidence() -> None:
    lm = tiny_model()
    prompt = WORDINGS["birth_city"][1].format("Malee Tanaka")
    said = generate(lm, [prompt], max_new_tokens=8)[0]
    subject = Person("c-1", "Malee Tanaka", {"birth_city": said, "employer": "never written"})

    birth_city, employer = probe(lm, subject, WORDINGS, max_new_tokens=8)

    assert birth_city.known
    assert birth_city.hits >= 1
    assert birth_city.prompts == 3
    assert said in birth_city.example_output
    assert not employer.known
    assert (employer.hits, employer.rate) == (0, 0.0)
    assert employer.example_prompt == WORDINGS["employer"][0].format("Malee Tanaka")


def test_probe_without_wordings_for_a_fact_is_refused() -> None:
    subject = Person("c-1", "Malee Tanaka", {"shoe_size": "41"})

    with pytest.raises(RequestError, match="no wordings"):
        probe(tiny_model(), subject, WORDINGS)
