"""HTML templates to PDF/A-3 that is the same for the same input; nothing is fetched.

The page is built from packaged templates and packaged fonts. Japanese falls back to a font of
the system (IPAex Gothic or Noto CJK). Rendering hostile sizes may be slow: a server should call
this in a child process with a limit of time and memory.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from weasyprint import CSS, HTML, Attachment
from weasyprint.text.fonts import FontConfiguration
from weasyprint.urls import FatalURLFetchingError, URLFetcher, URLFetcherResponse

from reports import typography
from reports.evidence import EvidenceError
from reports.record import PROOF_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

TEMPLATES = Path(__file__).parent / "templates"
FONTS = Path(__file__).parent / "fonts"
SCHEME = "lethe-font:"

# family, weight, file; each script has a family of its own so that the order of the fallback is
# the order of the font-family lists in style.css and not a choice of the system. TrueType: web
# fonts would be unpacked anew for each document, which takes as long as to set half a report.
FACES = (
    ("Lethe Latin", 400, "noto-sans-latin-400-normal.ttf"),
    ("Lethe Latin", 700, "noto-sans-latin-700-normal.ttf"),
    ("Lethe Latin Extended", 400, "noto-sans-latin-ext-400-normal.ttf"),
    ("Lethe Latin Extended", 700, "noto-sans-latin-ext-700-normal.ttf"),
    ("Lethe Greek", 400, "noto-sans-greek-400-normal.ttf"),
    ("Lethe Greek", 700, "noto-sans-greek-700-normal.ttf"),
    ("Lethe Thai", 400, "noto-sans-thai-thai-400-normal.ttf"),
    ("Lethe Thai", 700, "noto-sans-thai-thai-700-normal.ttf"),
    ("Lethe Lao", 400, "noto-sans-lao-lao-400-normal.ttf"),
    ("Lethe Lao", 700, "noto-sans-lao-lao-700-normal.ttf"),
    ("Lethe Serif", 600, "source-serif-4-latin-600-normal.ttf"),
    ("Lethe Serif Extended", 600, "source-serif-4-latin-ext-600-normal.ttf"),
    ("Lethe Mono", 400, "noto-sans-mono-latin-400-normal.ttf"),
)


class PackagedFonts(URLFetcher):  # type: ignore[misc]
    """Answers the addresses of our own font files and refuses everything else."""

    def fetch(self, url: str, headers: Mapping[str, str] | None = None) -> URLFetcherResponse:
        """Return the bytes of one packaged font; raise ValueError for any other address."""
        del headers
        name = url.removeprefix(SCHEME)
        if not url.startswith(SCHEME) or name not in {face[2] for face in FACES}:
            raise ValueError("only packaged fonts can be loaded")
        return URLFetcherResponse(url, (FONTS / name).read_bytes(), {"Content-Type": "font/ttf"})


@dataclass(frozen=True, slots=True)
class Attached:
    """A file that goes into the PDF beside the pages; relationship is PDF 2.0's AFRelationship."""

    name: str
    description: str
    data: bytes
    made_at: datetime
    relationship: str = "Data"


def page(template: str, **values: object) -> str:
    """Return the HTML of a packaged template; every value is escaped and cleaned."""
    return typography.set_scripts(_templates().get_template(template).render(**values))


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_clean,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        moment=typography.moment,
        percent=typography.percent,
        number=typography.number,
        figure=typography.figure,
        area=typography.area,
        words=typography.words,
        by_length=typography.by_length,
    )
    return environment


def log_proof(text: str, made_at: datetime) -> Attached:
    """The proof (C2SP tlog-proof) that the record of this document stands in the log."""
    return Attached(
        name=PROOF_FILE,
        description="Proof that this record stands in the log of record",
        data=text.encode(),
        made_at=made_at,
        relationship="Supplement",
    )


def to_pdf(html: str, stylesheet: str, attached: Sequence[Attached]) -> bytes:
    """Return a tagged PDF/A-3u of html with its attachments.

    Raises EvidenceError when the page asks for any file but a packaged font.
    """
    fetcher = PackagedFonts(fail_on_errors=True)
    fonts = FontConfiguration()
    sheets = [(TEMPLATES / name).read_text(encoding="utf-8") for name in ("base.css", stylesheet)]
    style = CSS(string=_font_faces() + "".join(sheets), font_config=fonts, url_fetcher=fetcher)
    files = [
        Attachment(
            file_obj=io.BytesIO(item.data),
            url_fetcher=fetcher,
            name=item.name,
            description=item.description,
            created=item.made_at,
            modified=item.made_at,
            relationship=item.relationship,
        )
        for item in attached
    ]
    try:
        with warnings.catch_warnings():
            # WeasyPrint leaves closing its own colour profile to the garbage collector.
            warnings.filterwarnings("ignore", "unclosed file.*sRGB2014", ResourceWarning)
            document: bytes = HTML(string=html, url_fetcher=fetcher).write_pdf(
                stylesheets=[style],
                font_config=fonts,
                pdf_variant="pdf/a-3u",
                pdf_tags=True,
                attachments=files,
            )
    except FatalURLFetchingError:
        raise EvidenceError("the page asked for a file that is not part of it") from None
    return document


def _font_faces() -> str:
    rule = (
        '@font-face {{ font-family: "{}"; font-weight: {}; src: url("{}{}") format("truetype") }}\n'
    )
    return "".join(rule.format(family, weight, SCHEME, name) for family, weight, name in FACES)


def _clean(value: object) -> object:
    if isinstance(value, str) and not isinstance(value, Markup):
        return typography.clean(value)
    return value
