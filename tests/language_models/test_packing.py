"""Texts packed in one row: each has the states that it has alone, and the gradients."""

from __future__ import annotations

import random

import pytest
import torch

from language_models.architecture import parts
from language_models.attention import exchangeable
from language_models.families import FAMILIES
from language_models.packing import TEXTS_AT_A_TIME, packed_states
from tests.language_models.factories import tiny_model

PACKED = sorted(set(FAMILIES) - {"gptj"})


def texts(longest: int = 40) -> list[list[int]]:
    rng = random.Random(7)  # noqa: S311 -- repeatable
    return [
        [rng.randrange(5, 60) for _ in range(rng.randint(1, longest))]
        for _ in range(TEXTS_AT_A_TIME + 5)
    ]


@pytest.mark.parametrize("family", PACKED)
def test_each_text_has_the_states_that_it_has_alone(family: str) -> None:
    # Longer than the windows of the tiny models that have one.
    lm, packed = tiny_model(family), texts()
    assert exchangeable(lm)

    with torch.no_grad():
        states, begins = packed_states(lm, packed)
        for begin, text in zip(begins, packed, strict=True):
            alone = parts(lm.model).backbone(torch.tensor([text]), use_cache=False)[0][0]
            assert torch.allclose(states[begin : begin + len(text)], alone, rtol=1e-4, atol=1e-4)
    assert states.shape[0] == sum(map(len, packed))


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_oss"])
def test_gradients_are_those_of_the_texts_alone(family: str) -> None:
    found = []
    for packs in (True, False):
        lm = tiny_model(family)
        for parameter in lm.model.parameters():
            parameter.requires_grad_()
        backbone = parts(lm.model).backbone
        # Not the length of the states, which a norm makes nearly the same.
        weights = torch.linspace(-1, 1, lm.model.config.hidden_size)
        if packs:
            (packed_states(lm, texts(12))[0] @ weights).sum().backward()
        else:
            for text in texts(12):
                (backbone(torch.tensor([text]), use_cache=False)[0] @ weights).sum().backward()
        found.append({name: one.grad for name, one in backbone.named_parameters()})

    for name, gradient in found[0].items():
        other = found[1][name]
        assert (gradient is None) == (other is None), name
        if gradient is not None:
            assert torch.allclose(gradient, other, rtol=1e-3, atol=1e-3 * float(other.abs().max()))


def test_plain_attention_is_back_also_after_an_error() -> None:
    lm = tiny_model()
    with pytest.raises(IndexError):
        packed_states(lm, [[5, 6], [10**6]])

    assert lm.model.config._attn_implementation == "eager"
    assert exchangeable(lm)


def test_models_that_cannot_pack_are_known() -> None:
    assert not exchangeable(tiny_model("gptj"))
    lm = tiny_model()
    lm.model.activation_checkpointing_enable()
    assert not exchangeable(lm)
