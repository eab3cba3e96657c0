"""Prompts that begin alike: what is written after them is what is written after each alone."""

from __future__ import annotations

import pytest
import torch

from language_models.cache import cache_with_room
from language_models.errors import NoNumbers
from language_models.families import FAMILIES
from language_models.generation import encode, encode_all, write
from language_models.modes import evaluating
from language_models.packing import exchangeable
from language_models.shared_prefixes import fill
from tests.language_models.factories import tiny_model
from tests.language_models.test_shared_prefixes import texts

NAMES = ("Anna Sato", "Anna Saito", "Somchai Saito")
PROMPTS = [
    f"{begin} the {what} of {name} is"
    for begin in ("As far as is known,", "It is on file that")
    for what in ("employer", "birth city")
    for name in NAMES
]


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_cache_is_filled_as_each_text_alone_would(family: str) -> None:
    # Longer than the windows of the tiny models that have one.
    lm, shared = tiny_model(family, sliding_window=16), texts()
    width = max(map(len, shared))
    cache = cache_with_room(lm.model.config, width + 1)

    with torch.inference_mode(), evaluating(lm):
        first = fill(lm, shared, cache)
        if first is None:
            # Nothing was put in: the prompts are computed as they always were.
            assert cache.get_seq_length() == 0
            assert not exchangeable(lm)
            return
        mask = torch.tensor([[0] * (width - len(one)) + [1] * (len(one) + 1) for one in shared])
        after = lm.model(
            input_ids=torch.tensor([[7]] * len(shared)),
            attention_mask=mask,
            position_ids=torch.tensor([[len(one)] for one in shared]),
            past_key_values=cache,
        ).logits[:, -1]
        for number, one in enumerate(shared):
            alone = lm.model(torch.tensor([[*one, 7]]), use_cache=False).logits[0]
            assert torch.allclose(first[number], alone[-2], rtol=1e-4, atol=1e-4)
            assert torch.allclose(after[number], alone[-1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_prompts_are_answered_together_as_each_alone(temperature: float) -> None:
    lm = tiny_model()
    seeds = list(range(len(PROMPTS)))

    together = write(lm, PROMPTS, max_new_tokens=8, temperature=temperature, seed=seeds)

    for prompt, seed, one in zip(PROMPTS, seeds, together, strict=True):
        alone = write(lm, [prompt], max_new_tokens=8, temperature=temperature, seed=[seed])
        assert alone == [one]


def test_texts_without_shared_beginnings_are_left_to_the_model() -> None:
    lm = tiny_model()
    cache = cache_with_room(lm.model.config, 16)
    with torch.inference_mode(), evaluating(lm):
        assert fill(lm, [[5, 6, 7], [8, 9]], cache) is None
    assert cache.get_seq_length() == 0


def test_numbers_that_are_none_are_told_also_after_shared_beginnings() -> None:
    lm = tiny_model()
    with torch.no_grad():
        lm.model.get_output_embeddings().weight.fill_(float("nan"))
    with pytest.raises(NoNumbers):
        write(lm, PROMPTS, max_new_tokens=2)


def test_texts_read_together_are_those_read_alone() -> None:
    lm = tiny_model()
    assert encode_all(lm, PROMPTS) == [encode(lm, prompt) for prompt in PROMPTS]
