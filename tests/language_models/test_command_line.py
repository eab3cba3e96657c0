from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from safetensors import SafetensorError

from editing import METHODS
from language_models import RequestError
from language_models.command_line import Meter, carried_out, described

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_command_ends_with_nothing_or_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse() -> None:
        raise RequestError("Give " + "a " * 60 + "fact.")

    assert carried_out(lambda: None) == 0
    assert carried_out(refuse) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 2
    assert " ".join(told.err.split()) == "Give " + "a " * 60 + "fact."


@pytest.mark.parametrize(
    "fail",
    [
        lambda: Path("/nowhere/malee").read_text(),
        lambda: Path("/proc/malee").write_text("x"),
        lambda: (_ for _ in ()).throw(SafetensorError("/home/malee: no space")),
    ],
)
def test_a_file_that_fails_is_told_without_its_path(
    fail: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert carried_out(fail) == 1
    told = capsys.readouterr().err
    assert "Check paths" in told
    assert "malee" not in told


def test_progress_comes_seldom_and_at_the_end() -> None:
    stream = io.StringIO()
    meter = Meter(stream)

    for done in range(1, 101):
        meter("train", done, 100)

    first, last = stream.getvalue().splitlines()
    assert first == "train 1/100  1%  time left not known yet"
    assert last == "train 100/100  100%  at most 0:00 left"


def test_each_stage_has_a_pace_of_its_own() -> None:
    stream = io.StringIO()
    meter = Meter(stream)

    meter("measure", 100, 100)
    for stage in ("prefix", "prefix", "relearning"):
        for done in (1, 2):
            meter(stage, done, 2)

    lines = stream.getvalue().splitlines()
    assert len(lines) == 4
    assert not any("-" in line for line in lines)


def test_a_command_has_a_status_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse() -> None:
        raise RequestError("No.")

    assert carried_out(lambda: 2) == 2
    assert carried_out(refuse, failed=2) == 2
    assert capsys.readouterr().err == "No.\n"


def test_methods_are_described_with_every_setting() -> None:
    told = described(METHODS, ["rome"])
    assert told.startswith("rome: ")
    for one in METHODS["rome"].settings():
        assert f"    {one['name']} = " in told
    assert all(f"{name}: " in described(METHODS, []) for name in METHODS)
    with pytest.raises(RequestError, match="Unknown method"):
        described(METHODS, ["roma"])


def test_a_module_of_commands_needs_no_torch() -> None:
    code = "import sys, language_models.command_line\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
