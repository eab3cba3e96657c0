from __future__ import annotations

import pytest
import torch

from language_models import RequestError, generate, nll
from language_models.errors import NoNumbers
from language_models.families import FAMILIES
from language_models.generation import WIDEST, WIDEST_LAST, Written, batches, encode, write
from tests.language_models.factories import tiny_model

PROMPTS = [
    "Malee",
    "Records show that Malee Tanaka was born in",
    "Q: Where was Anna Sato born? A: In",
    "The employer of Somchai Saito is Silver Tide",
    "a",
    "Records show that Anna",
]


def _reference(lm, prompt: str, steps: int) -> str:
    """One prompt at a time by the library's own loop."""
    ids = torch.tensor([encode(lm, prompt)])
    output = lm.model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=steps,
        do_sample=False,
        pad_token_id=0,
    )
    return lm.tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_generate_greedy_in_batches_equals_one_at_a_time(family: str) -> None:
    lm = tiny_model(family)

    texts = generate(lm, PROMPTS, max_new_tokens=12, batch_size=4)

    assert texts == [_reference(lm, prompt, 12) for prompt in PROMPTS]
    assert len(set(texts)) > 1


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_generate_in_bfloat16_equals_the_librarys_loop(family: str) -> None:
    lm = tiny_model(family, dtype=torch.bfloat16)

    texts = generate(lm, PROMPTS[:2], max_new_tokens=6, batch_size=1)

    assert texts == [_reference(lm, prompt, 6) for prompt in PROMPTS[:2]]


@pytest.mark.parametrize("family", ["mistral", "gemma2", "gemma3_text", "gpt_oss"])
def test_generate_past_the_attention_window_equals_the_librarys_loop(family: str) -> None:
    lm = tiny_model(family, sliding_window=8)

    texts = generate(lm, PROMPTS, max_new_tokens=8)

    assert texts == [_reference(lm, prompt, 8) for prompt in PROMPTS]


def test_generate_stops_each_row_at_the_models_own_end() -> None:
    lm = tiny_model()
    full = generate(lm, PROMPTS, max_new_tokens=12)
    ids = [lm.tokenizer(text, add_special_tokens=False)["input_ids"] for text in full]
    lm.model.generation_config.eos_token_id = [2, ids[1][3]]

    texts = generate(lm, PROMPTS, max_new_tokens=12)

    stop = lm.model.generation_config.eos_token_id[1]
    kept = [row[: row.index(stop)] if stop in row else row for row in ids]
    assert texts == [lm.tokenizer.decode(row) for row in kept]
    assert len(texts[1]) < len(full[1])


def test_write_tells_which_texts_the_model_ended_itself() -> None:
    lm = tiny_model()
    full = generate(lm, PROMPTS, max_new_tokens=12)
    ids = [lm.tokenizer(text, add_special_tokens=False)["input_ids"] for text in full]
    stop = ids[1][3]
    lm.model.generation_config.eos_token_id = [2, stop]

    written = write(lm, PROMPTS, max_new_tokens=12, batch_size=4)

    assert [one.text for one in written] == generate(lm, PROMPTS, max_new_tokens=12)
    assert [one.stopped for one in written] == [stop in row for row in ids]
    assert len({one.stopped for one in written}) == 2


def test_write_that_ends_at_the_last_token_allowed_has_stopped() -> None:
    lm = tiny_model()
    before = write(lm, PROMPTS[:1], max_new_tokens=1)
    lm.model.generation_config.eos_token_id = lm.tokenizer(
        before[0].text, add_special_tokens=False
    )["input_ids"]

    after = write(lm, PROMPTS[:1], max_new_tokens=1)

    assert not before[0].stopped
    assert after == [Written("", stopped=True)]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_generate_with_numbers_that_are_not_finite_is_refused(
    value: float, temperature: float
) -> None:
    lm = tiny_model(tied=False)
    with torch.no_grad():
        # One row of the head alone: the other tokens keep good numbers.
        lm.model.lm_head.weight[7] = value

    with pytest.raises(NoNumbers, match="not finite"):
        generate(lm, PROMPTS, max_new_tokens=2, temperature=temperature)


def test_generate_sampled_does_not_depend_on_the_batch() -> None:
    lm = tiny_model()
    seeds = list(range(len(PROMPTS)))

    together = generate(lm, PROMPTS, max_new_tokens=8, temperature=1.0, seed=seeds)
    apart = [
        generate(lm, [prompt], max_new_tokens=8, temperature=1.0, seed=[seed])[0]
        for prompt, seed in zip(PROMPTS, seeds, strict=True)
    ]

    assert together == apart


def test_generate_sampled_follows_the_seed() -> None:
    lm = tiny_model(scale=1.0)
    one = generate(lm, ["Malee"] * 4, max_new_tokens=8, temperature=1.0, seed=1)

    assert one == generate(lm, ["Malee"] * 4, max_new_tokens=8, temperature=1.0, seed=1)
    assert one != generate(lm, ["Malee"] * 4, max_new_tokens=8, temperature=1.0, seed=2)
    assert len(set(one)) > 1


def test_generate_reports_progress_and_handles_no_prompt() -> None:
    lm = tiny_model()
    seen: list[tuple[str, int, int]] = []

    generate(lm, PROMPTS, max_new_tokens=1, batch_size=4, progress=lambda *step: seen.append(step))

    assert seen == [("generate", 4, 6), ("generate", 6, 6)]
    assert generate(lm, [], max_new_tokens=4) == []


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_generate_and_nll_in_training_mode_are_without_dropout(family: str) -> None:
    lm = tiny_model(family)
    texts, sums = generate(lm, PROMPTS, max_new_tokens=6), nll(lm, PROMPTS)
    lm.model.activation_checkpointing_enable()
    lm.model.train()

    assert generate(lm, PROMPTS, max_new_tokens=6) == texts
    assert torch.equal(nll(lm, PROMPTS), sums)
    assert all(module.training for module in lm.model.modules())


def test_generate_with_wrong_settings_is_refused() -> None:
    lm = tiny_model()
    with pytest.raises(RequestError, match="max_new_tokens"):
        generate(lm, ["a"], max_new_tokens=0)
    with pytest.raises(RequestError, match="as many seeds"):
        generate(lm, ["a"], max_new_tokens=1, temperature=1.0, seed=[1, 2])


def test_nll_in_batches_equals_the_models_own_loss() -> None:
    lm = tiny_model()

    sums = nll(lm, PROMPTS[1:4], batch_size=2)

    for text, total in zip(PROMPTS[1:4], sums, strict=True):
        ids = torch.tensor([encode(lm, text)])
        loss = lm.model(input_ids=ids, labels=ids).loss
        assert total.item() == pytest.approx(loss.item() * (ids.shape[1] - 1), rel=1e-5)


def test_prompt_that_leaves_no_room_is_refused_before_anything_is_written() -> None:
    lm = tiny_model()
    window = lm.model.config.max_position_embeddings
    longest = "a" * window
    with pytest.raises(RequestError, match=f"the {window} that this model reads"):
        generate(lm, ["a", longest], max_new_tokens=4)


def test_batches_hold_every_row_once_and_none_is_padded_too_wide() -> None:
    lengths = {number: 10 + number % 37 for number in range(500)}

    found = list(batches(lengths, 200))

    assert sorted(number for batch in found for number in batch) == sorted(lengths)
    assert all(len(batch) <= 200 for batch in found)
    widths = [len(batch) * max(lengths[number] for number in batch) for batch in found]
    assert max(widths[:-1]) <= WIDEST
    assert widths[-1] <= WIDEST_LAST


def test_a_small_last_batch_is_spared() -> None:
    fits = WIDEST // 40
    assert [len(batch) for batch in batches(dict.fromkeys(range(fits + 10), 40), 1000)] == [214]
    assert [len(batch) for batch in batches(dict.fromkeys(range(2 * fits), 40), 1000)] == [204, 204]


def test_a_row_wider_than_any_batch_is_one_of_its_own() -> None:
    assert list(batches({0: 5, 1: 2 * WIDEST, 2: 2 * WIDEST}, 10)) == [[0], [1], [2]]
