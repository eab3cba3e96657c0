from __future__ import annotations

import json

import pytest

from language_models import RequestError
from tests.unlearning.learnt import FORGET, RETAIN, learnt_model
from unlearning import unlearn
from unlearning.guarantee import guarantee
from unlearning.npo import NpoConfig


@pytest.mark.parametrize("letter", ["A", "A′", "B", "C"])
def test_each_class_says_its_claim_conditions_and_limits(letter: str) -> None:
    told = guarantee(letter).as_dict()
    text = json.dumps(told).lower()
    assert told["class"] == letter
    assert told["conditions"]
    assert "published" in text
    assert "destroyed" in text
    for word in ("erased", "forgotten", "guaranteed", "permanently"):
        assert word not in text
    with pytest.raises(RequestError, match="Use one of"):
        guarantee("D")


def test_an_approximate_result_says_its_class_in_words() -> None:
    result = unlearn(learnt_model(), FORGET, RETAIN, "npo", NpoConfig(steps=1))

    assert result.details["guarantee"] == guarantee("B").as_dict()
    assert "before there is a verdict nothing is claimed" in json.dumps(result.details)
