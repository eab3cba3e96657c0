"""The bench of short answers: what is asked, that all sides say the same, what is kept."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.evaluation import (
    NEW_TOKENS,
    SIDES,
    SINGLE,
    Timed,
    figures,
    keep,
    questions,
    share,
    shares,
    sides,
    table,
    timed,
)
from benchmarks.summary import MODEL
from language_models import load

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_questions_are_as_many_as_asked_for_and_all_different() -> None:
    asked = questions()
    assert len(asked) == len({prompt for prompt, _ in asked}) == 2000
    assert len({value for _, value in asked}) > 20


def test_all_sides_answer_alike() -> None:
    torch.set_num_threads(1)
    lm, asked = load(MODEL, device="cpu"), questions()[::100]
    before = lm.tokenizer.padding_side
    measured = sides(lm, asked, 4)

    found = {name: timed(measured[name]) for name in SIDES}

    assert [len(found[name].answers) for name in SIDES] == [4, 20, 20, 20, 20]
    assert lm.tokenizer.padding_side == before
    equal = shares(lm, asked, found, 4)
    assert equal["generate_as_loop"] == equal["generate_as_padded"] == 1
    assert equal["known_value_as_generate"] == equal["known_value_as_forced"] == 1
    assert equal["values_told"] > 0.9
    assert all(one.seconds > 0 and one.cpu_seconds > 0 for one in found.values())


def test_ratios_are_medians_over_rounds_of_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def round_of(loop: float, ours: float) -> Any:
        seconds = {
            "loop": loop, "padded": 2.0, "generate": ours, "forced": ours, "known_value": ours / 2,
        }  # fmt: skip
        return {name: Timed(["a"] * 10, one, 2 * one) for name, one in seconds.items()}

    told = figures([round_of(10, 1), round_of(30, 1), round_of(20, 1)])

    assert told["generate_ratio"] == told["generate_ratio_cpu"] == 20
    assert told["known_value_ratio"] == 40
    assert told["padded_ratio"] == told["forced_ratio"] == 2
    assert told["loop_per_second"] == 0.5
    assert told["loop_per_second_cpu"] == 0.25
    monkeypatch.setenv("LETHE_VAR", str(tmp_path))
    same = dict.fromkeys(("generate_as_loop", "generate_as_padded"), 1.0)
    same |= dict.fromkeys(("known_value_as_generate", "known_value_as_forced"), 1.0)
    run = {"prompts": 10, "singles": SINGLE, "new_tokens": NEW_TOKENS, "threads": 2, "runs": 3}
    whole = {**told, **same, **run, "values_told": 0.5, "load_average": [1.0]}
    keep(whole)
    kept = json.loads((tmp_path / "bench/summary.json").read_text(encoding="utf-8"))
    assert kept["evaluation.generate.ratio"] == 20
    assert kept["evaluation.known_value.ratio"] == 40
    assert kept["evaluation"]["generate"]["padded_ratio"] == 2
    assert kept["evaluation"]["known_value"]["forced_ratio"] == 2
    assert "padded_ratio" not in kept["evaluation"]["known_value"]
    assert "forced_ratio" not in kept["evaluation"]["generate"]
    assert kept["evaluation"]["known_value"]["known_value_as_generate"] == 1
    assert "| loop of single generate calls | 0.5 | 0.2 | 1 | 1 |" in table(whole)
    assert "generate ratio: wanted 25, not reached" in table(whole)
    assert "padded ratio: wanted 1.25, reached" in table(whole)


def test_shares_are_of_equal_places() -> None:
    assert share(["a", "b", "c", "d"], ["a", "b", "c", "x"]) == 0.75
