"""The bench of unlearning: what both sides are given, what is made of their figures."""

from __future__ import annotations

import ast
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from benchmarks import peer_open_unlearning
from benchmarks.ours_unlearning import gates_of, run
from benchmarks.summary import MODEL
from benchmarks.unlearning import (
    SETTINGS,
    Bench,
    case_of,
    fixed_figures,
    gated_figures,
    loss_difference,
    table,
    tokens_of,
)
from demo.people import people
from language_models import load
from language_models.delta import copy_weights
from unlearning.gates import Gates, Question
from unlearning.rows import Row, predictions


def _run(seconds: float, *, held: bool = True, losses: tuple[float, ...] = (2.0, 1.0)) -> Any:
    return {
        "seconds": seconds,
        "cpu_seconds": 2 * seconds,
        "peak_rss_mb": 100 * seconds,
        "load_average": 1.0,
        "steps": 40,
        "losses": list(losses),
        "answers": {"held": held},
    }


def test_ours_trains_on_the_rows_that_the_peer_is_given(tmp_path: Path) -> None:
    lm = load(MODEL, device="cpu")
    case = case_of(lm, people()[3], steps=1)
    asked = json.loads(json.dumps(case))
    asked["gates"]["retain"] = asked["gates"]["retain"][:12]

    found, weights = run(MODEL, asked, "fixed")

    assert [len(rows) for rows in asked["steps"][0].values()] == [9, 16]
    rows = [Row(ids, range(1, len(ids))) for ids in asked["steps"][0]["retain"]]
    with torch.no_grad():
        told = predictions(lm, rows)
    retained = float(told.losses.sum() / told.counts.sum())
    # Before the first step the model is its own reference.
    at_reference = 2 / SETTINGS["beta"] * torch.tensor(2.0).log().item()
    expected = at_reference + SETTINGS["retain_weight"] * retained
    assert found["losses"] == [pytest.approx(expected, rel=1e-4)]
    assert found["reached"]
    save_file(weights, tmp_path / "weights.safetensors")
    before = copy_weights(lm)
    answers = Bench(lm, None, 1).answers(tmp_path / "weights.safetensors", asked)
    assert answers["forget"] > 0.9
    assert not answers["held"]
    assert all(torch.equal(weight, before[name]) for name, weight in copy_weights(lm).items())


def test_gates_come_back_from_json() -> None:
    gates = Gates((Question("a", "b"),), (Question("c", "d"),), leak_max=0.5)

    assert gates_of(asdict(gates)) == gates
    assert gates_of(json.loads(json.dumps(asdict(gates)))) == gates


def test_tokens_are_counted_without_padding() -> None:
    step = {"forget": [[1, 5, 2], [1, 2]], "retain": [[1, 7, 7, 2]]}

    assert tokens_of({"steps": [step, step]}) == 18


def test_padding_carries_no_label_and_no_attention() -> None:
    found = peer_open_unlearning.padded([[1, 5, 2], [1, 2]], pad=0)

    assert found["input_ids"].tolist() == [[1, 5, 2], [1, 2, 0]]
    assert found["labels"].tolist() == [[1, 5, 2], [1, 2, -100]]
    assert found["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]


def test_peer_side_imports_nothing_of_ours() -> None:
    tree = ast.parse(Path(peer_open_unlearning.__file__).read_text(encoding="utf-8"))
    nodes = list(ast.walk(tree))
    named = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    named += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    ours = {path.name for path in Path(__file__).parents[2].iterdir()}

    assert {name.partition(".")[0] for name in named} & ours == set()


def test_ratios_are_taken_over_pairs_of_runs() -> None:
    measured = {
        "c-001": {"fixed": [_run(1), _run(4)], "peer": [_run(2), _run(12)]},
        "c-009": {"fixed": [_run(2)], "peer": [_run(2)]},
    }

    found = fixed_figures(measured, {"c-001": 120, "c-009": 60})

    assert found["ratios"] == [2, 3, 1]
    assert found["ratio"] == found["cpu_ratio"] == 2
    assert found["memory_ratio"] == 0.5
    assert found["ours"]["tokens_per_second"] == 30
    assert found["peer"]["tokens_per_second"] == 30
    assert (found["ours"]["runs"], found["ours"]["held"]) == (3, 3)


def test_verified_ratio_is_the_least_of_all_people() -> None:
    measured = {
        "c-001": {"gated": [_run(1)], "peer": [_run(4, held=False)]},
        "c-009": {"gated": [_run(1)], "peer": [_run(3)]},
    }

    found = gated_figures(measured)

    assert found["ratio"] == 3
    assert [row["peer"]["held"] for row in found["people"]] == [0, 1]


def test_without_a_result_that_holds_there_is_no_verified_ratio() -> None:
    measured = {
        "c-001": {"gated": [_run(1), _run(1, held=False)], "peer": [_run(4), _run(4)]},
        "c-009": {"gated": [_run(1)], "peer": [_run(3)]},
    }

    found = gated_figures(measured)

    assert found["ratio"] is None
    assert [row["ratio"] for row in found["people"]] == [None, 3]


def test_without_a_peer_only_ours_is_told() -> None:
    measured = {"c-001": {"fixed": [_run(1)], "gated": [_run(2)]}}

    fixed, gated = fixed_figures(measured, {"c-001": 50}), gated_figures(measured)

    assert fixed["ratio"] is gated["ratio"] is None
    lines = table(fixed, gated).splitlines()
    assert lines[0].startswith("ours: 50 tokens/s")
    assert lines[-1].endswith("none")
    assert not any("peer" in line for line in lines)


def test_loss_difference_is_the_largest_over_the_steps() -> None:
    assert loss_difference([2.0, 1.1], [2.0, 1.0]) == pytest.approx(0.1)
