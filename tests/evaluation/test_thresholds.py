from __future__ import annotations

import pytest

from evaluation import Thresholds
from language_models import RequestError


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"leak_max": 2}, "The threshold leak_max must be a number from 0 to 1"),
        ({"others_max_drop": -0.01}, "others_max_drop must be a number from 0 to 1"),
        ({"empty_max": float("nan")}, "empty_max"),
        ({"new_value_min": "0.9"}, "new_value_min"),
        ({"endless_max": True}, "endless_max"),
        ({"perplexity_max_rise": -0.1}, "perplexity_max_rise must be a number from 0"),
        ({"perplexity_max_rise": float("inf")}, "perplexity_max_rise"),
        ({"leak_min_probes": -1}, "leak_min_probes must be a whole number from 0"),
        ({"leak_min_prompts": 59.5}, "leak_min_prompts must be a whole number"),
        ({"risk_low": 0.2, "risk_moderate": 0.1}, "risk_low is above risk_moderate"),
        ({"leek_max": 0.1}, "Unknown thresholds: leek_max"),
    ],
)
def test_a_threshold_that_could_never_break_or_never_hold_is_refused(
    changes: dict[str, float], words: str
) -> None:
    with pytest.raises(RequestError, match=words):
        Thresholds.from_mapping(changes)


def test_the_ends_of_the_ranges_are_thresholds() -> None:
    for end in (0, 1):
        rates = {"leak_max": end, "new_value_min": end, "risk_low": 0, "risk_moderate": end}
        assert Thresholds.from_mapping(rates).leak_max == end
    assert Thresholds(perplexity_max_rise=3.0, leak_min_probes=0).perplexity_max_rise == 3.0
