"""Whether the greedy answer begins with a value, told by forced tokens as generation tells it."""

from __future__ import annotations

import pytest
import torch

from evaluation.known_value import begins_with, starts
from language_models import RequestError, generate
from language_models.errors import NoNumbers
from language_models.families import FAMILIES
from tests.language_models.factories import tiny_model

PROMPTS = [
    f"{lead}{name} {verb}"
    for lead in ("", "Records show that ")
    for name in ("Malee Tanaka", "Somchai Saito")
    for verb in ("was born in", "A:")
]


def cases(lm) -> tuple[list[str], list[str]]:
    """Each prompt with what the model writes there, cut at several places, and other values."""
    prompts, values = [], []
    for prompt, text in zip(PROMPTS, generate(lm, PROMPTS, max_new_tokens=3), strict=True):
        whole = " ".join(text.replace("\ufffd", " ").split())
        for value in (whole, whole[:-1], whole[:3], whole + "n", "Kyoto", "a"):
            if value.strip():
                prompts.append(prompt)
                values.append(value.strip())
    return prompts, values


def by_generation(lm, prompts: list[str], values: list[str]) -> list[bool]:
    asked = list(dict.fromkeys(prompts))
    # The values are of three tokens or so.
    texts = dict(zip(asked, generate(lm, asked, max_new_tokens=8), strict=True))
    return [starts(texts[prompt], value) for prompt, value in zip(prompts, values, strict=True)]


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_what_is_told_is_what_generation_tells(family: str) -> None:
    lm = tiny_model(family, num_hidden_layers=2)
    prompts, values = cases(lm)

    found = begins_with(lm, prompts, values)

    assert list(found.begins) == by_generation(lm, prompts, values)
    assert len(set(found.begins)) == 2
    assert found.written < len(prompts)


def test_it_agrees_after_a_change_of_the_weights() -> None:
    lm = tiny_model()
    prompts, values = cases(lm)
    with torch.no_grad():
        lm.model.model.layers[1].mlp.down_proj.weight.add_(0.3)

    found = begins_with(lm, prompts, values)

    assert list(found.begins) == by_generation(lm, prompts, values)


def test_an_end_of_the_model_ends_the_answer() -> None:
    lm = tiny_model(seed=2)
    prompts, values = ["Records show that Malee"] * 2, ["S", "S S"]
    (token,) = lm.tokenizer(" S", add_special_tokens=False)["input_ids"]
    assert begins_with(lm, prompts, values).begins == (True, True)

    # An end that the tokenizer takes for a token like others.
    lm.model.generation_config.eos_token_id = [2, token]

    assert begins_with(lm, prompts, values).begins == (False, False)
    assert by_generation(lm, prompts, values) == [False, False]


@pytest.mark.parametrize(
    ("text", "value", "begins"),
    [
        (" Kyoto, in", "Kyoto", True),
        ("KYOTO", "Kyoto", True),
        ("Kyoton", "Kyoto", False),
        ("in Kyoto", "Kyoto", False),
        ("東京で", "東京", True),
        ("กรุงเทพฯ", "กรุงเทพ", True),
        ("กรุงเทพ์", "กรุงเทพ", False),
        ("New  York", "new york", True),
    ],
)
def test_a_value_begins_a_text_as_a_whole_word(text: str, value: str, *, begins: bool) -> None:
    assert starts(text, value) is begins


def test_lists_of_different_lengths_and_nothing() -> None:
    lm = tiny_model()

    assert begins_with(lm, [], []).begins == ()
    with pytest.raises(RequestError, match="one value for each"):
        begins_with(lm, ["a"], [])


def test_a_broken_model_tells_nothing() -> None:
    lm = tiny_model(tied=False)
    with torch.no_grad():
        lm.model.lm_head.weight[3] = float("nan")

    with pytest.raises(NoNumbers, match="not finite"):
        begins_with(lm, ["Malee"], ["Kyoto"])
