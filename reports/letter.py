"""A letter to the person or to a recipient: letter record in, PDF/A-3 out."""

from __future__ import annotations

from datetime import UTC, datetime

from reports import pdf, typography
from reports.evidence import canonical_json, check_letter
from reports.record import LETTER_FILE
from reports.wording import refuse_banned_words

# Proper names promise nothing about weights.
NAMES = frozenset({"name", "address", "contact", "recipient", "reference"})

# Words the page itself adds.
LABELS = {
    "en": {"reference": "Reference", "date": "Date"},
    "th": {"reference": "เลขที่อ้างอิง", "date": "วันที่"},
    "ja": {"reference": "参照番号", "date": "日付"},
    "lo": {"reference": "ເລກທີອ້າງອີງ", "date": "ວັນທີ"},
}


def render(letter: object, proof: str | None = None) -> bytes:
    """Return the letter as PDF/A-3u bytes with its record attached; same input, same bytes.

    proof: that the record stands in the log, attached as well.

    Raises EvidenceError when the record does not fit its schema or uses a banned word.
    """
    checked = check_letter(letter)
    refuse_banned_words(checked, "letter", NAMES)
    made_at = datetime.fromisoformat(checked["date"]).replace(tzinfo=UTC)
    html = pdf.page(
        "letter.html.j2",
        letter=checked,
        day=typography.long_date(checked["date"], checked["language"]),
        created=made_at.isoformat(),
        labels=LABELS[checked["language"]],
    )
    attached = pdf.Attached(
        name=LETTER_FILE,
        description="The text of this letter, canonical JSON",
        data=canonical_json(checked),
        made_at=made_at,
    )
    files = [attached] if proof is None else [attached, pdf.log_proof(proof, made_at)]
    return pdf.to_pdf(html, "letter.css", files)
