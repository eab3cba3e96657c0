from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from editing import METHODS, edit
from editing.finetune import FinetuneConfig
from editing.kept_blocks import keep_blocks
from editing.training_rows import asked, end_mark, neighbour_rows, target_rows
from language_models import NotReached, RequestError, UnsupportedArchitecture
from language_models.architecture import parts
from language_models.checkpoint import state_digest
from language_models.families import FAMILIES
from language_models.generation import encode
from language_models.padding import pad_right
from tests.editing.gradient_cases import OTHER, REQUEST, changed, digests, model, standing
from tests.language_models.factories import DENSE, MIXTURES

MARK = {"unreached": "mark", "min_wordings": 0.0}


def _config(**changes: Any) -> FinetuneConfig:
    # A random model hardly tells its neighbours apart.
    return FinetuneConfig(
        **{"learning_rate": 0.05, "epochs": 100, "neighbour_weight": 0.0, **changes}
    )


def test_finetune_reaches_all_targets_by_one_matrix_of_one_layer() -> None:
    lm = model()
    before = digests(lm)

    result = edit(lm, [REQUEST, OTHER], "finetune", _config())

    name = parts(lm.model).mlp_out(2).name
    assert changed(before, digests(lm)) == [name]
    assert list(result.delta.entries) == [name]
    assert [row["target_first"] for row in result.details["requests"]] == [1.0, 1.0]
    assert result.details["losses"][-1] < 0.1 * result.details["losses"][0]


def test_finetune_is_reverted_bit_for_bit_and_leaves_the_model_as_found() -> None:
    lm = model()
    lm.model.train()
    found, digest = standing(lm), state_digest(lm.model)

    result = edit(lm, [REQUEST], "finetune", _config())

    assert standing(lm) == found
    assert result.revert(lm) == digest


def test_finetune_that_breaks_down_leaves_the_model_as_found() -> None:
    lm = model()
    found, digest = standing(lm), state_digest(lm.model)

    with pytest.raises(NotReached, match="Lower the learning rate"):
        edit(lm, [REQUEST], "finetune", _config(learning_rate=1e37, stop_loss=0.0))

    assert (standing(lm), state_digest(lm.model)) == (found, digest)


def test_finetune_twice_gives_the_same_weights_and_another_seed_others() -> None:
    made = []
    for seed in (0, 0, 1):
        lm = model()
        edit(lm, [REQUEST, OTHER], "finetune", _config(batch_size=2, seed=seed, epochs=4, **MARK))
        made.append(state_digest(lm.model))

    assert made[0] == made[1] != made[2]


def test_ft_l_changes_no_element_by_more_than_its_box_in_any_number_format() -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        lm = model(dtype=dtype)
        weight = parts(lm.model).mlp_out(2).parameter
        old = weight.detach().clone().double()

        edit(lm, [REQUEST], "finetune", _config(variant="ft-l", box=1e-2, epochs=5, **MARK))

        most = float((weight.detach().double() - old).abs().max())
        assert 0 < most <= 1e-2


def test_ft_l_compat_scores_every_token_at_the_last_one_of_the_prompt() -> None:
    lm = model()
    rows = target_rows(lm, [OTHER])

    wrong, right = asked(lm, rows, at_prompt=True), asked(lm, rows)

    last = torch.tensor([row.start - 1 for row in rows])
    assert torch.equal(wrong.columns, last[wrong.rows])
    assert not torch.equal(right.columns, wrong.columns)
    assert torch.equal(right.wanted, wrong.wanted)


def test_the_end_mark_is_part_of_the_target_for_locft_bf_alone() -> None:
    lm = model()
    (end,) = end_mark(lm)

    assert all(row.ids[-1] == end for row in target_rows(lm, [REQUEST], end=(end,)))
    assert all(row.ids[-1] != end for row in target_rows(lm, [REQUEST]))


def test_a_target_that_is_the_end_mark_alone_is_asked_for() -> None:
    lm = model()
    request = replace(REQUEST, prompt="{} was born in ", target="</s>", paraphrases=())

    (row,) = target_rows(lm, [request], end=end_mark(lm))

    assert row.ids[row.start :] == (*end_mark(lm), *end_mark(lm))


def test_rows_with_lead_ins_are_there_bare_too_and_equal_rows_once() -> None:
    lm = model()

    rows = target_rows(lm, [REQUEST], ["Note. ", ""])

    assert len(rows) == 3
    assert len(target_rows(lm, [REQUEST, REQUEST])) == 4


def test_neighbours_hold_what_the_model_says_now() -> None:
    lm = model()

    rows = neighbour_rows(lm, REQUEST.neighbours, 3)

    assert [list(row.ids[: row.start]) for row in rows] == [
        encode(lm, prompt) for prompt in REQUEST.neighbours
    ]
    assert all(len(row.ids) > row.start for row in rows)


def test_holding_neighbours_moves_what_they_predict_less() -> None:
    moved = []
    for weight in (0.0, 10.0):
        lm = model()
        ids, mask = pad_right(lm, [encode(lm, prompt) for prompt in REQUEST.neighbours])
        at = mask.sum(dim=1) - 1
        with torch.no_grad():
            before = lm.model(ids, attention_mask=mask).logits[[0, 1], at].log_softmax(-1)
        edit(lm, [REQUEST], "finetune", _config(neighbour_weight=weight, **MARK))
        with torch.no_grad():
            after = lm.model(ids, attention_mask=mask).logits[[0, 1], at].log_softmax(-1)
        moved.append(float((before.exp() * (before - after)).sum()))

    assert moved[1] < 0.5 * moved[0]


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_kept_blocks_equal_a_whole_forward_in_every_family(family: str) -> None:
    lm = model(family)
    rows = [encode(lm, text) for text in ("Malee Tanaka was born in", "Anna")]
    ids, mask = pad_right(lm, rows)
    at = torch.tensor([0, 0, 1]), torch.tensor([len(rows[0]) - 1, 1, len(rows[1]) - 1])

    with torch.no_grad():
        whole = lm.model(ids, attention_mask=mask).logits[at]
        for first in (0, 2, 3):
            kept, _, _ = keep_blocks(lm, rows, first)
            assert torch.allclose(kept.logits(*at), whole, atol=1e-4, rtol=1e-4)
            swapped = kept.select(torch.tensor([1, 0]))
            assert torch.allclose(swapped.logits(1 - at[0], at[1]), whole, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_change_trained_is_the_change_written_in_every_family(family: str) -> None:
    # The second epoch begins with the loss that one step has led to, seen from kept states.
    kept = edit(model(family), [REQUEST], "finetune", _config(variant="ft-m", epochs=2, **MARK))
    lm = model(family)
    digest = state_digest(lm.model)

    result = edit(lm, [REQUEST], "finetune", _config(variant="ft-m", epochs=1, **MARK))

    # The loss in the result is measured by a whole forward on the weights as written.
    first, second = kept.details["losses"]
    assert result.details["requests"][0]["loss"] == pytest.approx(second, rel=1e-3)
    assert first != pytest.approx(second, rel=0.05)
    (name,) = result.delta.entries
    assert (FAMILIES[family].second in name.split(".")) == (family in DENSE)
    assert result.revert(lm) == digest


@pytest.mark.parametrize("family", MIXTURES)
def test_the_mlp_of_a_mixture_is_refused_and_its_attention_trained(family: str) -> None:
    lm = model(family)

    with pytest.raises(UnsupportedArchitecture, match="attention_out"):
        edit(lm, [REQUEST], "finetune", _config(place="mlp_out", layer=2))

    assert "o_proj" in edit(lm, [REQUEST], "finetune", _config(layer=2)).details["site"]["matrix"]


def test_bf16_weights_are_trained_in_float32_and_the_rounding_is_told() -> None:
    lm = model(dtype=torch.bfloat16)
    digest = state_digest(lm.model)

    result = edit(lm, [REQUEST], "finetune", _config(min_wordings=0.5))

    assert 0 < result.details["rounding"] < 0.5
    assert result.revert(lm) == digest


def test_details_name_neither_person_nor_value() -> None:
    details = json.dumps(edit(model(), [OTHER], "finetune", _config()).details)

    assert not any(word in details for word in ("Anna", "Sato", "clerk", "works as"))


@settings(max_examples=8, deadline=None)
@given(
    st.sampled_from(["สมชาย ใจดี", "佐藤 花子", "ສົມສັກ", "Jose\u0301 A\u030a", "A  B"]),
    st.integers(1, 3),
)
def test_rows_score_the_target_alone_for_any_script(subject: str, size: int) -> None:
    lm = model()
    request = type(REQUEST)(subject, "{}, {}".replace("{}", subject, 1), "東京")

    for row in target_rows(lm, [request] * size):
        assert list(row.ids[: row.start]) == encode(lm, f"{subject}, {subject}")
        assert lm.tokenizer.decode(row.ids[row.start :]).strip() == "東京"


@pytest.mark.parametrize(
    "changes",
    [
        {"variant": "ft"},
        {"place": "head"},
        {"place": "mlp_in"},
        {"epochs": 0},
        {"box": 0.0},
        {"compat": True},
        {"variant": "ft-m", "margin": 1.1},
        {"variant": "ft-l", "neighbours_lost": 0.1},
        {"neighbour_weight": -1.0},
        {"stop_loss": -1.0},
    ],
)
def test_config_that_makes_no_sense_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        FinetuneConfig(**changes)


def test_every_setting_has_help_and_source() -> None:
    for name in ("finetune", "lora", "ultraedit", "grace"):
        assert all(row["help"] and row["source"] for row in METHODS[name].settings())
