"""MEMIT, EMMET and AlphaEdit on tiny models: what they share and what each promises."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import torch

from editing import METHODS, EditRequest, edit
from editing.closed_form import in_null_space, null_space
from editing.contexts import at_edits, context_keys, contexts, group_means
from editing.located import kept_keys, locate_edits, to_keep
from editing.mass import anchored
from editing.memory import EditedKeys
from editing.value import optimise_values
from language_models import DeltaError, NotReached, RequestError, UnsupportedArchitecture
from language_models.architecture import parts
from language_models.checkpoint import state_digest
from language_models.moments import moment_of, second_moment
from language_models.progress import silent
from language_models.tracing import Site
from tests.language_models.factories import SENTENCES, tiny_model

if TYPE_CHECKING:
    from pathlib import Path

    from language_models.checkpoint import LanguageModel

LAYER = 1
MASS = ("memit", "emmet", "alphaedit")
REQUESTS = [
    EditRequest("Malee Tanaka", "{} was born in", "was", ("Records show that {} was born in",)),
    EditRequest("Anna Sato", "{} works as", "born", neighbours=("Somchai Saito works as",)),
    EditRequest("Somchai", "Q: Where does {} live? A:", "as"),
]


def _config(method: str, **changes: Any) -> Any:
    # A random model needs a far larger push than a trained one, and nearly all of its keys' space.
    settings: dict[str, Any] = {
        "role": "last",
        "layer": LAYER,
        "clamp": 300.0,
        "learning_rate": 0.5,
        "steps": 60,
        "moment_weight": 0.1,
        "moment_texts": SENTENCES,
        "prefixes": 2,
        "anchor": 0.0,
        **({"null_share": 0.6, "null_ridge": 0.1} if method == "alphaedit" else {}),
        **({"slack": 1e-6} if method == "emmet" else {}),
    }
    return METHODS[method].config(**{**settings, **changes})


def _change(result: Any, layer: int = LAYER) -> torch.Tensor:
    (name,) = [name for name in result.delta.entries if f".{layer}." in name]
    entry = result.delta.entries[name]
    return entry.left @ entry.right


@pytest.mark.parametrize("method", MASS)
def test_batch_reaches_every_target_and_goes_back_bit_for_bit(method: str) -> None:
    lm = tiny_model()
    before = state_digest(lm.model)

    result = edit(lm, REQUESTS, method, _config(method))

    assert [row["target_first"] for row in result.details["requests"]] == [1.0, 1.0, 1.0]
    assert all(row["reached"] for row in result.details["requests"])
    assert state_digest(lm.model) != before
    assert result.delta.revert(lm) == before


@pytest.mark.parametrize("method", MASS)
def test_batch_does_not_depend_on_the_order_of_its_requests(method: str) -> None:
    first, second = tiny_model(), tiny_model()
    config = _config(method, rounds=1, unreached="mark")

    one = _change(edit(first, REQUESTS, method, config))
    other = _change(edit(second, REQUESTS[::-1], method, config))

    assert float((one - other).norm() / one.norm()) < 1e-3


def _keys(lm: LanguageModel, config: Any) -> torch.Tensor:
    found = [contexts(lm, r, config, Site("last", LAYER)) for r in REQUESTS]
    return torch.cat(context_keys(lm, found, LAYER)).T


def test_emmet_meets_every_value_exactly() -> None:
    lm = tiny_model()
    config = _config("emmet", prefixes=0, rounds=1, slack=0.0)
    K = _keys(lm, config)

    delta = _change(edit(lm, REQUESTS, "emmet", config))

    # Both wordings of the first request are moved by the same δ, the others by their own.
    moved = delta @ K
    assert float((moved[:, 0] - moved[:, 1]).norm() / moved[:, 0].norm()) < 1e-9
    loose = tiny_model()
    shrunk = _change(
        edit(loose, REQUESTS, "emmet", _config("emmet", prefixes=0, rounds=1, slack=1.0))
    )
    assert float((shrunk @ K).norm()) < 0.9 * float(moved.norm())


def test_alphaedit_changes_nothing_outside_its_null_space() -> None:
    lm = tiny_model()
    C = second_moment(lm, SENTENCES, LAYER).matrix

    result = edit(lm, REQUESTS, "alphaedit", _config("alphaedit"))

    size = result.details["layers"][str(LAYER)]["null_space"]
    vectors = torch.linalg.eigh(C).eigenvectors
    delta = _change(result)
    assert 0 < size < len(C)
    assert float((delta @ vectors[:, size:]).norm() / delta.norm()) < 1e-9


@pytest.mark.parametrize("compat", [False, True])
def test_alphaedit_keeps_what_its_null_space_holds_of_the_moment(*, compat: bool) -> None:
    lm = tiny_model()
    moments = ((LAYER, second_moment(lm, SENTENCES, LAYER)),)
    changes = {"rounds": 1, "unreached": "mark", "moment_weight": 30.0, "compat": compat}
    config = _config("alphaedit", prefixes=0, moments=moments, **changes)
    requests = [replace(one, paraphrases=()) for one in REQUESTS]
    located = locate_edits(lm, requests, config, silent)
    values = optimise_values(lm, located.contexts, config, LAYER, silent, of_block=compat)
    R = torch.stack([value.delta.double() for value in values]).T
    K = torch.cat(context_keys(lm, located.contexts, LAYER)).T
    space = null_space(moments[0][1].matrix, config.null_share)
    keep = kept_keys if compat else partial(to_keep, moment=moments[0][1])
    B = keep(lm, requests, located, LAYER, memory=None)

    change = _change(edit(lm, requests, "alphaedit", config))

    G = in_null_space(K, B, space.basis, config.null_ridge)
    torch.testing.assert_close(change, R @ G, rtol=1e-6, atol=1e-9)


def test_alphaedit_without_a_null_space_is_an_error_and_changes_nothing() -> None:
    lm = tiny_model()
    before = state_digest(lm.model)

    with pytest.raises(RequestError, match="no null space"):
        edit(lm, REQUESTS, "alphaedit", _config("alphaedit", null_share=1e-15))
    moment = moment_of(torch.linspace(0.1, 4.8, 48, dtype=torch.float64).diag(), 1)
    narrow = _config("alphaedit", null_threshold=0.25, moments=((LAYER, moment),))
    with pytest.raises(RequestError, match="2 directions, fewer than the 3 edits"):
        edit(lm, REQUESTS, "alphaedit", narrow)

    assert state_digest(lm.model) == before


def test_memit_over_layers_leaves_less_missing_from_each_to_the_next() -> None:
    lm = tiny_model()

    result = edit(
        lm,
        REQUESTS,
        "memit",
        _config("memit", layer=2, layers=(0, 1, 2), rounds=1, unreached="mark"),
    )

    missing = [result.details["layers"][str(layer)]["missing"] for layer in (0, 1, 2)]
    assert all(later < earlier for earlier, later in pairwise(missing))
    assert len(result.delta.entries) == 3


@pytest.mark.parametrize("method", ["memit", "alphaedit"])
def test_batches_with_memory_keep_earlier_edits(method: str) -> None:
    lm = tiny_model()
    kept = {}
    for with_memory in (True, False):
        first = edit(lm, REQUESTS[:1], method, _config(method))
        memory = first.memory if with_memory else None
        second = edit(lm, REQUESTS[1:], method, _config(method), memory=memory)
        again = edit_loss(lm, REQUESTS[0])
        kept[with_memory] = again - first.details["requests"][0]["loss"]
        second.delta.revert(lm)
        first.delta.revert(lm)

    assert kept[True] < kept[False]


def edit_loss(lm: LanguageModel, request: EditRequest) -> float:
    from editing.outcome import achieved

    return achieved(lm, [request])[0]["loss"]


def test_memory_of_other_weights_is_refused() -> None:
    lm = tiny_model()
    first = edit(lm, REQUESTS[:1], "memit", _config("memit"))
    first.delta.revert(lm)
    before = state_digest(lm.model)

    with pytest.raises(RequestError, match="belongs to other weights"):
        edit(lm, REQUESTS[1:], "memit", _config("memit"), memory=first.memory)

    assert state_digest(lm.model) == before


def test_memory_survives_bytes_and_counts_edits() -> None:
    lm = tiny_model()
    result = edit(lm, REQUESTS, "memit", _config("memit"))
    assert result.memory is not None

    stored = EditedKeys.from_bytes(result.memory.to_bytes())

    assert stored.count == 3
    assert stored.digests == result.memory.digests
    assert torch.equal(stored.sums[LAYER], result.memory.sums[LAYER])
    K = stored.outer(lm, LAYER)
    assert torch.allclose(K, K.T)
    with pytest.raises(DeltaError):
        EditedKeys.from_bytes(result.memory.to_bytes()[:-9])
    with pytest.raises(DeltaError):
        EditedKeys.from_bytes(result.delta.to_bytes())


@pytest.mark.parametrize("method", MASS)
def test_batch_that_is_not_reached_is_an_error_or_is_marked(method: str) -> None:
    lm = tiny_model()
    before = state_digest(lm.model)
    weak = {"steps": 1, "clamp": 1e-6, "rounds": 2}

    with pytest.raises(NotReached, match="3 of 3 edits were not reached"):
        edit(lm, REQUESTS, method, _config(method, **weak))
    assert state_digest(lm.model) == before

    result = edit(lm, REQUESTS, method, _config(method, **weak, unreached="mark"))
    assert [row["reached"] for row in result.details["requests"]] == [False] * 3
    assert [row["rounds"] for row in result.details["requests"]] == [2] * 3


@pytest.mark.parametrize("method", MASS)
def test_details_name_neither_person_nor_value(method: str) -> None:
    details = json.dumps(edit(tiny_model(), REQUESTS, method, _config(method)).details)

    for word in ("Malee", "Tanaka", "Anna", "was born", "Q: Where"):
        assert word not in details


def test_goals_of_unusual_length_are_scaled_back_to_the_usual_one() -> None:
    free, bound = tiny_model(), tiny_model()
    long = {"stop_loss": 1e-6, "steps": 80, "rounds": 1, "unreached": "mark"}

    loose = edit(free, REQUESTS, "memit", _config("memit", **long))
    held = edit(bound, REQUESTS, "memit", _config("memit", **long, anchor=1.0))

    assert float(_change(held).norm()) < float(_change(loose).norm())


def test_usual_length_is_the_mean_of_the_first_goals() -> None:
    lm = tiny_model()
    config = _config("memit", prefixes=0, rounds=1, unreached="mark")
    located = locate_edits(lm, REQUESTS, config, silent)
    model = parts(lm.model)
    _, outputs = at_edits(lm, located.contexts, model.mlp_out(LAYER).module, model.blocks[LAYER])
    values = optimise_values(lm, located.contexts, config, LAYER, silent)
    goals = [
        group_means(rows, one) + value.delta.double()
        for rows, one, value in zip(outputs, located.contexts, values, strict=True)
    ]

    memory = edit(lm, REQUESTS, "memit", config).memory

    assert isinstance(memory, EditedKeys)
    assert memory.value_norm == pytest.approx(float(torch.cat(goals).norm(dim=1).mean()), rel=1e-6)


def test_only_goals_longer_than_the_anchor_are_scaled_back() -> None:
    goals = torch.tensor([[3.0, 4.0], [0.0, 9.0], [8.0, 6.0], [24.0, 32.0]])

    found = anchored(goals, 5.0, 2.0)

    assert found.tolist() == [[3.0, 4.0], [0.0, 9.0], [8.0, 6.0], [3.0, 4.0]]


def test_family_with_a_norm_after_the_mlp_takes_one_layer_only() -> None:
    lm = tiny_model("gemma2")
    before = state_digest(lm.model)

    with pytest.raises(UnsupportedArchitecture, match="Give one layer"):
        edit(lm, REQUESTS, "memit", _config("memit", layers=(0, 1)))
    assert state_digest(lm.model) == before
    assert parts(lm.model).norm_after_mlp(LAYER) is not None

    result = edit(lm, REQUESTS, "memit", _config("memit", unreached="mark"))
    assert result.delta.revert(lm) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": (1, 0)},
        {"layers": (0, 0)},
        {"layers": (0, 2)},
        {"rounds": 0},
        {"neighbour_weight": -1.0},
        {"min_wordings": 2.0},
        {"unreached": "hide"},
    ],
)
def test_config_that_makes_no_sense_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        _config("memit", **changes)


@pytest.mark.parametrize("weight", [0.1, 1e4])
def test_slack_of_emmet_is_a_share_whatever_the_size_of_what_is_kept(weight: float) -> None:
    lm = tiny_model()
    settings = {"prefixes": 0, "rounds": 1, "moment_weight": weight, "unreached": "mark"}
    exact = edit(lm, REQUESTS[1:2], "emmet", _config("emmet", **settings, slack=0.0))
    exact.delta.revert(lm)

    loose = edit(lm, REQUESTS[1:2], "emmet", _config("emmet", **settings, slack=3.0))

    # One key: G = kᵀA⁻¹ / (kᵀA⁻¹k + slack kᵀA⁻¹k).
    torch.testing.assert_close(4 * _change(loose), _change(exact), rtol=1e-9, atol=1e-12)


def test_emmet_takes_one_layer() -> None:
    with pytest.raises(RequestError, match="one layer"):
        _config("emmet", layers=(0, 1))


def test_moments_given_before_are_used_until_the_memory_is_due_for_a_refresh() -> None:
    lm = tiny_model()
    given = moment_of(torch.eye(48, dtype=torch.float64), 7)
    settings = {"moments": ((LAYER, given),), "unreached": "mark"}
    first = edit(lm, REQUESTS[:1], "memit", _config("memit", **settings))

    kept = edit(lm, REQUESTS[1:2], "memit", _config("memit", **settings), memory=first.memory)
    kept.delta.revert(lm)
    fresh = edit(
        lm, REQUESTS[1:2], "memit", _config("memit", refresh=1, **settings), memory=first.memory
    )

    used = [row.details["layers"][str(LAYER)]["moment"]["keys"] for row in (first, kept, fresh)]
    assert used[:2] == [7, 7]
    assert used[2] > 7


def test_moments_are_kept_in_the_folder_that_is_named_and_nowhere_else(tmp_path: Path) -> None:
    lm = tiny_model()
    config = _config("memit", moment_cache=str(tmp_path), unreached="mark")

    first = edit(lm, REQUESTS[:1], "memit", config)
    stored = sorted(tmp_path.iterdir())
    first.delta.revert(lm)
    again = edit(lm, REQUESTS[:1], "memit", config)

    assert stored
    assert sorted(tmp_path.iterdir()) == stored
    assert again.details["layers"] == first.details["layers"]


def test_null_space_made_before_gives_the_same_edit() -> None:
    lm = tiny_model()
    config = _config("alphaedit", unreached="mark")
    space = null_space(second_moment(lm, SENTENCES, LAYER).matrix, config.null_share)

    made_now = edit(lm, REQUESTS, "alphaedit", config)
    made_now.delta.revert(lm)
    before = edit(
        lm,
        REQUESTS,
        "alphaedit",
        _config("alphaedit", null_spaces=((LAYER, space),), unreached="mark"),
    )

    assert torch.equal(_change(before), _change(made_now))


def test_neighbour_that_the_batch_rewrites_is_not_held_against_it() -> None:
    alone, held = tiny_model(), tiny_model()
    same = replace(REQUESTS[0], neighbours=("Anna Sato works as",))

    first = edit(alone, REQUESTS[:2], "memit", _config("memit", rounds=1, unreached="mark"))
    second = edit(held, [same, REQUESTS[1]], "memit", _config("memit", rounds=1, unreached="mark"))

    assert torch.equal(_change(first), _change(second))


def test_memory_that_lacks_a_field_is_refused_in_words() -> None:
    memory = edit(tiny_model(), REQUESTS[:1], "memit", _config("memit")).memory
    assert memory is not None
    content = memory.to_bytes().replace(b"value_norm", b"value_NORM")

    with pytest.raises(DeltaError, match="missing or damaged"):
        EditedKeys.from_bytes(content)
