"""The heavy child process: confined, watched, and ended with a reason whatever it does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from django.conf import settings

from compliance import child, confinement, forks, machine
from tests.compliance.engines import long

if TYPE_CHECKING:
    from collections.abc import Iterator

GIB = 2**30


def _ask(name: str, beat=lambda progress: True) -> dict:
    return child.run({"operation": "find", "person": {"name": name}}, beat)


@pytest.fixture(scope="module", autouse=True)
def _bare_server() -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setattr(forks, "SERVER", "tests.compliance.engines.bare_server")
    forks.stop()
    yield
    patch.undo()
    forks.stop()


@pytest.fixture(autouse=True)
def _poison(monkeypatch, settings) -> None:
    monkeypatch.setattr(child, "ENGINE", "proofs.poison_engine")
    settings.JOB_TIME_LIMIT_SECONDS = 30
    settings.JOB_MEMORY_GIB = 1.0


def test_child_has_no_network_but_local_sockets() -> None:
    assert _ask("Calling Out") == {"models": [], "datasets": []}


def test_memory_beyond_the_limit_is_refused_with_the_limit_named() -> None:
    with pytest.raises(child.StepFailed, match=r"more memory than its limit of 1\.0 GiB"):
        _ask("Exhausting Memory")


def test_memory_error_ends_the_step_with_its_reason() -> None:
    with pytest.raises(child.StepFailed, match="more memory than"):
        _ask("Memory Error")


def test_parent_ends_a_child_that_holds_too_much(monkeypatch) -> None:
    # Beside an accelerator the child takes no limit of its own; the parent watches.
    monkeypatch.setattr(child, "MEMORY_SECONDS", 0.0)
    told = iter([GIB])  # what the child is told first; the parent's own limit is small
    monkeypatch.setattr(child, "memory_limit", lambda: next(told, 1 << 20))
    with pytest.raises(child.StepFailed, match="passed its memory limit"):
        _ask("Hanging Forever")


def test_hang_is_ended_at_the_time_limit(settings) -> None:
    settings.JOB_TIME_LIMIT_SECONDS = 2
    begun = time.monotonic()
    with pytest.raises(child.StepFailed, match="time limit of 2 s"):
        _ask("Hanging Forever")
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize(
    ("name", "signal_name"),
    [("Segmentation Fault", "SIGSEGV"), ("Abort Called", "SIGABRT"), ("Killed Outside", "SIGKILL")],
)
def test_death_by_a_signal_is_told_by_its_name(name: str, signal_name: str) -> None:
    with pytest.raises(child.StepCrashed, match=signal_name):
        _ask(name)


def test_full_disk_in_the_child_is_the_machines_fault_and_told_without_the_path() -> None:
    with pytest.raises(child.StepHindered, match="The disk is full") as caught:
        _ask("Full Disk")
    assert "Malee" not in str(caught.value)


def test_child_dies_with_its_worker() -> None:
    code = (
        "import os, sys, django; os.environ['DJANGO_SETTINGS_MODULE'] = 'config.settings'\n"
        "django.setup()\n"
        "from compliance import child, forks\n"
        "forks.SERVER = 'tests.compliance.engines.bare_server'\n"
        "child.ENGINE = 'proofs.poison_engine'\n"
        "say = lambda p: print(p[0], flush=True) or True if p else True\n"
        "child.run({'operation': 'find', 'person': {'name': 'Outliving Child'}}, say)\n"
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", code], cwd=settings.BASE_DIR, stdout=subprocess.PIPE, text=True
    )
    step = int(worker.stdout.readline())
    assert Path(f"/proc/{step}").exists()
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    worker.stdout.close()
    _gone(step)


def _gone(process: int) -> None:
    deadline = time.monotonic() + 5
    while _alive(process):
        assert time.monotonic() < deadline, "the child outlived its parent"
        time.sleep(0.05)


def _alive(process: int) -> bool:
    try:
        return ") Z" not in Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False


def test_child_started_by_somebody_else_does_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "compliance.engine", "1", str(GIB)],
        cwd=settings.BASE_DIR,
        input="{}",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "ended before its step began" in done.stdout


def test_unknown_processor_is_refused_rather_than_left_open(monkeypatch) -> None:
    monkeypatch.setattr(confinement.platform, "machine", lambda: "sparc")
    with pytest.raises(confinement.ConfinementError, match="x86_64 or aarch64"):
        confinement.cut_network()


def test_hindrances_are_the_machines_and_nothing_else() -> None:
    assert "disk is full" in (machine.hindrance(OSError(28, "x")) or "")
    assert "input/output" in (machine.hindrance(OSError(5, "x")) or "")
    assert machine.hindrance(FileNotFoundError(2, "x")) is None
    assert machine.hindrance(ValueError("x")) is None


def test_child_that_does_not_read_meets_its_time_limit_and_the_parent_beats(
    monkeypatch, settings
) -> None:
    settings.JOB_TIME_LIMIT_SECONDS = 2
    monkeypatch.setattr(child, "ENGINE", "tests.compliance.engines.stuck")
    beats = []
    begun = time.monotonic()
    with pytest.raises(child.StepFailed, match="time limit"):
        child.run({"records": "x" * 500_000}, lambda _progress: not beats.append(1))
    assert time.monotonic() - begun < 8
    assert len(beats) > 3


def test_long_answer_is_read_in_a_time_that_grows_with_its_length(monkeypatch) -> None:
    monkeypatch.setattr(child, "ENGINE", "tests.compliance.engines.long")
    begun = time.monotonic()
    assert len(child.run({}, lambda _progress: True)["r"]) == long.SIZE
    assert time.monotonic() - begun < 10


def test_steps_are_forked_from_one_server_and_a_new_one_follows_a_dead_one() -> None:
    _ask("Calling Out")
    (server,) = forks._servers
    _ask("Calling Out")
    assert forks._servers == [server]

    server.process.kill()
    server.process.wait()
    _ask("Calling Out")
    assert forks._servers != [server]


def test_a_server_that_dies_at_work_takes_its_child_with_it() -> None:
    def end_it(progress: child.Progress | None) -> bool:
        if progress is not None:
            children.append(int(progress[0]))
            forks._servers[0].process.kill()
        return True

    children: list[int] = []
    with pytest.raises(child.StepCrashed, match="SIGKILL"):
        _ask("Outliving Child", end_it)
    _gone(children[0])


def test_a_step_that_is_stopped_before_its_child_began_begins_nothing() -> None:
    forks.stop()
    beats = []

    with pytest.raises(child.StepStopped):
        _ask("Hanging Forever", lambda _progress: bool(beats.append(1)))

    # The server still loads; what it is asked next is answered.
    assert beats == [1]
    assert _ask("Calling Out") == {"models": [], "datasets": []}


def test_a_server_that_never_gets_ready_meets_the_time_limit(monkeypatch, settings) -> None:
    forks.stop()
    monkeypatch.setattr(forks, "SERVER", "tests.compliance.engines.stuck")
    settings.JOB_TIME_LIMIT_SECONDS = 1
    try:
        with pytest.raises(child.StepFailed, match="time limit of 1 s"):
            _ask("Calling Out")
    finally:
        forks._servers[0].process.kill()
        forks.stop()


def test_children_see_no_secret_and_share_no_group() -> None:
    _ask("Calling Out")
    (server,) = forks._servers
    environment = Path(f"/proc/{server.process.pid}/environ").read_bytes()
    assert b"LETHE_SECRET_KEY" not in environment
    assert b"DATABASE_URL" not in environment
    assert os.getpgid(server.process.pid) != os.getpgid(0)


@pytest.mark.slow
def test_the_server_has_one_thread_so_that_to_fork_is_safe(monkeypatch) -> None:
    forks.stop()
    monkeypatch.setattr(forks, "SERVER", "compliance.fork_server")
    _ask("Calling Out")
    (server,) = forks._servers
    mapped = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "libtorch" in mapped
    assert "libpango" in mapped
    assert len(list(Path(f"/proc/{server.process.pid}/task").iterdir())) == 1
