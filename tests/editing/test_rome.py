from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch

from editing import METHODS, EditRequest, edit
from editing.closed_form import rank_one
from editing.contexts import context_keys, contexts
from editing.located import locate_edits, to_keep
from editing.memory import EditedKeys
from editing.outcome import achieved
from editing.rome import RomeConfig
from editing.value import optimise_values
from language_models import NotReached, RequestError
from language_models.checkpoint import state_digest, tensor_digest
from language_models.delta import LowRank, WeightDelta
from language_models.generation import encode
from language_models.moments import second_moment
from language_models.progress import silent
from language_models.tracing import Site
from tests.language_models.factories import SENTENCES, tiny_model

if TYPE_CHECKING:
    from pathlib import Path

REQUEST = EditRequest(
    "Malee Tanaka",
    "{} was born in",
    "was",
    paraphrases=("Records show that {} was born in",),
    neighbours=("Anna Sato was born in", "Somchai Saito works as"),
)
PAIR = [REQUEST, EditRequest("Anna Sato", "{} works as", "born", ("Q: Job of {}? A:",))]
LAYER = 1
NAME = f"model.layers.{LAYER}.mlp.down_proj.weight"


def _config(**changes: Any) -> RomeConfig:
    # A random model needs a far larger push than a trained one.
    push = {"clamp": 300.0, "learning_rate": 0.5}
    site = {"role": "last", "layer": LAYER}
    return RomeConfig(**{**site, **push, "moment_texts": SENTENCES, **changes})


def test_edit_reaches_the_target_by_one_rank_one_change_of_one_tensor() -> None:
    lm = tiny_model()
    before = {name: tensor_digest(tensor) for name, tensor in lm.model.state_dict().items()}

    result = edit(lm, [REQUEST], config=_config())

    after = {name: tensor_digest(tensor) for name, tensor in lm.model.state_dict().items()}
    assert [name for name in before if before[name] != after[name]] == [NAME]
    entry = result.delta.entries[NAME]
    assert isinstance(entry, LowRank)
    assert torch.linalg.matrix_rank(entry.left @ entry.right) == 1
    assert achieved(lm, [REQUEST])[0]["target_first"] == 1.0
    assert result.details["tensors"][NAME]["rank"] == 1
    assert result.details["requests"][0]["target_first"] == 1.0


def test_edit_maps_the_mean_key_to_its_value() -> None:
    lm = tiny_model()
    (keys,) = context_keys(lm, [contexts(lm, REQUEST, _config(), Site("last", LAYER))], LAYER)
    old = dict(lm.model.named_parameters())[NAME].detach().clone().double()

    result = edit(lm, [REQUEST], config=_config())

    entry = result.delta.entries[NAME]
    assert isinstance(entry, LowRank)
    new = dict(lm.model.named_parameters())[NAME].detach().double()
    mean = keys.mean(dim=0).cpu()
    # v_e = W k_e + δ; the weight itself is rounded to float32 once.
    assert torch.allclose(new @ mean, old @ mean + entry.left[:, 0], atol=1e-5)


def test_edit_is_reverted_bit_for_bit_also_after_save_and_load(tmp_path: Path) -> None:
    lm = tiny_model()
    before = state_digest(lm.model)
    result = edit(lm, [REQUEST], config=_config())
    after = state_digest(lm.model)
    result.delta.save(tmp_path / "delta.safetensors")

    assert result.delta.revert(lm) == before
    assert WeightDelta.load(tmp_path / "delta.safetensors").apply(lm) == after


def test_edit_twice_gives_the_same_weights() -> None:
    first, second = tiny_model(), tiny_model()

    edit(first, [REQUEST], config=_config())
    edit(second, [REQUEST], config=_config())

    assert state_digest(first.model) == state_digest(second.model)


def test_edit_of_two_facts_in_turn_reaches_both() -> None:
    lm = tiny_model()

    result = edit(lm, PAIR, config=_config())

    assert [row["target_first"] for row in result.details["requests"]] == [1.0, 1.0]
    entry = result.delta.entries[NAME]
    assert isinstance(entry, LowRank)
    assert entry.left.shape[1] == 2


def test_later_fact_is_asked_only_for_what_is_missing_and_keeps_the_keys_of_earlier_ones() -> None:
    lm = tiny_model()
    requests = PAIR
    moment = second_moment(lm, SENTENCES, LAYER)
    config = _config(moments=((LAYER, moment),), unreached="mark", rounds=1)
    located = locate_edits(lm, requests, config, silent)
    found = optimise_values(lm, located.contexts, config, LAYER, silent)
    one, other = (value.delta.double() for value in found)
    K, L = (keys.T for keys in context_keys(lm, located.contexts, LAYER))
    A = to_keep(lm, requests, located, LAYER, moment, None)

    result = edit(lm, requests, config=config)

    first = torch.matmul(*rank_one(one, K, A, config.slack))
    missing = other - first @ L.mean(dim=1)
    second = torch.matmul(*rank_one(missing, L, A + K @ K.T, config.slack))
    entry = result.delta.entries[NAME]
    assert isinstance(entry, LowRank)
    torch.testing.assert_close(entry.left @ entry.right, first + second, rtol=1e-6, atol=1e-9)
    assert isinstance(result.memory, EditedKeys)
    every = torch.cat([K, L], dim=1)
    torch.testing.assert_close(result.memory.sums[LAYER], every @ every.T)


def test_facts_of_a_call_that_are_not_reached_are_asked_again_on_the_changed_weights() -> None:
    lm = tiny_model()
    requests = PAIR
    moments = ((LAYER, second_moment(lm, SENTENCES, LAYER)),)
    # Too few steps to reach anything.
    weak = {"moments": moments, "unreached": "mark", "steps": 2, "clamp": 1.0}
    first = edit(lm, requests, config=_config(**weak, rounds=1))
    config = _config(**weak, rounds=2)
    located = locate_edits(lm, requests, config, silent)
    found = optimise_values(lm, located.contexts, config, LAYER, silent)
    one, other = (value.delta.double() for value in found)
    first.delta.revert(lm)
    # The keys lie below the change, so both rounds have the same.
    K, L = (keys.T for keys in context_keys(lm, located.contexts, LAYER))
    A = to_keep(lm, requests, located, LAYER, moments[0][1], None)

    result = edit(lm, requests, config=config)

    third = torch.matmul(*rank_one(one, K, A + L @ L.T, config.slack))
    missing = other - third @ L.mean(dim=1)
    fourth = torch.matmul(*rank_one(missing, L, A + K @ K.T, config.slack))
    before, after = first.delta.entries[NAME], result.delta.entries[NAME]
    assert isinstance(before, LowRank)
    assert isinstance(after, LowRank)
    torch.testing.assert_close(
        after.left @ after.right, before.left @ before.right + third + fourth, rtol=1e-6, atol=1e-9
    )
    assert [row["rounds"] for row in first.details["requests"]] == [1, 1]
    assert [row["rounds"] for row in result.details["requests"]] == [2, 2]


@pytest.mark.parametrize(
    ("requests", "changes", "rounds"),
    [
        (PAIR, {}, [1, 1]),
        (PAIR, {"steps": 6, "clamp": 5.0}, [2, 3]),
        # The value of one alone was optimised on the very weights that it changed.
        (PAIR[:1], {"steps": 2, "clamp": 1.0}, [1]),
    ],
)
def test_only_facts_that_others_of_their_call_got_in_the_way_of_have_further_rounds(
    requests: list[EditRequest], changes: dict[str, Any], rounds: list[int]
) -> None:
    told: list[tuple[str, int, int]] = []
    config = _config(unreached="mark", **changes)

    result = edit(tiny_model(), requests, "rome", config, progress=lambda *row: told.append(row))

    assert [row["rounds"] for row in result.details["requests"]] == rounds
    reported = [done for step, done, _ in told if step == "rounds"]
    assert reported == list(range(1, max(rounds) + 1))


def test_edit_without_a_site_traces_it_and_stores_the_trace() -> None:
    lm = tiny_model()

    config = RomeConfig(moment_texts=SENTENCES, steps=2, min_wordings=0.0)
    details = edit(lm, [REQUEST], config=config).details

    assert details["trace"]["site"] == details["site"]
    assert set(details["trace"]["grid"]) == set(details["trace"]["roles"])


def test_edit_without_paraphrases_samples_its_contexts() -> None:
    lm = tiny_model()
    request = EditRequest("Malee Tanaka", "{} was born in", "was")

    (found,) = locate_edits(lm, [request], _config(prefixes=4), silent).contexts

    assert sum(found.counts) == 5
    assert set(found.groups) == {0}
    assert list(found.rows[0][: found.starts[0]]) == encode(lm, "Malee Tanaka was born in")


def test_edit_uses_lead_ins_in_turn() -> None:
    config = _config(lead_ins=("Note: ", "", "File. "))

    found = contexts(tiny_model(), REQUEST, config, Site("last", LAYER))

    assert len(found.rows) == 3
    assert found.groups == (0, 0, 1)


def test_contexts_that_occur_twice_are_kept_once_and_counted() -> None:
    request = EditRequest("Malee Tanaka", "{} was born in", "was")

    found = contexts(
        tiny_model(), request, _config(lead_ins=("A. ", "B. ", "A. ")), Site("last", LAYER)
    )

    assert found.counts == (1, 2, 1)


def test_edit_at_the_subject_keeps_every_token_of_the_neighbours() -> None:
    lm = tiny_model()

    result = edit(lm, [REQUEST], config=_config(role="subject_last", steps=2, min_wordings=0.0))

    assert result.details["site"] == {"role": "subject_last", "layer": LAYER}


def test_edit_that_is_not_reached_leaves_the_weights_as_before() -> None:
    lm = tiny_model()
    before = state_digest(lm.model)

    with pytest.raises(NotReached, match="not reached") as caught:
        edit(lm, [REQUEST], config=_config(steps=1, clamp=1e-6))

    assert state_digest(lm.model) == before
    assert "Malee" not in str(caught.value)


def test_edit_leaves_no_hook_and_no_frozen_weight_behind() -> None:
    lm = tiny_model()

    edit(lm, [REQUEST], config=_config())

    assert all(weight.requires_grad for weight in lm.model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in lm.model.modules())


def test_edit_details_name_neither_person_nor_value() -> None:
    details = json.dumps(edit(tiny_model(), [REQUEST], config=_config()).details)

    for word in ("Malee", "Tanaka", "was born", "Sato"):
        assert word not in details


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": " "},
        {"target": ""},
        {"target": " Kyoto"},
        {"prompt": "was born in"},
        {"prompt": "{} and {}"},
        {"paraphrases": ("no name",)},
        {"neighbours": ("{} was born in",)},
    ],
)
def test_request_that_makes_no_sense_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        EditRequest(**{"subject": "A", "prompt": "{} is", "target": "b", **changes})


@pytest.mark.parametrize(
    "changes",
    [{"layer": 1}, {"role": "last"}, {"role": "x", "layer": 1}, {"steps": 0}, {"slack": -1.0}],
)
def test_config_that_makes_no_sense_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        RomeConfig(**changes)


@pytest.mark.parametrize(
    ("requests", "method", "config"),
    [
        ([], "rome", None),
        ([REQUEST], "magic", None),
        ([REQUEST], "rome", METHODS),
        ([REQUEST], "rome", RomeConfig(role="last", layer=7)),
    ],
)
def test_edit_that_cannot_be_carried_out_changes_nothing(
    requests: list[EditRequest], method: str, config: Any
) -> None:
    lm = tiny_model()
    before = state_digest(lm.model)

    with pytest.raises(RequestError):
        edit(lm, requests, method, config)

    assert state_digest(lm.model) == before
