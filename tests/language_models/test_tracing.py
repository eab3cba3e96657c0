from __future__ import annotations

import json
import unicodedata

import pytest
import torch

from language_models import RequestError
from language_models.checkpoint import state_digest
from language_models.positions import ROLES, locate
from language_models.tracing import (
    FLAT,
    OUTSIDE,
    WEAK,
    Grid,
    Site,
    TraceCase,
    blurred_runs,
    choose_site,
    trace,
)
from tests.language_models.factories import tiny_model
from tests.language_models.tokenizers import KINDS, speaker

CASES = [
    TraceCase("Malee Tanaka", "Records show that {} was born in"),
    TraceCase("Anna Sato", "Q: Where was {} born? A: In", "Kyoto"),
]


def test_trace_has_one_number_per_role_and_layer_and_leaves_the_model_alone() -> None:
    lm = tiny_model()
    before = state_digest(lm.model)

    found = trace(lm, CASES, seed=0)

    assert list(found.grid) == list(ROLES)
    assert all(values is not None and len(values) == 3 for values in found.grid.values())
    assert found.site.role in ROLES
    assert 0 <= found.site.layer < 3
    assert state_digest(lm.model) == before
    assert not any(module._forward_hooks for module in lm.model.modules())


def test_trace_restores_all_of_it_at_the_last_token_of_the_last_layer() -> None:
    found = trace(tiny_model(), [CASES[0]], seed=0)

    # The first answer token is decided there; the later ones also look at the blurred name.
    assert found.grid["last"] is not None
    one = trace(tiny_model(), [TraceCase("Malee Tanaka", CASES[0].prompt, "a")], seed=0)
    assert one.grid["last"] is not None
    assert one.grid["last"][-1] == pytest.approx(one.high, rel=1e-4)


def test_trace_restoring_every_subject_token_would_undo_the_noise() -> None:
    lm = tiny_model()
    found = trace(lm, [TraceCase("a", "{} was born in")], seed=0)

    assert found.embedding["subject_last"] == pytest.approx(found.high, rel=1e-4)
    assert found.grid["subject_first"] is None


def test_trace_is_the_same_for_the_same_seed_and_survives_json() -> None:
    first = trace(tiny_model(), CASES, seed=1)

    assert trace(tiny_model(), CASES, seed=1) == first
    assert trace(tiny_model(), CASES, seed=2) != first
    stored = json.dumps(first.as_dict())
    assert "Malee" not in stored
    assert "Kyoto" not in stored


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_trace_of_half_precision_weights_is_near_that_of_full_ones(dtype: torch.dtype) -> None:
    lm = tiny_model(scale=2.0)
    expected = trace(lm, [TraceCase("Malee Tanaka", CASES[0].prompt, "Bangkok")], seed=0)
    lm.model.to(dtype)

    found = trace(lm, [TraceCase("Malee Tanaka", CASES[0].prompt, "Bangkok")], seed=0)

    assert found.high == pytest.approx(expected.high, rel=0.1)
    assert found.low == pytest.approx(expected.low, rel=0.1)


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize(
    ("prompt", "answer", "expected"),
    [
        ("{} was born in", "Kyoto", " was born in Kyoto"),
        ("{} was born in ", " Kyoto ", " was born in Kyoto"),
        ("{}は", "東京", "は東京"),
        ("{} เกิดที่", "กรุงเทพ", " เกิดที่กรุงเทพ"),
    ],
)
def test_given_answer_is_read_as_it_follows_the_prompt(
    kind: str, prompt: str, answer: str, expected: str
) -> None:
    tokenizer = speaker(kind).tokenizer
    lm = tiny_model(tokenizer=tokenizer)

    _, (statement,) = blurred_runs(lm, [TraceCase("Anna Sato", prompt, answer)], seed=0)

    assert statement.where == locate(lm, prompt, "Anna Sato")
    written = tokenizer.decode(statement.where.ids + statement.answer, skip_special_tokens=True)
    assert written.strip() == unicodedata.normalize("NFC", f"Anna Sato{expected}")
    assert tokenizer.eos_token_id not in statement.answer


def test_trace_in_training_mode_is_without_dropout_and_puts_the_mode_back() -> None:
    lm = tiny_model("gpt2")
    expected = trace(lm, CASES, seed=0)
    lm.model.train()
    lm.model.transformer.h[1].eval()
    found = [module.training for module in lm.model.modules()]

    assert trace(lm, CASES, seed=0) == expected
    assert [module.training for module in lm.model.modules()] == found


def test_trace_without_statements_is_refused() -> None:
    with pytest.raises(RequestError, match="at least one statement"):
        trace(tiny_model(), [], seed=0)


GRID = {"subject_last": [0.9, 0.2, 0.1], "between": None, "last": [0.3, 0.9, 1.0]}
IN_MLPS = {"subject_last": [0.9, 0.2, 0.1], "between": None, "last": [0.3, 0.9, 1.0]}


def test_choose_site_takes_the_earliest_layer_that_returns_enough() -> None:
    embedding = {"subject_last": 0.3, "between": None, "last": 0.1}

    assert choose_site(GRID, IN_MLPS, embedding, 0.1, 1.0) == (Site("subject_last", 0), None)


def test_choose_site_leaves_out_the_name_itself() -> None:
    embedding = {"subject_last": 0.95, "between": None, "last": 0.1}

    assert choose_site(GRID, IN_MLPS, embedding, 0.1, 1.0) == (Site("last", 1), None)


def test_choose_site_waits_for_the_mlps_and_warns_where_they_hold_nothing() -> None:
    embedding = {"subject_last": 0.95, "between": None, "last": 0.1}
    late = {**IN_MLPS, "last": [0.1, 0.2, 0.5]}
    never = {**IN_MLPS, "last": [0.1, 0.1, 0.1]}

    assert choose_site(GRID, late, embedding, 0.1, 1.0) == (Site("last", 2), None)
    assert choose_site(GRID, never, embedding, 0.1, 1.0) == (Site("last", 1), OUTSIDE)


def test_choose_site_of_a_flat_or_weak_trace_is_where_most_is_gained() -> None:
    grid: Grid = {"subject_last": [0.14, 0.12], "last": [0.13, 0.12]}
    embedding: dict[str, float | None] = {"subject_last": 0.14, "last": 0.1}

    assert choose_site(grid, dict(grid), embedding, 0.1, 0.15) == (Site("last", 0), FLAT)
    assert choose_site(grid, dict(grid), embedding, 0.1, 0.9) == (Site("last", 0), WEAK)
