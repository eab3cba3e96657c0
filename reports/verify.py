"""Check a signed report or letter offline: python -m reports.verify FILE.pdf [--certificate PEM].

Exit status 0: valid; 1: not valid; 2: not readable, or wrong usage.
"""

from __future__ import annotations

import argparse
import io
import logging
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asn1crypto import pem, x509
from pyhanko.pdf_utils.misc import PdfError
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.fields import MDPPerm
from pyhanko.sign.validation import validate_pdf_signature
from pyhanko_certvalidator import ValidationContext

from reports import envelope
from reports.evidence import digest
from reports.record import LETTER_FILE, REPORT_FILE

if TYPE_CHECKING:
    from collections.abc import Sequence

VALID, NOT_VALID, UNREADABLE = 0, 1, 2


@dataclass(slots=True)
class Verification:
    """What was found in one file; valid is true only when problems is empty.

    intact: every byte, also outside the signed ranges, is as signed. whole_file: the signature
    covers the whole file. trusted: whether it leads to the certificate given; None when none was.
    evidence_sha256: of the attached record. signed_at: the signer's own clock.
    """

    valid: bool = False
    intact: bool = False
    whole_file: bool = False
    signer: str | None = None
    signed_at: datetime | None = None
    modifications: str = "unknown"
    evidence_sha256: str | None = None
    trusted: bool | None = None
    problems: list[str] = field(default_factory=list)


class CertificateError(Exception):
    """The certificate given is not one PEM certificate."""


def verify(pdf: bytes, certificate: bytes | None = None) -> Verification:
    """Return the verdict on a signed PDF; certificate is the PEM that the signer should lead to.

    Never fetches anything. Raises CertificateError when certificate cannot be read.
    """
    root = None if certificate is None else _load(certificate)
    result = Verification(trusted=None if root is None else False)
    try:
        signer = envelope.check(pdf).certificate
    except envelope.EnvelopeError as problem:
        result.problems.append(str(problem))
        return result
    result.intact = True
    result.signer = signer.subject.human_friendly
    try:
        _check_structure(pdf, root, result)
    except (PdfError, ValueError, LookupError, TypeError, AttributeError):
        # The bytes are as signed, so what is broken here was signed broken.
        result.problems.append("the PDF was signed with a structure that cannot be read")
    result.valid = not result.problems
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the verdict in plain words; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m reports.verify", description=__doc__)
    parser.add_argument("file", type=Path, help="the signed PDF")
    parser.add_argument(
        "--certificate", type=Path, help="PEM file of the signer, received by another way"
    )
    options = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    try:
        pdf = options.file.read_bytes()
        certificate = options.certificate.read_bytes() if options.certificate else None
        result = verify(pdf, certificate)
    except (OSError, CertificateError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else str(problem)
        sys.stderr.write(f"NOT READABLE: {reason}\n")
        return UNREADABLE
    if not pdf.startswith(b"%PDF-"):
        sys.stderr.write("NOT READABLE: the file is not a PDF\n")
        return UNREADABLE
    sys.stdout.write("\n".join(_lines(result, digest(pdf))) + "\n")
    return VALID if result.valid else NOT_VALID


def _load(certificate: bytes) -> x509.Certificate:
    try:
        name, _, der = pem.unarmor(certificate)
        loaded = x509.Certificate.load(der, strict=True)
        # Parsing is lazy: touch what the check needs.
        fits = name == "CERTIFICATE" and loaded.subject.native is not None
    except (ValueError, TypeError):
        fits = False
    if not fits:
        raise CertificateError("the certificate is not a PEM certificate")
    return loaded


def _check_structure(pdf: bytes, root: x509.Certificate | None, result: Verification) -> None:
    """Fill in what pyHanko and the document itself say; the bytes are known to be as signed."""
    reader = PdfFileReader(io.BytesIO(pdf))
    signatures = reader.embedded_signatures
    if len(signatures) != 1:
        result.problems.append("the file must carry exactly one signature")
        return
    signature = signatures[0]
    result.signed_at = signature.self_reported_timestamp
    context = ValidationContext(
        # Without a given certificate trust is not judged; the signer's own stands in.
        trust_roots=[signature.signer_cert if root is None else root],
        allow_fetching=False,
        moment=result.signed_at or datetime.now(UTC),
    )
    status = validate_pdf_signature(signature, signer_validation_context=context)
    result.whole_file = status.coverage.name == "ENTIRE_FILE"
    result.modifications = status.modification_level.name.lower()
    if root is not None:
        result.trusted = status.trusted
        if not result.trusted:
            result.problems.append("the signer does not lead to the certificate given")
    if not (status.intact and status.valid):
        result.problems.append("the signature does not fit the document")
    if not result.whole_file:
        result.problems.append("the signature does not cover the whole file")
    if result.modifications != "none":
        result.problems.append("the document was changed after it was signed")
    if signature.docmdp_level is not MDPPerm.NO_CHANGES:
        result.problems.append("the signature does not forbid later changes")
    files = _attachments(reader)
    record = files.get(REPORT_FILE, files.get(LETTER_FILE))
    if record is None:
        result.problems.append("the file carries no record of the case")
    else:
        result.evidence_sha256 = digest(record)


def _attachments(reader: PdfFileReader) -> dict[str, bytes]:
    """Return the files attached to the document, by name."""
    try:
        names: Any = reader.root["/Names"]["/EmbeddedFiles"]["/Names"]
    except KeyError:
        return {}
    specifications = [names[place] for place in range(1, len(names), 2)]
    return {str(item["/UF"]): item["/EF"]["/F"].data for item in specifications}


def _lines(result: Verification, file_sha256: str) -> list[str]:
    head = "VALID" if result.valid else "NOT VALID"
    lines = [f"{head}: {_verdict(result)}"]
    lines += [f"  problem: {problem}" for problem in result.problems]
    if result.signer is not None:
        at = "unknown" if result.signed_at is None else f"{result.signed_at:%Y-%m-%d %H:%M:%S %z}"
        lines += [
            f"  signer: {result.signer}",
            f"  signed at: {at} (the signer's own clock; no time-stamp authority)",
            f"  whole file covered: {'yes' if result.whole_file else 'no'}; "
            f"changes since: {result.modifications}",
        ]
    if result.trusted is None:
        lines.append("  identity of the signer: not checked; give --certificate to check it")
    elif result.trusted:
        lines.append("  identity of the signer: leads to the certificate given")
    if result.evidence_sha256 is not None:
        lines.append(f"  SHA-256 of the attached record: {result.evidence_sha256}")
    lines.append(f"  SHA-256 of this file: {file_sha256}")
    lines.append("  Hold the last line against the audit log of the issuing organisation.")
    return lines


def _verdict(result: Verification) -> str:
    if result.valid:
        return "every byte of this file is as it was signed."
    if result.intact:
        return "the bytes are as they were signed, but the signature cannot be accepted."
    return "this file is not as it was signed."


if __name__ == "__main__":
    sys.exit(main())
