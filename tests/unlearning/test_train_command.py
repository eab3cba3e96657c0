from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest

from language_models import save
from tests.unlearning.trainings import model, records
from unlearning.__main__ import COMMANDS, main
from unlearning.request_files import KEY_VARIABLE, read_key
from unlearning.sharded_folder import ShardedFolder
from unlearning.trace import open_trace

if TYPE_CHECKING:
    from pathlib import Path


SMALL = ("shards=2", "slices=2", "rank=2", "epochs=1")


def _common(folder: Path, *more: str) -> list[str]:
    """The command line for a tiny model and the records, which are written into `folder`."""
    save(model(), folder / "base")
    data = folder / "data.jsonl"
    data.write_text("".join(json.dumps(asdict(record)) + "\n" for record in records()))
    return ["train", "--model", str(folder / "base"), "--device", "cpu", *more]


def test_the_command_trains_stops_and_goes_on(tmp_path: Path, capsys: Any) -> None:
    common, data = _common(tmp_path), str(tmp_path / "data.jsonl")
    given = [*common, "--data", data, "--set", "epochs=1", "--set", "rank=2",
             "--set", "betas=0.8,0.9", "--set", "targets=q_proj,v_proj"]  # fmt: skip

    assert main([*given, "--out", str(tmp_path / "run")]) == 0
    told = capsys.readouterr()
    assert "2 steps on 10 records" in told.out
    assert "100%" in told.err
    assert not any(record.subject in told.out + told.err for record in records())
    settings = open_trace(tmp_path / "run").header["settings"]
    assert settings["betas"] == [0.8, 0.9]
    assert settings["targets"] == ["q_proj", "v_proj"]

    assert main([*given, "--out", str(tmp_path / "run")]) == 1
    assert "exists already" in capsys.readouterr().err
    assert main([*common, "--out", str(tmp_path / "run"), "--resume"]) == 0


def test_the_command_trains_shards_and_asked_again_trains_nothing(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "0b" * 32)
    given = [
        *_common(tmp_path, "--sharded"),
        "--data",
        str(tmp_path / "data.jsonl"),
        *(f"--set={one}" for one in SMALL),
    ]

    assert main([*given, "--out", str(tmp_path / "run")]) == 0
    first = capsys.readouterr()
    assert main([*given, "--out", str(tmp_path / "run")]) == 0
    again = capsys.readouterr()

    assert "on 10 records, 0 of them now" in again.out
    assert first.out.splitlines()[1] == again.out.splitlines()[1]
    assert ShardedFolder(tmp_path / "run", read_key(None)).status()["subjects"] == 5
    assert not any(record.subject in first.out + first.err for record in records())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "packing=1"], "no setting 'packing'"),
        (["--set", "rank"], "key=value"),
        (["--set", "rank=many"], "rank must be of the type int"),
        (["--set", "learning_rate=NaN"], "learning_rate must be of the type float"),
        (["--set", "learning_rate=1e38"], "too large to be computed with"),
        (["--set", "decay=square"], "decay must be"),
        (["--resume"], "Leave out others"),
        (["--in-distribution"], "Leave them out"),
        (["--sharded", "--resume"], "Leave --resume out"),
        (["--sharded"], "The key is missing"),
        (["--sharded", "--key", "data.jsonl"], "data.jsonl cannot be read"),
    ],
)
def test_wrong_arguments_of_the_command_are_told(
    tmp_path: Path, capsys: Any, arguments: list[str], words: str
) -> None:
    out = ["--model", "nowhere", "--data", "nothing", "--out", str(tmp_path / "run")]
    assert main(["train", *out, *arguments]) == 1
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_shards_are_not_trained_into_a_folder_of_something_else(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "0b" * 32)
    given = [*_common(tmp_path, "--sharded"), "--data", str(tmp_path / "data.jsonl")]
    assert main([*given, "--out", str(tmp_path / "base")]) == 1
    assert "holds something else" in capsys.readouterr().err


def test_the_commands_are_listed_without_torch() -> None:
    code = (
        "import sys\nfrom unlearning.__main__ import main\n"
        "assert main([]) == 0 and main(['fly']) == 1\nassert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(f"{name} --help" in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_a_help(name: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert f"python -m unlearning {name}" in capsys.readouterr().out
