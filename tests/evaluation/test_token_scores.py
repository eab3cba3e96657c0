from __future__ import annotations

import math

import pytest
import torch

from evaluation.token_scores import perplexity, token_scores
from language_models import RequestError, nll
from language_models.errors import NoNumbers
from tests.language_models.factories import SENTENCES, tiny_model

TEXTS = [*SENTENCES, "Malee", ("The employer of Somchai Saito is", "Silver Tide Shipping.")]


@pytest.mark.parametrize("family", ["gpt2", "gptj", "gemma2", "gpt_oss"])
def test_losses_are_the_models_own_whatever_the_batch(family: str) -> None:
    lm = tiny_model(family, num_hidden_layers=2)

    found = token_scores(lm, SENTENCES)

    for one, total in zip(found, nll(lm, SENTENCES).tolist(), strict=True):
        assert -float(one.log_p.sum()) == pytest.approx(total, rel=1e-4)
        assert one.loss == pytest.approx(total / len(one.log_p), rel=1e-4)


def test_scores_are_those_computed_by_hand_from_one_text_alone() -> None:
    lm = tiny_model()

    found = token_scores(lm, TEXTS)[-1]

    prompt = lm.tokenizer("The employer of Somchai Saito is")["input_ids"]
    ids = lm.tokenizer("The employer of Somchai Saito is Silver Tide Shipping.")["input_ids"]
    with torch.no_grad():
        logits = lm.model(torch.tensor([ids])).logits[0, len(prompt) - 1 : -1].double()
    assert len(found.log_p) == len(ids) - len(prompt)
    for place, label in enumerate(ids[len(prompt) :]):
        total = math.log(sum(math.exp(one) for one in logits[place].tolist()))
        logs = [one - total for one in logits[place].tolist()]
        expected = sum(math.exp(one) * one for one in logs)
        variance = sum(math.exp(one) * (one - expected) ** 2 for one in logs)
        assert float(found.log_p[place]) == pytest.approx(logs[label], abs=1e-4)
        assert float(found.expected[place]) == pytest.approx(expected, abs=1e-4)
        assert float(found.spread[place]) == pytest.approx(math.sqrt(variance), abs=1e-4)
        assert bool(found.right[place]) == (logs[label] == max(logs))


def test_the_spread_of_an_even_distribution_is_the_floor() -> None:
    lm = tiny_model(tied=False)
    with torch.no_grad():
        lm.model.lm_head.weight.zero_()

    (found,) = token_scores(lm, ["Malee Tanaka"])

    assert found.expected.tolist() == pytest.approx([-math.log(320)] * len(found.expected))
    assert found.spread.tolist() == pytest.approx([1e-3] * len(found.spread))


def test_texts_are_cut_at_most_and_where_the_window_ends() -> None:
    lm = tiny_model("gpt2", max_position_embeddings=16)

    assert len(token_scores(lm, [SENTENCES[0]])[0].log_p) == 15
    assert len(token_scores(lm, [SENTENCES[0]], most=5)[0].log_p) == 4


def test_a_text_without_anything_to_score_is_refused() -> None:
    with pytest.raises(RequestError, match="nothing to score"):
        token_scores(tiny_model(), [("Records show that Malee", "Tanaka")], most=3)


def test_perplexity_is_that_of_all_tokens_together() -> None:
    lm = tiny_model()
    sums, counts = (
        nll(lm, SENTENCES).sum(),
        sum(len(lm.tokenizer(text)["input_ids"]) - 1 for text in SENTENCES),
    )

    assert perplexity(lm, SENTENCES) == pytest.approx(math.exp(float(sums) / counts), rel=1e-4)


def test_a_ruined_model_has_a_perplexity_and_a_broken_one_has_no_numbers() -> None:
    lm = tiny_model(tied=False)
    with torch.no_grad():
        lm.model.lm_head.weight.mul_(1e6)
    assert perplexity(lm, SENTENCES) == math.exp(700)

    with torch.no_grad():
        lm.model.lm_head.weight[3] = float("nan")
    with pytest.raises(NoNumbers, match="NaN"):
        perplexity(lm, SENTENCES)
