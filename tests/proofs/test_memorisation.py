"""Extraction strength, exact match, Min-K and the area under the curve."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from proofs.memorisation import LOWEST, auc, min_k, strength, token_scores
from tests.language_models.factories import tiny_model

RIGHT = st.lists(st.booleans(), min_size=1, max_size=30)
# Few values, so that ties are common.
SCORES = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12)
LOSSES = st.lists(st.floats(0, 50), min_size=1, max_size=30)


@given(RIGHT)
def test_strength_is_a_share_of_the_tokens(right: list[bool]) -> None:
    count = round(strength(right) * len(right))
    assert strength(right) == count / len(right)
    assert all(right[len(right) - count :])
    assert count == len(right) or not right[len(right) - count - 1]


@given(RIGHT)
def test_strength_is_none_where_the_end_fails(right: list[bool]) -> None:
    assert strength([*right, False]) == 0


@given(st.integers(1, 30), st.data())
def test_strength_grows_with_the_end_that_is_told(length: int, data: Any) -> None:
    told = sorted(data.draw(st.lists(st.integers(0, length), min_size=2, max_size=2)))
    fewer, more = (strength([False] * (length - n) + [True] * n) for n in told)
    assert fewer <= more
    assert (fewer == more) == (told[0] == told[1])


@given(SCORES, SCORES)
def test_area_of_turned_scores_is_the_rest(own: list[float], others: list[float]) -> None:
    turned = auc([-one for one in own], [-one for one in others])
    assert auc(own, others) + turned == pytest.approx(1)


@given(SCORES)
def test_area_of_equals_is_one_half(scores: list[float]) -> None:
    assert auc(scores, scores) == pytest.approx(0.5)


def test_area_is_one_where_every_own_text_costs_less() -> None:
    assert (auc([1, 2], [3, 4]), auc([3, 4], [1, 2]), auc([1], [1])) == (1, 0, 0.5)


@given(LOSSES)
def test_min_k_lies_between_mean_and_maximum(losses: list[float]) -> None:
    assert sum(losses) / len(losses) - 1e-9 <= min_k(losses) <= max(losses) + 1e-9


def test_min_k_of_a_short_text_is_its_costliest_token() -> None:
    assert int(LOWEST * 2) == 0
    assert (min_k([0.5]), min_k([0.5, 2.0])) == (0.5, 2.0)
    assert min_k([1.0, 5.0, 3.0, 0.0, 2.0]) == 4.0


def test_scores_are_those_of_the_answer_and_its_end_alone() -> None:
    lm = tiny_model()
    prompt, answer = "The employer of Somchai Saito is", "Silver Tide Shipping."

    (found,) = token_scores(lm, [(prompt, answer)])

    ids = [*lm.tokenizer(f"{prompt} {answer}")["input_ids"], lm.tokenizer.eos_token_id]
    start = len(lm.tokenizer(prompt)["input_ids"])
    with torch.no_grad():
        chances = lm.model(torch.tensor([ids])).logits[0, start - 1 : -1].log_softmax(dim=-1)
    labels = torch.tensor(ids[start:])
    losses = -chances.gather(1, labels[:, None])[:, 0]
    right = (chances.argmax(dim=-1) == labels).tolist()
    assert found["loss"] == pytest.approx(float(losses.mean()), rel=1e-5)
    assert found["min_k"] == pytest.approx(min_k(losses.tolist()), rel=1e-5)
    assert (found["exact"], found["strength"]) == (sum(right) / len(right), strength(right))
