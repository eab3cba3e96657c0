"""Signing, and the offline verifier against changed files."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter

from reports import signature, verify
from reports.evidence import canonical_json, digest
from tests.reports import factories

ROOT = Path(__file__).parents[2]


def flipped(data: bytes, bit: int) -> bytes:
    """Return data with one bit turned."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << (bit % 8)
    return bytes(changed)


def gap(data: bytes) -> range:
    """Return the positions of the bytes that the signature leaves out."""
    match = re.search(rb"/ByteRange\s*\[0 (\d+) (\d+)", data)
    assert match is not None
    return range(int(match[1]), int(match[2]))


def run(*arguments: str) -> tuple[int, str]:
    """Run the verifier as a program; return its status and what it printed."""
    command = [sys.executable, "-W", "error", "-m", "reports.verify", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_signed_report_is_valid(signed_report: bytes, key_folder: Path) -> None:
    certificate = (key_folder / "certificate.pem").read_bytes()
    result = verify.verify(signed_report, certificate)
    assert (result.valid, result.intact, result.whole_file) == (True, True, True)
    assert (result.trusted, result.modifications, result.problems) == (True, "none", [])
    assert result.evidence_sha256 == digest(canonical_json(factories.full_evidence()))
    assert "DEMO" in str(result.signer)
    assert result.signed_at is not None


def test_identity_is_not_judged_without_a_certificate(signed_report: bytes) -> None:
    result = verify.verify(signed_report)
    assert (result.valid, result.trusted) == (True, None)


def test_another_certificate_of_the_same_name(signed_report: bytes, tmp_path: Path) -> None:
    path = signature.make_demo_certificate(tmp_path, "Meridian Bank (fictional)")
    result = verify.verify(signed_report, path.read_bytes())
    assert (result.valid, result.intact, result.trusted) == (False, True, False)


def test_every_random_flip_is_detected(signed_report: bytes) -> None:
    source = random.Random(20261122)  # noqa: S311 -- seeded sampling
    bits = [source.randrange(len(signed_report) * 8) for _ in range(600)]
    missed = [bit for bit in bits if verify.verify(flipped(signed_report, bit)).valid]
    assert missed == []


def test_every_byte_of_the_unsigned_gap_is_guarded(signed_report: bytes) -> None:
    source = random.Random(7)  # noqa: S311 -- seeded sampling
    bits = [place * 8 + source.randrange(8) for place in gap(signed_report)]
    missed = [bit for bit in bits if verify.verify(flipped(signed_report, bit)).valid]
    assert missed == []


def test_lower_case_digits_in_the_signature_are_a_change(signed_report: bytes) -> None:
    place = gap(signed_report)
    lower = signed_report[place.start : place.stop].lower()
    changed = signed_report[: place.start] + lower + signed_report[place.stop :]
    assert verify.verify(changed).valid is False


def test_incremental_update_is_detected(signed_report: bytes, tmp_path: Path) -> None:
    path = tmp_path / "changed.pdf"
    path.write_bytes(signed_report)
    with path.open("r+b") as file:
        writer = IncrementalPdfFileWriter(file)
        writer.root["/PageLayout"] = writer.root["/Type"]
        writer.update_root()
        writer.write_in_place()
    result = verify.verify(path.read_bytes())
    assert (result.valid, result.problems) == (
        False,
        ["the signature does not cover the whole file"],
    )


@pytest.mark.parametrize("rest", [b"\n", b" ", b"%%EOF\n", b"x" * 4000])
def test_appended_bytes_are_detected(signed_report: bytes, rest: bytes) -> None:
    assert verify.verify(signed_report + rest).valid is False


def test_cut_and_unsigned_files_are_not_valid(signed_report: bytes, full_report: bytes) -> None:
    assert verify.verify(signed_report[:-1]).valid is False
    assert verify.verify(full_report).problems == ["the file carries no signature"]
    assert verify.verify(b"").valid is False


def test_command_line(signed_report: bytes, key_folder: Path, tmp_path: Path) -> None:
    good, bad, other = (tmp_path / name for name in ("good.pdf", "bad.pdf", "other.txt"))
    good.write_bytes(signed_report)
    bad.write_bytes(flipped(signed_report, 8 * 5000))
    other.write_text("not a PDF")
    certificate = str(key_folder / "certificate.pem")
    status, output = run(str(good), "--certificate", certificate)
    assert status == 0
    assert output.startswith("VALID: every byte of this file is as it was signed.")
    assert digest(signed_report) in output
    status, output = run(str(bad))
    assert status == 1
    assert output.startswith("NOT VALID: this file is not as it was signed.")
    assert run(str(other))[0] == 2
    assert run(str(tmp_path / "none.pdf"))[0] == 2
    assert run(str(good), "--certificate", str(other))[0] == 2
    assert run()[0] == 2


def test_key_is_private_and_never_overwritten(key_folder: Path, full_report: bytes) -> None:
    key = key_folder / "key.pem"
    assert key.stat().st_mode & 0o777 == 0o600
    with pytest.raises(signature.SignatureError, match="exists already"):
        signature.make_demo_certificate(key_folder, "Meridian Bank (fictional)")
    key.chmod(0o644)
    try:
        with pytest.raises(signature.SignatureError, match="chmod 600"):
            signature.sign(full_report, key_folder, reason="x", location="y")
    finally:
        key.chmod(0o600)


def test_sign_refuses_what_is_no_pdf(key_folder: Path) -> None:
    with pytest.raises(signature.SignatureError, match="not a PDF"):
        signature.sign(b"hello", key_folder, reason="x", location="y")
