"""The scan finds a string in every form it may rest in, and says where."""

from __future__ import annotations

import base64
import io
import json
import quopri
from email.mime.text import MIMEText
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from django.core.management import CommandError, call_command

from compliance import residues

if TYPE_CHECKING:
    from pathlib import Path

CANARY = "มาลี ทานากะ"
ADDRESS = "Malee.Tanaka@home.example"


@pytest.fixture
def place(settings, tmp_path: Path, monkeypatch) -> Path:
    settings.VAR_DIR = tmp_path / "var"
    for name in ("keys", "store", "broker"):
        (settings.VAR_DIR / name).mkdir(parents=True)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    return tmp_path


def _hits() -> dict[str, int]:
    return {s.name: s.hits for s in residues.scan([CANARY, ADDRESS]) if s.hits}


@pytest.mark.parametrize(
    "content",
    [
        CANARY.encode(),
        CANARY.encode("utf-16-le"),
        CANARY.encode("utf-16-be"),
        json.dumps({"name": CANARY}).encode(),
        quote(CANARY).encode(),
        quote(CANARY).lower().encode(),
        CANARY.encode().hex().encode(),
        ADDRESS.upper().encode(),
        *(base64.b64encode(b"x" * n + CANARY.encode() + b"tail") for n in range(3)),
        MIMEText(f"Dear {CANARY}, {'x' * 99}", "plain", "utf-8").as_bytes(),
        MIMEText(f"{'x' * 50} {CANARY}", "plain", "utf-8").as_bytes(),
        quopri.encodestring(f"{'x' * 70} {CANARY}".encode()),
    ],
)
def test_every_form_is_found(place: Path, content: bytes) -> None:
    (place / "var/store/file").write_bytes(b"before" + content + b"after")
    assert _hits() == {"store": 1}


def test_nothing_is_found_where_nothing_is(place: Path) -> None:
    (place / "var/lethe.sqlite3").write_bytes(b"nothing of them here" * 1000)
    found = residues.scan([CANARY])
    assert sum(surface.hits for surface in found) == 0
    assert [s.files for s in found if s.name == "database and other files"] == [1]


def test_every_surface_is_searched_names_of_files_too(place: Path) -> None:
    for path in ("var/lethe.sqlite3-wal", "var/broker/m.msg", "tmp/t", "cache/c", "var/keys/k"):
        (place / path).write_text(ADDRESS)
    (place / f"tmp/{ADDRESS}").write_text("")
    assert _hits() == {
        "database and other files": 1,
        "broker": 1,
        "temporary files": 2,
        "cache": 1,
        "keys": 1,
    }


def test_string_across_two_blocks_is_found_once(place: Path, monkeypatch) -> None:
    monkeypatch.setattr(residues, "BLOCK", 64)
    for shift in range(40):
        (place / "var/store/file").write_bytes(b"." * (40 + shift) + ADDRESS.encode() + b"." * 99)
        assert _hits() == {"store": 1}, shift


def test_command_reads_standard_input_and_fails_on_a_hit(place: Path, monkeypatch, capsys) -> None:
    (place / "elsewhere").mkdir()
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{ADDRESS}\n"))
    call_command("scan_residues", folder=[place / "elsewhere"])
    assert "0 hits in all, for 1 strings" in capsys.readouterr().out
    (place / "elsewhere/f").write_text(ADDRESS)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{ADDRESS}\n"))
    with pytest.raises(CommandError, match="is there"):
        call_command("scan_residues", folder=[place / "elsewhere"])


@pytest.mark.parametrize(("given", "words"), [("", "at least"), ("abc\n", "at least 6")])
def test_useless_strings_are_refused(place: Path, monkeypatch, given: str, words: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(given))
    with pytest.raises(CommandError, match=words):
        call_command("scan_residues")


def test_folder_that_is_not_there_is_named(place: Path, monkeypatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(ADDRESS))
    with pytest.raises(CommandError, match="No such folder"):
        call_command("scan_residues", folder=[place / "nowhere"])
