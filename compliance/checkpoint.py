"""Sign the head of the log and write proofs from it; no Django here.

The texts are those of C2SP signed-note (Ed25519), tlog-checkpoint and tlog-proof, as
`reports.transparency_log` reads them.
"""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from reports.transparency_log import ED25519, HASH_BYTES, KEY_NAME, PROOF_HEAD, key_id

if TYPE_CHECKING:
    from collections.abc import Sequence

SEED_BYTES = 32


def new_key(origin: str) -> tuple[bytes, str]:
    """Return (32-byte Ed25519 seed, verifier key). Raises ValueError for a name with + or space."""
    seed = os.urandom(SEED_BYTES)
    return seed, verifier_key(seed, origin)


def verifier_key(seed: bytes, origin: str) -> str:
    """Return the verifier key of a seed (C2SP signed-note). Raises ValueError as new_key does."""
    public = _public(seed, origin)
    return f"{origin}+{key_id(origin, public).hex()}+{_base64(ED25519 + public)}"


def sign(seed: bytes, origin: str, size: int, root: bytes) -> str:
    """Return the signed note over size leaves with a 32-byte root (C2SP tlog-checkpoint).

    Raises ValueError for a name, size or root that no verifier would accept.
    """
    if size < 0 or len(root) != HASH_BYTES:
        raise ValueError("a checkpoint needs a size from 0 and a root of 32 bytes")
    identifier = key_id(origin, _public(seed, origin))
    text = f"{origin}\n{size}\n{_base64(root)}\n"
    signature = Ed25519PrivateKey.from_private_bytes(seed).sign(text.encode())
    return f"{text}\n— {origin} {_base64(identifier + signature)}\n"


def proof_text(index: int, path: Sequence[bytes], note: str, leaf: bytes) -> str:
    """Return a C2SP tlog-proof with the leaf itself as its extra data; path from the leaf up."""
    lines = [PROOF_HEAD, f"extra {_base64(leaf)}", f"index {index}", *map(_base64, path)]
    return "\n".join([*lines, "", note])


def _public(seed: bytes, origin: str) -> bytes:
    if not KEY_NAME.fullmatch(origin):
        raise ValueError("the name of a log has no spaces and no plus sign")
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
