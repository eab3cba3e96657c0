"""The report as a reader gets it: pages, text layer, attachment, no request."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pypdf import PdfReader

from reports import pdf, report
from reports.evidence import EvidenceError, canonical_json, digest
from reports.typography import by_length, figure
from tests.reports import factories, verifications

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]


def text_of(document: bytes) -> str:
    """Return the text layer with single spaces."""
    pages = PdfReader(io.BytesIO(document)).pages
    return " ".join(" ".join(page.extract_text() for page in pages).split())


def attachment_of(document: bytes, name: str) -> bytes:
    """Return the one attached file of that name."""
    (data,) = PdfReader(io.BytesIO(document)).attachments[name]
    return data


def test_full_report_text(full_report: bytes) -> None:
    text = text_of(full_report)
    for words in (
        "LT-2026-7F3A-91",
        "Fulfilled",
        "After the change, 1 of 312 probes",
        "90.7 %",
        "1.5 %",
        "Person 7F3A",
        "Earlier attempt 1",
        "What was not tested, and what this does not show",
        "Residual risk: low, at most 1.9 % with 95 % confidence",
        "No test can show that a language model holds nothing about a person.",
        "Verification: passed",
        "By form of the question",
        "People who do not exist (chance)",
        "Rounded weights, 4 bits",
        "Can the person’s texts be told from strangers’?",
        "Most beyond chance at layer 3: 17.0 %",
        "Not tested Attacks and scores: copies of the weights rounded to 8 bits",
        "Verification: failed",
        "measured degrees, no proof of absence",
        "Page 1 of 11",
        factories.sha("after"),
        digest(canonical_json(factories.full_evidence())),
    ):
        assert words in text


def test_unknown_is_told_as_no_pass() -> None:
    record = factories.full_evidence()
    record["attempts"] = [verifications.unknown_attempt()]
    html = report.page(record)
    _, _, attempt = html.partition("Earlier attempt 1")
    assert '<div class="outcome unknown">' in attempt
    assert "No verdict follows from these figures. This is not a pass." in attempt
    assert "<li>The model gave no numbers. The weights are damaged.</li>" in attempt
    assert html.count('<div class="outcome passed">') == 1


def test_the_level_is_printed_with_the_bound_that_it_follows_from() -> None:
    html = report.page(factories.full_evidence())
    assert "Residual risk: low, at most 1.9 % with 95 % confidence" in html
    assert "Residual risk: low. Direct questions alone: 1.5 %" in html
    second = report.page(verifications.second(factories.full_evidence()))
    assert "Residual risk: low; of direct questions at most 1.5 % with 95 % confidence" in second
    assert "Direct questions alone" in second


def test_record_of_the_first_schema_is_printed_and_attached_as_it_was() -> None:
    html = report.page(verifications.former(factories.full_evidence()))
    assert "<li>Not held: Leak rate.</li>" in html
    assert "By form of the question" not in html
    record = factories.refused_evidence() | {"schema": "lethe.report/1"}
    document = report.render(record)
    assert "Article 17(3)(e)" in text_of(document)
    assert attachment_of(document, "evidence.json") == canonical_json(record)


def test_full_report_is_tagged_archival_and_complete(full_report: bytes) -> None:
    reader = PdfReader(io.BytesIO(full_report))
    catalogue: Any = reader.trailer["/Root"]
    assert catalogue["/Lang"] == "en"
    assert catalogue["/MarkInfo"]["/Marked"]
    assert catalogue["/AF"][0].get_object()["/AFRelationship"] == "/Data"
    metadata = catalogue["/Metadata"].get_object().get_data()
    assert b'pdfaid:part="3"' in metadata
    assert b'pdfaid:conformance="U"' in metadata
    assert attachment_of(full_report, "evidence.json") == canonical_json(factories.full_evidence())


def test_report_same_evidence_same_bytes(full_report: bytes) -> None:
    assert report.render(factories.full_evidence()) == full_report


@pytest.mark.parametrize(
    ("make", "said", "unsaid"),
    [
        (factories.nothing_found_evidence, "at most 1.0 % of cases", "Choice of measure"),
        (factories.withdrawn_evidence, "The person withdrew the request", "Residual risk"),
    ],
    ids=["nothing_found", "withdrawn"],
)
def test_shorter_report(make: Callable[[], dict[str, Any]], said: str, unsaid: str) -> None:
    document = report.render(make())
    text = text_of(document)
    assert said in text
    assert f"{unsaid} ." not in text
    assert "How to check this document" in text
    assert len(PdfReader(io.BytesIO(document)).pages) < 8


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (0.0123, "rate", "1.2 %"),
        (-0.0001, "rate", "0.0 %"),
        (-0.012, "rate", "-1.2 %"),
        (0.0001, "rate", "< 0.1 %"),
        (320.0, "count", "320"),
        (0.5, "number", "0.5"),
    ],
)
def test_figure_is_told_in_its_unit(value: float, unit: str, words: str) -> None:
    assert figure(value, unit) == words


def test_zero_hits_bound() -> None:
    assert report.zero_hits_bound(300) == pytest.approx(0.009936, abs=1e-6)
    assert report.zero_hits_bound(0) == 1.0


def test_hostile_fields_stay_text(caplog: pytest.LogCaptureFixture) -> None:
    record = factories.refused_evidence()
    hostile = '<img src="file:///etc/passwd"><script>x</script>{{ 7*7 }} \u202eover\x07 end'
    record["case"]["organisation"] = hostile
    record["refusal"]["facts"] = hostile + " " + "w" * 9000
    text = text_of(report.render(record))
    assert '<img src="file:///etc/passwd"><script>x</script>{{ 7*7 }} over end' in text
    assert "the full text is in the attached JSON" in text
    assert caplog.records == []


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """A server on this machine that records what is asked of it."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as listener:
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listener.server_port}/x", asked
        listener.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "html",
    [
        '<img src="{}">',
        '<link rel="stylesheet" href="{}">',
        '<link rel="attachment" href="{}">',
        '<style>@import "{}";</style>',
        '<style>body {{ background: url("{}") }}</style>',
        '<object data="{}"></object>',
        '<style>@font-face {{ font-family: x; src: url("{}") }} p {{ font-family: x }}</style><p>x',
        '<svg xmlns="http://www.w3.org/2000/svg"><image href="{}" width="9" height="9"/></svg>',
        '<svg xmlns="http://www.w3.org/2000/svg"><use href="{}#a"/></svg>',
    ],
)
def test_page_that_asks_for_a_file_gets_nothing(html: str, server: tuple[str, list[str]]) -> None:
    address, asked = server
    record = pdf.Attached("a.json", "a", b"{}", datetime(2026, 11, 3, tzinfo=UTC))
    with suppress(EvidenceError):
        document = pdf.to_pdf(f"<html lang=en>{html.format(address)}", "letter.css", [record])
        assert list(PdfReader(io.BytesIO(document)).attachments) == ["a.json"]
    assert asked == []


@pytest.mark.parametrize(
    "address",
    ["file:///etc/passwd", "lethe-font:../report.py", "data:text/css,*{}", "ftp://127.0.0.1/x", ""],
)
def test_fetcher_refuses_everything_but_packaged_fonts(address: str) -> None:
    with pytest.raises(ValueError, match="only packaged fonts"):
        pdf.PackagedFonts().fetch(address)


def test_reports_import_neither_django_nor_torch() -> None:
    code = (
        "import sys, reports.report, reports.letter, reports.signature, reports.verify\n"
        "bad = {'django', 'torch', 'compliance', 'transformers'} & set(sys.modules)\n"
        "sys.exit(str(bad) if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == 0


def test_long_values_stand_over_the_whole_width() -> None:
    short, long = by_length([("class", "B"), ("claim", "x" * 200), ("steps", 40)])

    assert short == [("class", "B"), ("steps", 40)]
    assert long == [("claim", "x" * 200)]
