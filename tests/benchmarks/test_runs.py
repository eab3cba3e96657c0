"""The benches run as their user runs them, on a few facts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
import torch
from django.conf import settings

from benchmarks import gpu_editing
from benchmarks.facts import asks, facts
from benchmarks.growth import summary
from benchmarks.plot import Line, line_plot
from demo.corpus import records

if TYPE_CHECKING:
    from pathlib import Path

ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


def _run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=settings.BASE_DIR,
        env={**ONE_THREAD, **environment},
        text=True,
        capture_output=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.xdist_group("heavy")
def test_ours_edits_times_and_answers(tmp_path: Path) -> None:
    made = [{**fact, "ask": [ask["prompt"] for ask in asks(fact)]} for fact in facts(2)]
    (tmp_path / "facts.json").write_text(json.dumps(made), encoding="utf-8")
    texts = [record["text"] for record in records()[::90]]
    settings_of_run = {"role": "last", "layer": 4, "moment_texts": texts}
    options = ["--facts", str(tmp_path / "facts.json"), "--out", str(tmp_path / "out.json")]

    done = _run(
        "benchmarks.ours", "--model", "demo/model", "--method", "memit", "--mode", "single",
        "--settings", json.dumps(settings_of_run), *options,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert found["reached"] == 2
    assert [len(answers) for answers in found["answers"]] == [len(asks(fact)) for fact in made]
    assert found["edits_per_second"] == pytest.approx(2 / sum(found["seconds"]))


@pytest.mark.slow
def test_gpu_bench_runs_small_on_any_machine() -> None:
    found = gpu_editing.measure(tiny=True, device="cpu")

    assert found["memit"]["edits"] == 10
    assert found["ultraedit"]["edits_per_second"] > 0
    assert found["moments"]["seconds"] > 0


def test_gpu_bench_says_when_there_is_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    monkeypatch.setenv("LETHE_VAR", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["gpu_editing"])

    gpu_editing.main()

    assert "was not run" in capsys.readouterr().out
    stored = json.loads((tmp_path / "bench/summary.json").read_text(encoding="utf-8"))
    assert stored["editing"]["gpu"] == {"not_run": "no GPU on this machine"}


def test_growth_summary_compares_the_first_batches_with_the_last() -> None:
    found = summary([50.0] * 10 + [99.0] * 5 + [100.0] * 10)

    assert found["edits"] == 1250
    assert found["last_over_first"] == pytest.approx(2.0)


def test_line_plot_is_valid_xml_without_script() -> None:
    drawn = line_plot([Line("a & b", [1, 2], [0.1, 0.3])], title="T", across="x", up="y")

    root = ElementTree.fromstring(drawn)  # noqa: S314 -- drawn here
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert "polyline" in tags
    assert "script" not in tags
