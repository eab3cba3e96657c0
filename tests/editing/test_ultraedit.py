from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from editing import edit
from editing.contexts import neighbour_keys
from editing.gradient_factors import TARGET_TOKENS, Scored, gradient_factors
from editing.lifelong import LifelongStatistics, Running
from editing.memory import EditedKeys
from editing.outcome import achieved
from editing.training_rows import end_mark, target_rows
from editing.ultraedit import System, UltraEditConfig, wanted_change
from editing.ultraedit_passes import Passes
from language_models import DeltaError, NotReached, RequestError
from language_models.architecture import parts
from language_models.checkpoint import state_digest
from language_models.families import FAMILIES
from language_models.replay import frozen
from language_models.tracing import Site
from tests.editing.gradient_cases import OTHER, REQUEST, changed, digests, model, standing
from tests.language_models.factories import MIXTURES

if TYPE_CHECKING:
    from editing import EditRequest
    from language_models import LanguageModel

MARK = {"unreached": "mark", "min_wordings": 0.0}


def _config(**changes: Any) -> UltraEditConfig:
    # A random model hardly tells its neighbours apart.
    return UltraEditConfig(
        **{
            "layers": (1, 2),
            "step": 3e-2,
            "rounds": 60,
            "neighbour_weight": 0.0,
            "margin": 0.0,
            "neighbours_lost": 1.0,
            **changes,
        }
    )


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("kept", [0, 3])
@pytest.mark.parametrize(("n", "d"), [(5, 40), (60, 20)])
def test_dual_and_primal_solutions_are_equal(n: int, d: int, kept: int) -> None:
    H, V, K = _random(n, d), _random(n, 7, seed=1), _random(kept, d, seed=2)

    found = System(H, K, 0.5).change(V)

    eye = torch.eye(d, dtype=torch.float64)
    primal = torch.linalg.solve(H.T @ H + K.T @ K + 0.5 * eye, H.T @ V).T
    every = torch.cat([H, K])
    gram = every @ every.T + 0.5 * torch.eye(n + kept, dtype=torch.float64)
    dual = torch.cat([V, torch.zeros(kept, 7)]).T @ torch.linalg.solve(gram, every)
    assert float((primal - dual).norm() / primal.norm()) < 5e-14
    assert float((found - primal).norm() / primal.norm()) < 5e-14


def test_solution_is_the_least_ridge_loss() -> None:
    H, V, K = _random(5, 40), _random(5, 7, seed=1), _random(3, 40, seed=2)

    def loss(delta: torch.Tensor) -> float:
        total = (H @ delta.T - V).square().sum() + (K @ delta.T).square().sum()
        return float(total + 0.5 * delta.square().sum())

    found = System(H, K, 0.5).change(V)

    for seed in range(5):
        assert loss(found) < loss(found + 1e-3 * _random(7, 40, seed=seed))


def test_wanted_change_goes_against_the_gradient_by_the_square_of_the_key() -> None:
    keys, gradients = _random(4, 6), _random(4, 3, seed=1)

    V = wanted_change(keys, gradients, 0.1)

    for row in range(4):
        assert torch.allclose(V[row], -0.1 * (keys[row] @ keys[row]) * gradients[row])


def _paper_change(
    lm: LanguageModel, requests: list[EditRequest], config: UltraEditConfig
) -> dict[str, torch.Tensor]:
    """Δ of one round by the paper's equations, as they are written, per matrix of the layers."""
    places = [parts(lm.model).mlp_out(layer) for layer in config.layers]
    rows = [Scored(row.ids, row.start) for row in target_rows(lm, requests, end=end_mark(lm))]
    found = gradient_factors(lm, places, rows, tokens=TARGET_TOKENS)
    prompts = [prompt for request in requests for prompt in request.neighbours]
    changes = {}
    for layer, place in zip(config.layers, places, strict=True):
        H, G = (one.double() for one in (found[place.name].keys, found[place.name].gradients))
        h = (H - H.mean(dim=0)) / H.std(dim=0)
        g = (G - G.mean(dim=0)) / G.std(dim=0)
        V = -config.step * h.square().sum(dim=1)[:, None] * g
        system = H.T @ H + config.ridge * torch.eye(place.d_in, dtype=torch.float64)
        if prompts:
            K = neighbour_keys(lm, prompts, Site("last", layer), layer).double()
            system = system + config.neighbour_weight * (K.T @ K)
        changes[place.name] = torch.linalg.inv(system) @ H.T @ V
    return {name: change.T for name, change in changes.items()}


def test_kept_keys_are_those_of_the_matrix_and_the_loss_is_the_mean_over_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("editing.ultraedit_passes.ROWS_PER_PASS", 2)
    lm = model()
    place = parts(lm.model).mlp_out(1)
    rows = target_rows(lm, [REQUEST, OTHER], end=end_mark(lm))
    nothing = {place.name: torch.zeros_like(place.matrix, dtype=torch.float64)}

    with frozen(lm):
        passes = Passes(lm, 1, [place])
        batch = passes.keep(rows)
        keys = passes.keys(batch, nothing)
        _, loss = passes.factors(batch, nothing)

    assert len(batch) > 1
    scored = [Scored(row.ids, row.start) for row in rows]
    found = gradient_factors(lm, [place], scored, tokens=TARGET_TOKENS)[place.name]
    assert torch.allclose(keys[place.name], found.keys.double(), rtol=1e-4, atol=1e-5)
    losses = []
    for row in rows:
        with torch.no_grad():
            logits = lm.model(torch.tensor([row.ids])).logits[0, row.start - 1 : -1]
        losses.append(float(F.cross_entropy(logits, torch.tensor(row.ids[row.start :]))))
    assert loss == pytest.approx(sum(losses) / len(losses), rel=1e-4)


# So many that some would only be looked at, were they to bound the change.
CROWDED = replace(REQUEST, neighbours=tuple(f"Anna {number} was born in" for number in range(64)))


@pytest.mark.parametrize("requests", [[REQUEST, OTHER], [OTHER], [CROWDED]])
@pytest.mark.parametrize("weight", [0.0, 10.0])
def test_one_round_is_the_papers_change_with_the_neighbours_keys_held(
    weight: float, requests: list[EditRequest]
) -> None:
    lm = model()
    config = _config(rounds=1, step=1e-3, neighbour_weight=weight, **MARK)
    wanted = _paper_change(lm, requests, config)
    before = {name: lm.model.get_parameter(name).detach().double() for name in wanted}

    edit(lm, requests, "ultraedit", config)

    for name, change in wanted.items():
        found = lm.model.get_parameter(name).detach().double() - before[name]
        assert float((found - change).norm() / change.norm()) < 1e-3


def test_rounding_is_told_as_a_share_of_the_change() -> None:
    lm = model()
    # So small a change that much of it falls below the last bit of a weight.
    config = _config(rounds=1, step=1e-8, **MARK)
    wanted = _paper_change(lm, [REQUEST, OTHER], config)
    before = {name: lm.model.get_parameter(name).detach().double() for name in wanted}

    result = edit(lm, [REQUEST, OTHER], "ultraedit", config)

    for name, change in wanted.items():
        lost = lm.model.get_parameter(name).detach().double() - before[name] - change
        share = float(lost.norm() / change.norm())
        assert share > 0.01
        assert result.details["rounding"][name] == pytest.approx(share, rel=0.01)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=6), st.integers(0, 99))
def test_running_spread_equals_torch_std_for_any_batching(sizes: list[int], seed: int) -> None:
    rows = _random(sum(sizes), 5, seed=seed) * 3 + 10

    running = None
    for part in rows.split(sizes):
        new = Running.of(part)
        running = new if running is None else running.joined(new)

    assert running is not None
    assert running.count == len(rows)
    assert torch.allclose(running.mean, rows.mean(dim=0), rtol=1e-13)
    if len(rows) > 1:
        wanted = (rows - rows.mean(dim=0)) / rows.std(dim=0)
        assert torch.allclose(running.standardised(rows), wanted, atol=1e-11)
    else:
        assert torch.equal(running.standardised(rows), torch.zeros(1, 5, dtype=torch.float64))


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_ultraedit_lowers_the_loss_and_reverts_in_every_family(family: str) -> None:
    lm = model(family)
    before, digest, found = digests(lm), state_digest(lm.model), standing(lm)

    result = edit(lm, [REQUEST, OTHER], "ultraedit", _config(step=3e-3, rounds=12, **MARK))

    names = result.details["site"]["matrices"]
    assert set(changed(before, digests(lm))) == set(names)
    (losses,) = result.details["losses"]
    assert min(losses) < 0.9 * losses[0]
    assert any("o_proj" in name for name in names) == (family in MIXTURES)
    assert standing(lm) == found
    assert result.revert(lm) == digest


def test_ultraedit_reaches_its_targets() -> None:
    result = edit(model(), [REQUEST, OTHER], "ultraedit", _config(step=1e-2))

    assert [row["target_first"] for row in result.details["requests"]] == [1.0, 1.0]
    assert max(result.details["rounding"].values()) < 1e-4


def test_facts_in_one_batch_do_not_depend_on_their_order() -> None:
    first, second = model(), model()

    edit(first, [REQUEST, OTHER], "ultraedit", _config(rounds=2, **MARK))
    edit(second, [OTHER, REQUEST], "ultraedit", _config(rounds=2, **MARK))

    one, other = (parts(lm.model).mlp_out(2).matrix for lm in (first, second))
    assert torch.allclose(one, other, atol=1e-5)


def test_memory_is_carried_over_edits_and_over_bytes() -> None:
    lm = model()
    once = edit(lm, [REQUEST], "ultraedit", _config(rounds=1, **MARK))
    assert isinstance(once.memory, LifelongStatistics)

    memory = LifelongStatistics.from_bytes(once.memory.to_bytes())
    twice = edit(lm, [OTHER], "ultraedit", _config(rounds=1, **MARK), memory=memory)

    assert twice.details["rows_in_statistics"] > once.details["rows_in_statistics"]
    with pytest.raises(RequestError, match="other weights"):
        edit(model(), [OTHER], "ultraedit", _config(**MARK), memory=memory)
    with pytest.raises(RequestError, match="ultraedit before it"):
        edit(lm, [OTHER], "ultraedit", _config(**MARK), memory=EditedKeys())


def test_damaged_memory_is_refused() -> None:
    content = LifelongStatistics().with_rows("w", _random(3, 4)).to_bytes()

    for damaged in (content[:-3], b"", EditedKeys().to_bytes()):
        with pytest.raises(DeltaError):
            LifelongStatistics.from_bytes(damaged)


def test_batches_are_written_one_after_another_and_hold_those_before() -> None:
    def first_lost(weight: float) -> float:
        config = _config(step=3e-3, rounds=8, batch_size=1, neighbour_weight=weight, **MARK)
        details = edit(model(), [REQUEST, OTHER], "ultraedit", config).details
        assert details["share"] == [1.0, 1.0]
        assert details["facts_tried"] == 2
        assert details["losses"][1][-1] < details["losses"][1][0]
        return float(details["requests"][0]["loss"])

    alone = edit(model(), [REQUEST], "ultraedit", _config(step=3e-3, rounds=8, **MARK)).details
    least = alone["requests"][0]["loss"]

    assert first_lost(10.0) == pytest.approx(least, rel=0.01)
    assert first_lost(0.0) > 1.1 * least


def test_a_batch_that_neighbours_do_not_bear_is_the_last_one() -> None:
    prompts = tuple(f"{REQUEST.subject} was {word}" for word in ("born in", "seen in", "heard of"))
    config = _config(
        step=1e-2, batch_size=1, neighbours_lost=0.4, margin=1.3, neighbour_weight=1e-9
    )
    lm = model()
    before = achieved(lm, [OTHER])
    requests = [replace(REQUEST, neighbours=prompts), OTHER]
    digest = state_digest(lm.model)

    with pytest.raises(NotReached, match="first 1 of 2 facts"):
        edit(lm, requests, "ultraedit", config)
    assert state_digest(lm.model) == digest
    details = edit(lm, requests, "ultraedit", replace(config, unreached="mark")).details

    assert details["facts_tried"] == len(details["share"]) == len(details["losses"]) == 1
    assert 0 < details["share"][0] < 1
    found = details["requests"]
    assert [row["reached"] for row in found] == [False, False]
    # The second is scored as well, on the weights that the first has changed.
    assert found[1]["loss"] == pytest.approx(achieved(lm, [OTHER])[0]["loss"])
    assert found[1]["loss"] != before[0]["loss"]


def test_details_name_neither_person_nor_value() -> None:
    details = json.dumps(edit(model(), [OTHER], "ultraedit", _config(**MARK)).details)

    assert not any(word in details for word in ("Anna", "Sato", "clerk", "works as"))


@pytest.mark.parametrize(
    "changes", [{"step": 0.0}, {"ridge": 0.0}, {"rounds": 0}, {"place": "x"}, {"stop_loss": -1.0}]
)
def test_config_that_makes_no_sense_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        UltraEditConfig(**changes)
