"""The bytes of a signed PDF, one by one: what the signature covers, and the gap it cannot cover.

A PDF signature leaves out its own placeholder, so a reader that only checks the signature takes
any change of the unused part of that placeholder, of the case of its digits, and of CMS fields
that no digest covers. Here the placeholder is built anew from its signed parts and compared.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from asn1crypto import cms, x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

BYTE_RANGE = re.compile(
    rb"/ByteRange\s*\[\s*(\d{1,12})\s+(\d{1,12})\s+(\d{1,12})\s+(\d{1,12})\s*\]"
)
PLACEHOLDER = re.compile(rb"<([0-9A-F]+)>")

SEQUENCE, SET, OCTET_STRING, CONTEXT_0 = 0x30, 0x31, 0x04, 0xA0
VERSION_1 = bytes([0x02, 0x01, 0x01])


class EnvelopeError(Exception):
    """The bytes are not what this house signs; the message says which rule is broken."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A signature that covers the whole file, with the certificate it was made with."""

    certificate: x509.Certificate


def check(pdf: bytes) -> Envelope:
    """Return the envelope of a file of which no byte was changed after signing.

    Raises EnvelopeError when any byte, also one outside the signed ranges, is not as signed.
    """
    before, placeholder, after = _split(pdf)
    match = PLACEHOLDER.fullmatch(placeholder)
    if match is None or len(match[1]) % 2:
        raise EnvelopeError("the place of the signature holds something else than a signature")
    der = bytes.fromhex(match[1].decode())
    try:
        signed = cms.ContentInfo.load(der)["content"]
        certificate = signed["certificates"][0].chosen
        signer = signed["signer_infos"][0]
        expected = _rebuilt(certificate, signer)
        content, attributes = _signed_attributes(signer)
        pinned = attributes["signing_certificate_v2"]["certs"][0]["cert_hash"].native
        signed_digest = attributes["message_digest"].native
        value = signer["signature"].native
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError):
        # asn1crypto reports broken DER by these; its message may repeat bytes of the file.
        raise EnvelopeError("the signature cannot be read") from None
    filled = expected.hex().upper().encode()
    if match[1] != filled + b"0" * (len(match[1]) - len(filled)):
        raise EnvelopeError("the signature or the unused place behind it was changed")
    if hashlib.sha256(certificate.dump()).digest() != pinned:
        raise EnvelopeError("the certificate in the file is not the one that signed")
    if hashlib.sha256(before + after).digest() != signed_digest:
        raise EnvelopeError("the document was changed after it was signed")
    _verify(certificate, value, content)
    return Envelope(certificate)


def _split(pdf: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the bytes before, in and after the only gap of the only signature."""
    found = BYTE_RANGE.findall(pdf)
    if not found:
        raise EnvelopeError("the file carries no signature")
    if len(found) > 1 or pdf.count(b"/ByteRange") > 1:
        raise EnvelopeError("the file carries more than one signature")
    start, length, second, rest = (int(number) for number in found[0])
    if start != 0 or not 0 < length < second or second + rest != len(pdf):
        raise EnvelopeError("the signature does not cover the whole file")
    return pdf[:length], pdf[length:second], pdf[second:]


def _rebuilt(certificate: x509.Certificate, signer: cms.SignerInfo) -> bytes:
    """Return the CMS (RFC 5652) of a certificate, signed attributes and a signature value.

    Only these three are taken from the file, and a digest or the signature covers each of them.
    """
    sha256 = cms.DigestAlgorithm({"algorithm": "sha256"}).dump()
    identifier = certificate.issuer.dump() + certificate["tbs_certificate"]["serial_number"].dump()
    info = (
        VERSION_1
        + _der(SEQUENCE, identifier)
        + sha256
        + _der(CONTEXT_0, signer["signed_attrs"].contents)
        + cms.SignedDigestAlgorithm({"algorithm": "sha256_ecdsa"}).dump()
        + _der(OCTET_STRING, signer["signature"].native)
    )
    data = (
        VERSION_1
        + _der(SET, sha256)
        + _der(SEQUENCE, cms.ContentType("data").dump())
        + _der(CONTEXT_0, certificate.dump())
        + _der(SET, _der(SEQUENCE, info))
    )
    content = _der(CONTEXT_0, _der(SEQUENCE, data))
    return _der(SEQUENCE, cms.ContentType("signed_data").dump() + content)


def _der(tag: int, content: bytes) -> bytes:
    """Return one element of DER with its shortest length (X.690, section 10.1)."""
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def _signed_attributes(signer: cms.SignerInfo) -> tuple[bytes, dict[str, cms.CMSAttribute]]:
    """Return what was signed (RFC 5652, section 5.4: the attributes as a SET) and its values."""
    attributes = signer["signed_attrs"]
    values = {item["type"].native: item["values"][0] for item in attributes}
    return _der(SET, attributes.contents), values


def _verify(certificate: x509.Certificate, signature: bytes, content: bytes) -> None:
    try:
        key = load_der_public_key(certificate.public_key.dump())
    except (ValueError, UnsupportedAlgorithm):
        raise EnvelopeError("the key in the certificate cannot be used") from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise EnvelopeError("the certificate has no elliptic-curve key")
    try:
        key.verify(signature, content, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise EnvelopeError("the signature does not fit the certificate") from None
