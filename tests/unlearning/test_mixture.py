from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from language_models import LanguageModel, generate, nll
from language_models.adapters import acting, fresh, matrices
from language_models.checkpoint import state_digest
from language_models.generation import encode
from tests.language_models.factories import DENSE, MIXTURES, SENTENCES, tiny_model
from unlearning.mixture import Experts, generate_routed, mixture, posterior

if TYPE_CHECKING:
    from torch import Tensor

PROMPTS = ["Malee", "Q: Where was Anna Sato born?", "Records show that", "The employer of"]


def _experts(lm: LanguageModel, count: int, size: float = 0.3) -> Experts:
    """Adapters with random values, so that the experts disagree."""
    places = matrices(lm, ())
    adapters = []
    for number in range(count):
        adapter = fresh(places, 2, torch.Generator().manual_seed(number))
        drawn = torch.Generator().manual_seed(number)
        adapters.append(
            {
                name: one if one.any() else torch.randn(one.shape, generator=drawn) * size
                for name, one in adapter.items()
            }
        )
    return Experts(places, tuple(adapters), 2.0)


def _chances(lm: LanguageModel, experts: Experts, ids: list[int]) -> Tensor:
    """Log-probabilities (n, t, v) of each expert, one after another."""
    found = []
    row = torch.tensor([ids])
    with torch.no_grad():
        found.append(lm.model(input_ids=row).logits[0])
        for adapter in experts.adapters:
            with acting(experts.places, adapter, experts.scale):
                found.append(lm.model(input_ids=row).logits[0])
    return torch.stack(found).double().log_softmax(dim=-1)


def _by_hand(lm: LanguageModel, experts: Experts, ids: list[int]) -> Tensor:
    """The mixture's log-probabilities (t, v), by its definition."""
    chances = _chances(lm, experts, ids)
    heard = torch.zeros(len(chances), len(ids), dtype=torch.float64)
    for at in range(1, len(ids)):
        heard[:, at] = heard[:, at - 1] + chances[:, at - 1, ids[at]]
    return (chances + heard.log_softmax(dim=0)[..., None]).logsumexp(dim=0)


def test_the_mixture_is_a_distribution_weighted_by_likelihood() -> None:
    lm = tiny_model()
    experts = _experts(lm, 3)
    ids = encode(lm, SENTENCES[0])

    with torch.no_grad():
        mixed = mixture(lm, experts).model(input_ids=torch.tensor([ids])).logits[0]

    assert torch.allclose(mixed.double(), _by_hand(lm, experts, ids), atol=1e-4)
    assert torch.allclose(mixed.exp().sum(dim=-1), torch.ones(len(ids)), atol=1e-4)


def test_the_likelihood_of_a_text_is_the_mean_of_the_experts() -> None:
    lm = tiny_model()
    experts = _experts(lm, 2)
    expected = []
    for text in SENTENCES:
        ids = encode(lm, text)
        told = _chances(lm, experts, ids)[:, :-1].gather(2, _next(ids)).sum(dim=(1, 2))
        expected.append(-float(told.logsumexp(dim=0) - torch.tensor(3.0).log()))

    found = nll(mixture(lm, experts), list(SENTENCES))

    # The mixture of experts over whole texts: p(text) = Σ p_expert(text) / n.
    assert found.tolist() == pytest.approx(expected, rel=1e-4)


def _next(ids: list[int]) -> Tensor:
    return torch.tensor(ids[1:])[None, :, None].expand(3, -1, 1)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3_text"])
def test_generation_with_a_cache_follows_the_definition(family: str) -> None:
    lm = tiny_model(family, scale=2.0)
    experts = _experts(lm, 2)
    expected = []
    for prompt in PROMPTS:
        ids = encode(lm, prompt)
        new: list[int] = []
        while len(new) < 6:
            token = int(_by_hand(lm, experts, [*ids, *new])[-1].argmax())
            if token == 2:
                break
            new.append(token)
        expected.append(lm.tokenizer.decode(new, skip_special_tokens=True))

    joined = mixture(lm, experts)

    assert generate(joined, PROMPTS, max_new_tokens=6) == expected
    assert generate(joined, PROMPTS, max_new_tokens=6, batch_size=2) == expected


def test_rows_that_end_early_do_not_disturb_the_others() -> None:
    lm = tiny_model(scale=2.0)
    experts = _experts(lm, 2)
    joined = mixture(lm, experts)
    alone = [generate(joined, [one], max_new_tokens=12)[0] for one in PROMPTS]
    # A letter that one of the texts comes to is now the mark of the end.
    lm.model.generation_config.eos_token_id = lm.tokenizer.convert_tokens_to_ids(alone[0][-1])

    cut = generate(joined, PROMPTS, max_new_tokens=12)

    assert cut == [generate(joined, [one], max_new_tokens=12)[0] for one in PROMPTS]
    assert len(cut[0]) < len(alone[0])


def test_without_adapters_the_mixture_is_the_base() -> None:
    lm = tiny_model()
    joined = mixture(lm, Experts(matrices(lm, ()), (), 2.0))

    assert generate(joined, PROMPTS, max_new_tokens=5) == generate(lm, PROMPTS, max_new_tokens=5)
    assert torch.allclose(nll(joined, PROMPTS), nll(lm, PROMPTS), rtol=1e-4)


def test_the_posterior_goes_to_the_expert_that_knows_the_text() -> None:
    lm = tiny_model(scale=1.0)
    experts = _experts(lm, 2)
    ids = encode(lm, SENTENCES[0])
    chances = _chances(lm, experts, ids)[:, :-1].gather(2, _next(ids)).sum(dim=(1, 2))

    found = posterior(lm, experts, SENTENCES, batch_size=2)

    assert torch.allclose(found[0], chances.softmax(dim=0), atol=1e-4)
    assert torch.allclose(found.sum(dim=1), torch.ones(3, dtype=torch.float64))


def test_a_head_start_is_the_odds_of_the_base_before_a_text() -> None:
    lm = tiny_model(scale=1.0)
    experts = _experts(lm, 2)
    fair, ahead = (posterior(lm, replace(experts, head_start=one), SENTENCES) for one in (0.0, 3.0))

    gained = ahead.log()[:, :1] - ahead.log()[:, 1:] - (fair.log()[:, :1] - fair.log()[:, 1:])

    assert torch.allclose(gained, torch.full((3, 2), 3.0, dtype=torch.float64), atol=1e-4)
    joined = mixture(lm, replace(experts, head_start=1e3))
    assert torch.allclose(nll(joined, SENTENCES), nll(lm, SENTENCES), rtol=1e-4)


def test_routing_lets_the_likeliest_expert_answer_alone() -> None:
    lm = tiny_model(scale=2.0)
    experts = _experts(lm, 3)
    chosen = posterior(lm, experts, PROMPTS).argmax(dim=1).tolist()
    expected = []
    for prompt, expert in zip(PROMPTS, chosen, strict=True):
        adapters = experts.adapters[expert - 1 : expert] if expert else ()
        places = experts.places if expert else ()
        with acting(places, adapters[0] if adapters else {}, experts.scale):
            expected += generate(lm, [prompt], max_new_tokens=5)

    assert generate_routed(lm, experts, PROMPTS, max_new_tokens=5) == expected
    assert generate_routed(lm, experts, [], max_new_tokens=5) == []


def test_experts_leave_the_base_as_it_was() -> None:
    lm = tiny_model()
    before = state_digest(lm.model)
    joined = mixture(lm, _experts(lm, 1))

    generate(joined, PROMPTS, max_new_tokens=2)

    assert state_digest(lm.model) == before != state_digest(joined.model)
    assert not [one for one in lm.model.modules() if one._forward_hooks]


@pytest.mark.parametrize("family", [*DENSE, *MIXTURES])
def test_every_family_has_matrices_for_adapters(family: str) -> None:
    lm = tiny_model(family, scale=1.0)
    experts = _experts(lm, 2)

    assert {int("mlp" in one.name) for one in experts.places} <= {0, 1}
    assert torch.isfinite(nll(mixture(lm, experts), [SENTENCES[1]])).all()
