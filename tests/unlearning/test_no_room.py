"""No room on the disk or in memory in the middle: a safe stop, and the same bits afterwards."""

from __future__ import annotations

import resource
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from language_models import NotReached, save
from tests.unlearning import trainings
from tests.unlearning.sharded_case import adapters, case_model, case_records, trained, version
from tests.unlearning.trainings import BOTH, model
from unlearning.filtered_replay import replay_without
from unlearning.records import Record
from unlearning.training import train

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RECORDS = case_records()
ROOM = 300


@contextmanager
def disk_that_fills(on: tuple[str, int]) -> Iterator[Any]:
    """A progress callback from whose n-th call of a stage on no file may grow beyond ROOM bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    calls = 0

    def fill(stage: str, _done: int, _total: int) -> None:
        nonlocal calls
        calls += stage == on[0]
        if calls == on[1]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, before[1]))

    try:
        yield fill
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("on", [("steps", 1), ("stages", 1), ("stages", 3)])
def test_full_disk_leaves_the_adapters_in_force(tmp_path: Path, on: tuple[str, int]) -> None:
    made, whole = trained(tmp_path / "a", RECORDS), trained(tmp_path / "b", RECORDS)
    batch = ["subject-0", "subject-1", "subject-2"]
    before = (tmp_path / "a/manifest.json").read_bytes()

    with disk_that_fills(on) as fill, pytest.raises(NotReached, match="version in force stays"):
        made.forget(batch, progress=fill)

    assert (tmp_path / "a/manifest.json").read_bytes() == before
    assert adapters(tmp_path / "a").adapters()
    adapters(tmp_path / "a").forget(batch)
    whole.forget(batch)
    assert version(made) == version(whole)


@pytest.mark.parametrize("form", list(BOTH))
def test_full_disk_stops_a_replay_that_goes_on_when_asked_again(tmp_path: Path, form: str) -> None:
    old = train(model(), trainings.records(), tmp_path / "old", BOTH[form]).folder
    files = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}
    whole = replay_without(model(), old, ["subject-3"], tmp_path / "whole")
    begun = whole.details["steps"] - whole.details["steps_made"]

    with disk_that_fills(("train", 1)) as fill, pytest.raises(NotReached, match="disk full"):
        replay_without(model(), old, ["subject-3"], tmp_path / "new", fill)

    assert {path: path.read_bytes() for path in old.rglob("*") if path.is_file()} == files
    again = replay_without(model(), old, ["subject-3"], tmp_path / "new")
    assert again.digest == whole.digest
    assert 0 < again.details["steps_made"] <= whole.details["steps"] - begun


OUT_OF_MEMORY = """
import resource, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from language_models import NotReached, load
from tests.unlearning.sharded_case import KEY
from unlearning.exact import ShardedAdapters
from unlearning.filtered_replay import replay_without

folder = Path(sys.argv[1])
lm = load(folder / "base", device="cpu")
made = ShardedAdapters(lm, folder / "shards", KEY)

pages = int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**24, -1))
for forget in (
    lambda: made.forget(["subject-0"]),
    lambda: replay_without(lm, folder / "run", ["subject-0"], folder / "new"),
):
    try:
        forget()
    except NotReached as error:
        print(error)
"""


def test_too_little_memory_leaves_the_version_before(tmp_path: Path) -> None:
    long = Record("long", "subject-9", "Kyoto, " * 700)
    records = (*(one for one in RECORDS if one.subject == "subject-0"), long)
    sizes = {"shards": 1, "slices": 1, "epochs": 1, "batch": 1, "max_tokens": 2000}
    save(case_model(), tmp_path / "base")
    made = trained(tmp_path / "shards", records, **sizes)
    config = replace(trainings.LORA, epochs=1, batch=1, max_tokens=2000)
    train(case_model(), records, tmp_path / "run", config)
    before = (tmp_path / "shards/manifest.json").read_bytes()

    done = subprocess.run(
        [sys.executable, "-c", OUT_OF_MEMORY, str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("memory is too small") == 2
    assert (tmp_path / "shards/manifest.json").read_bytes() == before
    assert made.adapters()
