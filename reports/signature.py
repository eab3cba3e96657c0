"""PAdES certification signatures with a local key; no network, no time-stamp authority.

`make_demo_certificate` makes a key for demonstrations. For real use put a certificate of your own
authority and its P-256 key under the same names; `sign` and `reports.verify` take it as it is.
"""

from __future__ import annotations

import io
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from asn1crypto import keys, pem, x509
from cryptography import x509 as certificates
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.misc import PdfError
from pyhanko.sign import fields, signers
from pyhanko_certvalidator.registry import SimpleCertificateStore

if TYPE_CHECKING:
    from pathlib import Path

KEY = "key.pem"
CERTIFICATE = "certificate.pem"
DEMO_NAME = "DEMO certificate, not a trusted identity"
DEMO_LIFE = timedelta(days=3650)
FIELD = "Certification"
# Upper bound of X.520 for the attribute organizationName.
LONGEST_ORGANISATION = 64


class SignatureError(Exception):
    """A key, certificate or file that cannot be used for signing; the message says what to do."""


def make_demo_certificate(directory: Path, organisation: str) -> Path:
    """Make a P-256 key and a self-signed certificate in directory; return the certificate's path.

    The key file is readable by its owner only. Raises SignatureError when a key is already there
    or the name has no or more than 64 characters.
    """
    if not 0 < len(organisation) <= LONGEST_ORGANISATION:
        raise SignatureError("the organisation's name needs 1 to 64 characters in a certificate")
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = ec.generate_private_key(ec.SECP256R1())
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    try:
        handle = os.open(directory / KEY, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        message = f"{KEY} exists already: keep it, or choose another folder"
        raise SignatureError(message) from None
    with os.fdopen(handle, "wb") as file:
        file.write(secret)
    certificate = _self_signed(key, organisation)
    path = directory / CERTIFICATE
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return path


def sign(pdf: bytes, directory: Path, *, reason: str, location: str) -> bytes:
    """Return pdf with an invisible PAdES certification signature that allows no later change.

    directory holds key.pem (P-256, mode 0600) and certificate.pem. The time of signing is this
    machine's clock. Raises SignatureError when the key, the certificate or the PDF is unusable.
    """
    certificate = x509.Certificate.load(_pem(directory / CERTIFICATE))
    signer = signers.SimpleSigner(
        signing_cert=certificate,
        signing_key=keys.PrivateKeyInfo.load(_pem(_private(directory / KEY))),
        cert_registry=SimpleCertificateStore(),
    )
    meta = signers.PdfSignatureMetadata(
        field_name=FIELD,
        md_algorithm="sha256",
        reason=reason,
        location=location,
        name=certificate.subject.native["common_name"],
        certify=True,
        docmdp_permissions=fields.MDPPerm.NO_CHANGES,
        subfilter=fields.SigSeedSubFilter.PADES,
    )
    try:
        writer = IncrementalPdfFileWriter(io.BytesIO(pdf))
        signed: io.BytesIO = signers.sign_pdf(writer, meta, signer)
    except PdfError:
        raise SignatureError("the file is not a PDF that can be signed") from None
    return signed.getvalue()


def _self_signed(key: ec.EllipticCurvePrivateKey, organisation: str) -> certificates.Certificate:
    name = certificates.Name(
        [
            certificates.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
            certificates.NameAttribute(NameOID.COMMON_NAME, DEMO_NAME),
        ]
    )
    now = datetime.now(UTC)
    usage = certificates.KeyUsage(
        digital_signature=True,
        content_commitment=True,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        certificates.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(certificates.random_serial_number())
        # Another machine's clock may be a little behind.
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + DEMO_LIFE)
        .add_extension(certificates.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(
            certificates.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
        )
        .sign(key, hashes.SHA256())
    )


def _private(path: Path) -> Path:
    if path.is_file() and path.stat().st_mode & 0o077:
        raise SignatureError(f"{path.name} can be read by others: chmod 600 it")
    return path


def _pem(path: Path) -> bytes:
    try:
        _, _, der = pem.unarmor(path.read_bytes())
    except (OSError, ValueError):
        raise SignatureError(f"{path.name} is missing or not PEM") from None
    return bytes(der)
