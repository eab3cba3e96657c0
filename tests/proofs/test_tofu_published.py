"""TOFU's published logs: the golden values where they lie, the formulae by small logs anywhere."""

from __future__ import annotations

import math
from statistics import mean
from typing import Any

import pytest

from proofs.tofu_published import log_ratio, losses_of, main, missing, rows, table, utility

LOG: dict[str, Any] = {
    "avg_gt_loss": {"0": 0.5, "7": 1.0},
    "avg_paraphrased_loss": {"0": 1.0, "7": 3.0},
    "average_perturb_loss": {"0": [2.0, 3.0], "7": [2.0, 4.0]},
    "rougeL_recall": {"0": 1.0, "7": 0.5},
}


def test_losses_are_joined_by_question() -> None:
    assert losses_of(LOG) == [(0.5, 1.0, 2.0, 3.0), (1.0, 3.0, 2.0, 4.0)]


def test_wrong_answers_are_joined_by_either_mean() -> None:
    losses = (0.5, 1.0, 2.0, 3.0)
    assert log_ratio(losses, "geometric") == pytest.approx(1.0 - 2.5)
    chances = mean([math.exp(-2.0), math.exp(-3.0)])
    assert math.exp(log_ratio(losses, "arithmetic")) == pytest.approx(chances / math.exp(-1.0))


def test_utility_is_the_harmonic_mean_of_nine() -> None:
    logs = {"retain": LOG, "real_authors": LOG, "world_facts": LOG}
    own = [math.exp(-0.5), math.exp(-1.0)]
    others = [math.exp(-2.0) + math.exp(-3.0), math.exp(-2.0) + math.exp(-4.0)]
    among = mean(a / (a + b) for a, b in zip(own, others, strict=True))
    truth = mean([1 - math.exp(-1.5), 0.0])
    scores = [mean(own), 0.75, truth, among, 0.75, truth, among, 0.75, truth]
    assert utility(logs, "geometric") == pytest.approx(9 / sum(1 / one for one in scores))


def test_command_says_where_logs_should_be(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    monkeypatch.setenv("LETHE_TOFU_LOGS", str(tmp_path))
    assert main() == 0
    assert "without ft_epoch5" in capsys.readouterr().out
    monkeypatch.delenv("LETHE_TOFU_LOGS")
    assert main() == 0
    assert "LETHE_TOFU_LOGS" in capsys.readouterr().out


def test_table_tells_what_is_not_the_same() -> None:
    row = {"what": "D", "model": "m", "ours": 0.4, "golden": 0.5, "same": False}
    assert table([row]).splitlines()[2] == "| D | m | 0.4 | 0.5 | no |"


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_golden_values_come_out_of_the_published_logs() -> None:
    found = rows()
    assert [row["what"] for row in found if row["same"] is False] == []
    assert sum(row["same"] is True for row in found) == 11
