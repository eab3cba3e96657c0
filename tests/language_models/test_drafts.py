"""Answers of prompts that end alike, checked instead of written: they are those of writing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from language_models.attention import exchangeable
from language_models.cache import cache_with_room
from language_models.drafts import TRIAL, check, drafted_by
from language_models.families import FAMILIES
from language_models.forced import likeliest
from language_models.generation import encode_all, write
from language_models.modes import evaluating
from tests.language_models.factories import tiny_model

LEADS = ("", "From the file: ", "As far as is known, ", "Note of the teller. ")
NAMES = ("Anna Sato", "Malee Tanaka", "Somchai Saito")
PROMPTS = [f"{lead}Records show that {name} was born in" for lead in LEADS for name in NAMES]
ROWS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), max_size=12)


@settings(max_examples=60)
@given(ROWS)
def test_a_draft_is_of_a_row_that_ends_alike_and_has_none(rows: list[list[int]]) -> None:
    drafted = drafted_by(rows)

    for number, first in drafted.items():
        assert first not in drafted
        half = -(-min(len(rows[number]), len(rows[first])) // 2)
        assert rows[number][-half:] == rows[first][-half:]


def test_questions_behind_other_lead_ins_have_a_draft() -> None:
    rows = encode_all(tiny_model(), PROMPTS)

    first = {drafted_by(rows).get(number, number) for number in range(len(rows))}

    assert len(first) == len(NAMES)
    assert {PROMPTS[number].partition("that ")[2] for number in first} == {
        f"{name} was born in" for name in NAMES
    }


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_they_are_what_each_prompt_is_answered_alone(family: str) -> None:
    lm = tiny_model(family, num_hidden_layers=2)

    together = write(lm, PROMPTS, max_new_tokens=5)

    for prompt, one in zip(PROMPTS[::2], together[::2], strict=True):
        assert write(lm, [prompt], max_new_tokens=5) == [one]


@pytest.mark.parametrize("tied", [True, False])
def test_an_end_of_the_model_ends_an_answer_where_it_did_alone(*, tied: bool) -> None:
    lm = tiny_model(tied=tied)
    endings = set()
    for token in said(lm):
        lm.model.generation_config.eos_token_id = [token]
        together = write(lm, PROMPTS, max_new_tokens=6)
        assert together == [write(lm, [prompt], max_new_tokens=6)[0] for prompt in PROMPTS]
        endings |= {(one.stopped, bool(one.text)) for one in together}
    assert endings == {(True, False), (True, True), (False, True)}


def said(lm) -> list[int]:
    """Tokens that the model begins some answers with, or writes later in them."""
    rows = encode_all(lm, PROMPTS[2:5])
    for _ in range(6):
        after = [tokens[0] for _, tokens in sorted(likeliest(lm, [(r, len(r)) for r in rows]))]
        rows = [[*row, token] for row, token in zip(rows, after, strict=True)]
    return sorted({token for row in rows for token in row[-6:]})


def test_wrong_drafts_are_left_after_a_trial() -> None:
    lm = tiny_model()
    rows = encode_all(lm, [f"{number} was born in" for number in range(4 * TRIAL)])
    drafts = {number: ([3, 3, 3, 3], False) for number in range(len(rows))}

    [checked] = check(lm, rows, drafts, 6, stops=[2])

    assert checked.whole == {}
    assert len(checked.begun) == TRIAL
    for number, tokens in checked.begun.items():
        (_, alone), *_ = likeliest(lm, [(rows[number], len(rows[number]))])
        assert tokens[:1] == alone


def test_progress_comes_to_its_end_also_where_the_last_answers_are_checked() -> None:
    lm, told = tiny_model(scale=1.5), []  # says one token behind every prompt: all drafts hold

    write(lm, PROMPTS, max_new_tokens=4, progress=lambda *report: told.append(report))

    # The first of each name is written, then nothing more is.
    assert told == [("generate", 3, 12), ("generate", 12, 12)]


def test_nothing_is_checked_without_drafts() -> None:
    assert list(check(tiny_model(), [], {}, 4, [])) == []


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_what_is_begun_is_written_on_from_what_the_check_kept(family: str) -> None:
    # Longer than the windows of the tiny models that have one.
    lm = tiny_model(family, num_hidden_layers=2, sliding_window=8)
    rows = encode_all(lm, PROMPTS)
    wanted = [write(lm, [prompt], max_new_tokens=6)[0] for prompt in PROMPTS]
    with torch.inference_mode():
        alone = dict(likeliest(lm, [(row, len(row)) for row in rows]))
        # The first token of each draft holds, the next may not.
        drafts = {number: ([*tokens, 3], False) for number, tokens in alone.items()}
        (trial, checked) = check(lm, rows, drafts, 6, stops=[2])

    assert trial.begun == {}
    assert checked.begun
    assert (checked.memory is not None) == exchangeable(lm)
    for number, tokens in checked.begun.items():
        text = [*rows[number], *tokens]
        cache = cache_with_room(lm.model.config, len(text))
        with torch.inference_mode(), evaluating(lm):
            if not checked.fill(cache, [number], [len(text)]):
                assert not exchangeable(lm)
                continue
            assert cache.get_seq_length() == len(text) - 1
            mask, place = torch.ones(1, len(text)), torch.tensor([[len(text) - 1]])
            kept = lm.model(
                input_ids=torch.tensor([text[-1:]]),
                attention_mask=mask,
                position_ids=place,
                past_key_values=cache,
            ).logits[0, -1]
            whole = lm.model(torch.tensor([text]), use_cache=False).logits[0, -1]
        assert torch.allclose(kept, whole, rtol=1e-4, atol=1e-4)
    assert write(lm, PROMPTS, max_new_tokens=6) == wanted
