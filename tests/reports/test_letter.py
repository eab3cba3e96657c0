"""Letters in four scripts."""

from __future__ import annotations

import io
import shutil
import subprocess

import pytest
from pypdf import PdfReader

from reports.evidence import canonical_json
from reports.typography import long_date, set_scripts
from tests.reports import letters


def text_of(document: bytes) -> str:
    """Return the text layer without white space and zero-width marks."""
    pages = PdfReader(io.BytesIO(document)).pages
    text = "".join(page.extract_text() for page in pages)
    return "".join(text.replace("\u200b", "").split())


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", ["MaleeTanaka", "มาลีทานากะน้ำใจ", "1of312", "3November2026"]),
        ("th", ["มาลีน้ำใจ", "ทำลาย", "ได้รับคำขอ", "3พฤศจิกายน2569"]),
        ("ja", ["田中真由美様", "個人情報", "2026年11月3日"]),
        ("lo", ["ຄຳແພງແກ້ວມະນີ", "ແບບຈຳລອງພາສາ", "3ພະຈິກ2026"]),
    ],
)
def test_letter_text_layer(printed: dict[str, bytes], language: str, words: list[str]) -> None:
    text = text_of(printed[language])
    for word in words:
        assert set_scripts(word).replace("\u200b", "") in text


def test_letter_holds_its_exact_text(printed: dict[str, bytes]) -> None:
    (attached,) = PdfReader(io.BytesIO(printed["th"])).attachments["letter.json"]
    assert attached == canonical_json(letters.thai_letter())


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="poppler-utils is not installed")
def test_lao_sentence_stays_on_the_page(printed: dict[str, bytes]) -> None:
    command = ["pdftotext", "-bbox", "-", "-"]
    done = subprocess.run(command, input=printed["lo"], capture_output=True, check=True)
    edges = [
        float(line.split(b'xMax="')[1].split(b'"')[0])
        for line in done.stdout.splitlines()
        if b"<word" in line
    ]
    right_margin = (210 - 25) * 72 / 25.4
    assert max(edges) <= right_margin + 1


def test_long_date_by_language() -> None:
    assert long_date("2026-02-01", "en") == "1 February 2026"
    assert long_date("2026-02-01", "th") == "1 กุมภาพันธ์ 2569"
