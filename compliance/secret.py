"""References, secrets and one-time codes."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from .models import Case

# Crockford's alphabet: no I, L, O, U, so that a code read aloud or copied by hand stays right.
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
CODE_LENGTH = 8  # 40 bits
_NOBODY = hashlib.sha256(b"nobody").hexdigest()


def _crockford(length: int) -> str:
    return "".join(secrets.choice(CROCKFORD) for _ in range(length))


def new_reference(year: int) -> str:
    """What a case is called: in letters, pages and logs. Public, so it is no secret."""
    return f"L{year}-{_crockford(4)}-{_crockford(4)}"


def new_secret() -> str:
    """160 bits that open the status page of one case."""
    return secrets.token_urlsafe(20)


def new_code() -> str:
    """A one-time code of 40 bits."""
    return _crockford(CODE_LENGTH)


def tidy_code(code: str) -> str:
    """Read a code as people write it: lower case, spaces, O for 0, I and L for 1."""
    tidy = "".join(code.split()).replace("-", "").upper()
    return tidy.translate(str.maketrans("OIL", "011"))


def digest_of_secret(secret: str) -> str:
    """SHA-256: 160 random bits need no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


def find_case(reference: str, secret: str) -> Case | None:
    """The case that both name. An unknown reference and a wrong secret take the same path."""
    case = Case.objects.filter(reference=reference.strip().upper()).first()
    kept = _NOBODY if case is None else case.secret_digest
    matches = hmac.compare_digest(kept, digest_of_secret(secret.strip()))
    return case if case is not None and matches else None
