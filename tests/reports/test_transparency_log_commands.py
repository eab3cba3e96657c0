"""The commands of the one-file verifier, run as an auditor runs them: without this project."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from compliance import checkpoint, merkle
from reports import transparency_log as log
from tests.reports.logs import (
    DIGESTS,
    DOCUMENT,
    EVIDENCE,
    LEAVES,
    ORIGIN,
    OTHER_SEED,
    RECORD,
    SEED,
    VKEY,
    leaf,
    note,
    pdf,
    proof,
    proof_of_one,
    rows,
)

SOURCE = Path(log.__file__)
HELD, NOT_HELD, UNREADABLE = 0, 1, 2
LAST_WORDS = "compare these checkpoints with those that others hold.\n"
LOG = ("log", "leaves.jsonl", "--key", "key")


@dataclass(frozen=True)
class Audit:
    """A folder with a copy of the one file, and nothing else of ours."""

    folder: Path

    def write(self, name: str, data: bytes | str) -> str:
        self.folder.joinpath(name).write_bytes(data.encode() if isinstance(data, str) else data)
        return name

    def run(self, *arguments: str) -> tuple[int, str]:
        """Run the copy as an auditor does; -I hides this project from it."""
        done = subprocess.run(
            [sys.executable, "-I", "-W", "error", "transparency_log.py", *arguments],
            cwd=self.folder,
            env={},
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def audit(tmp_path: Path) -> Audit:
    shutil.copy(SOURCE, tmp_path)
    found = Audit(tmp_path)
    found.write("leaves.jsonl", b"".join(item + b"\n" for item in LEAVES))
    found.write("key", VKEY + "\n")
    found.write("5", note(5))
    found.write("9", note(9))
    return found


def lines(leaves: list[bytes]) -> bytes:
    return b"".join(item + b"\n" for item in leaves)


def test_copy_runs_where_this_project_cannot_be_imported(audit: Audit) -> None:
    code = "import importlib.util as u; print(u.find_spec('reports'), u.find_spec('compliance'))"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code],
        cwd=audit.folder,
        env={},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "None None\n"
    assert audit.run("--help")[0] == HELD


def test_log_holds_with_checkpoints_in_any_order_and_twice(audit: Audit) -> None:
    status, words = audit.run(*LOG, "--checkpoint", "9", "--checkpoint", "9", "--checkpoint", "5")
    assert status == HELD
    assert words.startswith("HOLDS:\n  leaves: 9, each canonical")
    assert "checkpoints: 3, each signed" in words
    assert "protected by nothing here: 0" in words
    assert words.endswith(LAST_WORDS)


def test_log_says_how_many_leaves_no_checkpoint_covers(audit: Audit) -> None:
    status, words = audit.run(*LOG, "--checkpoint", "5")
    assert (status, "protected by nothing here: 4" in words) == (HELD, True)


def test_empty_log_holds_against_its_checkpoint(audit: Audit) -> None:
    audit.write("leaves.jsonl", b"")
    audit.write("0", note(0))
    assert audit.run(*LOG, "--checkpoint", "0")[0] == HELD


CHANGED = [*LEAVES[:2], leaf(2, note="other"), *LEAVES[3:]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lines(LEAVES[:8]), "checkpoint 2: the log was cut: of 9 leaves 8 are here"),
        (lines(LEAVES)[:-1], "the last leaf has no line feed"),
        (lines(CHANGED), "checkpoint 1: the first 5 leaves are not those that were signed"),
        (lines(LEAVES[:3] + LEAVES[4:]), "leaf 3 does not carry its number"),
        (lines([*LEAVES, LEAVES[8]]), "leaf 9 does not carry its number"),
        (lines(LEAVES).replace(b"\n", b"\r\n"), "leaf 0 is not canonical JSON"),
        (lines(LEAVES).replace(b"\n", b"\n\n"), "leaf 1 is not canonical JSON"),
        (b"\n" * 1000, "too short to be leaves"),
    ],
)
def test_changed_log_does_not_hold(audit: Audit, data: bytes, message: str) -> None:
    audit.write("leaves.jsonl", data)
    status, words = audit.run(*LOG, "--checkpoint", "5", "--checkpoint", "9")
    assert status == NOT_HELD
    assert words.startswith("DOES NOT HOLD: ")
    assert message in words
    assert words.endswith(LAST_WORDS)


def test_changed_log_that_was_signed_again_does_not_hold_against_an_older_checkpoint(
    audit: Audit,
) -> None:
    root = log.tree_root([log.leaf_hash(item) for item in CHANGED])
    audit.write("leaves.jsonl", lines(CHANGED))
    audit.write("again", checkpoint.sign(SEED, ORIGIN, 9, root))
    assert audit.run(*LOG, "--checkpoint", "again")[0] == HELD
    status, words = audit.run(*LOG, "--checkpoint", "again", "--checkpoint", "9")
    assert (status, "checkpoint 2: the first 9 leaves" in words) == (NOT_HELD, True)


def test_checkpoint_of_another_key_does_not_hold(audit: Audit) -> None:
    audit.write("9", note(9, OTHER_SEED))
    status, words = audit.run(*LOG, "--checkpoint", "9")
    assert (status, "no signature of the known key" in words) == (NOT_HELD, True)


@pytest.mark.parametrize("document", [DOCUMENT, DOCUMENT + b" "])
def test_file_holds_only_if_its_digest_is_in_the_proven_leaf(audit: Audit, document: bytes) -> None:
    audit.write("letter", document)
    audit.write("letter.tlog-proof", proof(8))
    status, words = audit.run("file", "letter", "--proof", "letter.tlog-proof", "--key", "key")
    if document == DOCUMENT:
        assert status == HELD
        assert (
            f"leaf 8 of 9 records this file: SHA-256 {hashlib.sha256(DOCUMENT).hexdigest()}"
            in words
        )
        assert LEAVES[8].decode() in words
    else:
        assert status == NOT_HELD
        assert "leaf 8, which is proven, does not record this file" in words
    assert words.endswith(LAST_WORDS)


def test_file_with_the_proof_of_another_leaf_does_not_hold(audit: Audit) -> None:
    audit.write("letter", DOCUMENT)
    audit.write("letter.tlog-proof", proof(7))
    assert (
        audit.run("file", "letter", "--proof", "letter.tlog-proof", "--key", "key")[0] == NOT_HELD
    )


@pytest.mark.parametrize(
    "only",
    [
        b'{"facts":"sha256","seq":0}',
        b'{"facts":["sha256"],"seq":0}',
        b'{"facts":{},"seq":0}',
        b'{"seq":0}',
        b"\xff",
    ],
)
def test_proven_leaf_without_facts_does_not_hold(audit: Audit, only: bytes) -> None:
    audit.write("letter.tlog-proof", proof_of_one(only))
    command = ("file", "key", "--proof", "letter.tlog-proof", "--key", "key")
    assert audit.run(*command)[0] == NOT_HELD


PROOF = proof(7).encode()


@pytest.mark.parametrize(
    ("streams", "message"),
    [
        (
            [RECORD, b"a page", PROOF],
            f"leaf 7 of 9 records this evidence record in the file: SHA-256 {EVIDENCE}",
        ),
        ([RECORD, PROOF, RECORD, PROOF], "the visible pages were not compared"),
    ],
)
def test_pdf_holds_with_its_record_and_proof(
    audit: Audit, streams: list[bytes], message: str
) -> None:
    audit.write("report.pdf", pdf(*streams))
    status, words = audit.run("pdf", "report.pdf", "--key", "key")
    assert (status, message in words, words.endswith(LAST_WORDS)) == (HELD, True, True)


@pytest.mark.parametrize(
    ("streams", "message"),
    [
        ([RECORD], "not one proof and one record, but 0 and 1"),
        ([PROOF], "but 1 and 0"),
        ([RECORD, PROOF, RECORD.replace(b"CD34", b"CD35")], "but 1 and 2"),
        ([RECORD, PROOF, b' {\n"schema" : "lethe.report/1"}'], "but 1 and 2"),
        ([RECORD, PROOF, proof(6).encode()], "but 2 and 1"),
        ([RECORD.replace(b"CD34", b"CD35"), PROOF], "does not record this evidence record"),
        ([RECORD, proof(6).encode()], "does not record this evidence record"),
    ],
)
def test_pdf_with_another_record_or_proof_does_not_hold(
    audit: Audit, streams: list[bytes], message: str
) -> None:
    audit.write("report.pdf", pdf(*streams))
    status, words = audit.run("pdf", "report.pdf", "--key", "key")
    assert (status, message in words, words.endswith(LAST_WORDS)) == (NOT_HELD, True, True)


def test_consistency_holds_with_its_path_and_not_the_other_way_round(audit: Audit) -> None:
    hashes = merkle.consistency_path(5, 9, rows())
    text = "".join(f"{base64.b64encode(item).decode()}\n" for item in hashes)
    audit.write("path", text)
    status, words = audit.run("consistency", "5", "9", "--path", "path", "--key", "key")
    assert (status, "9 leaves begins with the 5 leaves" in words) == (HELD, True)
    assert words.endswith(LAST_WORDS)
    status, words = audit.run("consistency", "9", "5", "--path", "path", "--key", "key")
    assert (status, "cannot continue one of 9" in words) == (NOT_HELD, True)
    audit.write("path", b"")
    assert audit.run("consistency", "5", "9", "--path", "path", "--key", "key")[0] == NOT_HELD
    assert audit.run("consistency", "9", "9", "--path", "path", "--key", "key")[0] == HELD


def test_log_that_forked_is_not_consistent(audit: Audit) -> None:
    digests = [*DIGESTS[:2], log.leaf_hash(b"other"), *DIGESTS[3:]]
    audit.write("forked", checkpoint.sign(SEED, ORIGIN, 9, log.tree_root(digests)))
    hashes = merkle.consistency_path(5, 9, rows())
    audit.write("path", "".join(f"{base64.b64encode(item).decode()}\n" for item in hashes))
    status, words = audit.run("consistency", "5", "forked", "--path", "path", "--key", "key")
    assert (status, "does not continue" in words) == (NOT_HELD, True)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("log", "leaves.jsonl", "--key", "key"),
        ("log", "absent", "--key", "key", "--checkpoint", "9"),
        ("log", ".", "--key", "key", "--checkpoint", "9"),
        ("log", "leaves.jsonl", "--key", "9", "--checkpoint", "9"),
        ("log", "leaves.jsonl", "--key", "random", "--checkpoint", "9"),
        ("file", "9", "--key", "key"),
    ],
)
def test_what_cannot_be_read_is_said_with_status_2(
    audit: Audit, arguments: tuple[str, ...]
) -> None:
    audit.write("random", bytes(range(256)))
    status, words = audit.run(*arguments)
    assert status == UNREADABLE
    assert "error: " in words


@pytest.mark.parametrize("data", [b"", bytes(range(256)) * 20, b"[" * 50_000])
def test_no_bytes_in_any_file_end_in_a_traceback(audit: Audit, data: bytes) -> None:
    audit.write("x", data)
    assert audit.run("log", "x", "--key", "key", "--checkpoint", "x")[0] == NOT_HELD
    assert audit.run("file", "x", "--proof", "x", "--key", "key")[0] == NOT_HELD
    assert audit.run("pdf", "x", "--key", "key")[0] == NOT_HELD
    assert audit.run("consistency", "x", "9", "--path", "x", "--key", "key")[0] == NOT_HELD
