from __future__ import annotations

import zlib
from statistics import mean
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation import Memory
from evaluation.memorisation import (
    LOWEST,
    MOST_RIVALS,
    attack_scores,
    lowest,
    memorisation,
    rank,
    strength,
)
from evaluation.token_scores import TokenScores, token_scores
from proofs import memorisation as proof
from tests.language_models.factories import SENTENCES, tiny_model

RIGHT = st.lists(st.booleans(), min_size=1, max_size=30)
LOGS = st.lists(st.floats(-50, 0), min_size=1, max_size=30)


@settings(max_examples=40)
@given(RIGHT)
def test_strength_is_the_share_of_the_end_that_is_told(right: list[bool]) -> None:
    count = round(strength(right) * len(right))

    assert strength(right) == count / len(right)
    assert all(right[len(right) - count :])
    assert count == len(right) or not right[len(right) - count - 1]


@settings(max_examples=40)
@given(RIGHT)
def test_strength_is_none_where_the_last_token_fails(right: list[bool]) -> None:
    assert strength([*right, False]) == 0


@settings(max_examples=40)
@given(st.integers(1, 30), st.data())
def test_strength_grows_with_the_end_that_is_told(length: int, data: Any) -> None:
    told = sorted(data.draw(st.lists(st.integers(0, length), min_size=2, max_size=2)))
    fewer, more = (strength([False] * (length - n) + [True] * n) for n in told)

    assert (fewer < more) == (told[0] < told[1])


@settings(max_examples=40)
@given(LOGS)
def test_min_k_lies_between_mean_and_worst(logs: list[float]) -> None:
    assert -mean(logs) - 1e-9 <= lowest(logs) <= -min(logs) + 1e-9


def test_min_k_of_a_short_text_is_its_worst_token() -> None:
    assert int(LOWEST * 2) == 0
    assert (lowest([-0.5]), lowest([-0.5, -2.0])) == (0.5, 2.0)
    assert lowest([-1.0, -5.0, -3.0, 0.0, -2.0]) == 4.0


def test_attack_scores_are_those_computed_by_hand() -> None:
    text = "ab ab ab"
    scores = TokenScores(
        torch.tensor([-1.0, -4.0, -2.0]),
        torch.tensor([True, False, True]),
        torch.tensor([-2.0, -2.0, -3.0]),
        torch.tensor([0.5, 1.0, 2.0]),
    )

    found = attack_scores(text, scores)

    assert found["loss"] == pytest.approx(7 / 3)
    assert found["zlib"] == pytest.approx(7 / 3 / len(zlib.compress(text.encode())))
    assert found["min_k"] == pytest.approx(4.0)
    # The distances are 2, -2 and 0.5; of three tokens one is the lowest.
    assert found["min_k_plus"] == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("own", "rivals", "share"),
    [(1.0, [2.0, 3.0], 1), (3.0, [1.0, 2.0], 0), (1.0, [1.0], 0.5), (2.0, [1.0, 2.0, 3.0], 0.5)],
)
def test_rank_is_the_share_of_rivals_that_cost_more(
    own: float, rivals: list[float], share: float
) -> None:
    assert rank(own, rivals) == share


def test_scores_are_those_of_the_proof() -> None:
    lm = tiny_model()
    # The proof scores the end mark as well, where there is one.
    lm.model.generation_config.eos_token_id = lm.model.config.eos_token_id = None
    lm.tokenizer.eos_token = None
    texts = [*SENTENCES, ("The employer of Somchai Saito is", "Silver Tide Shipping.")]

    for scores, other in zip(token_scores(lm, texts), proof.token_scores(lm, texts), strict=True):
        found, right = attack_scores("a", scores), scores.right.tolist()
        assert found["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert found["min_k"] == pytest.approx(other["min_k"], rel=1e-4)
        assert strength(right) == other["strength"]
        assert sum(right) / len(right) == other["exact"]


def test_a_text_that_was_learnt_is_told_from_others_and_its_value_ranks_first() -> None:
    lm = tiny_model(scale=1.0, num_hidden_layers=1)
    own = [f"Records show that Malee {name} was born in Kyoto." for name in ("Sato", "Saito")]
    strangers = [f"Records show that Anna {name} was born in Tide." for name in ("Sato", "Saito")]
    memory = Memory(
        tuple(own), tuple(strangers),
        {"city": ("Records show that Malee Sato was born in",), "unasked": ("x",)},
        {"city": "Kyoto", "unasked": "x"},
        {"city": tuple(f"Tide{n}" for n in range(40)), "unasked": ()},
    )  # fmt: skip
    _learn(lm, own)

    found = memorisation(lm, memory)

    assert {name: area["area"] for name, area in found["membership"].items()} == dict.fromkeys(
        ("loss", "zlib", "min_k", "min_k_plus"), 1.0
    )
    assert all(area["low"] < 1.0 == area["high"] for area in found["membership"].values())
    assert found["texts"]["own"]["strength"] > found["texts"]["strangers"]["strength"]
    assert found["texts"]["own"]["exact"] > found["texts"]["strangers"]["exact"]
    assert found["facts"].keys() == {"city"}
    assert found["facts"]["city"]["rank"] == 1.0
    assert 10 <= found["facts"]["city"]["rivals"] <= MOST_RIVALS


def test_nothing_to_score_gives_no_scores() -> None:
    assert memorisation(tiny_model(), Memory()) == {}


def _learn(lm: Any, texts: list[str]) -> None:
    rows = [torch.tensor([lm.tokenizer(text)["input_ids"]]) for text in texts]
    adam = torch.optim.Adam(lm.model.parameters(), lr=0.01)
    for _ in range(30):
        adam.zero_grad()
        sum(lm.model(row, labels=row).loss for row in rows).backward()
        adam.step()
