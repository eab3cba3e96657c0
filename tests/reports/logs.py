"""A log of nine leaves, its notes and proofs, and small PDFs that carry them."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compliance import checkpoint, merkle
from reports import transparency_log as log

ORIGIN = "log.example/bank"
SEED, OTHER_SEED = bytes(32), bytes([1]) * 32
VKEY = checkpoint.verifier_key(SEED, ORIGIN)
KEY = log.VerifierKey.parse(VKEY)
RECORD = b'{"case":"L2026-AB12-CD34","schema":"lethe.report/1"}'
EVIDENCE = hashlib.sha256(RECORD).hexdigest()
DOCUMENT = b"a letter that was sent"


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def leaf(seq: int, **facts: str) -> bytes:
    return canonical({"action": "document.made", "facts": facts, "seq": seq})


LEAVES = [leaf(seq, note="été") for seq in range(7)]
LEAVES += [leaf(7, evidence_sha256=EVIDENCE), leaf(8, sha256=hashlib.sha256(DOCUMENT).hexdigest())]
DIGESTS = [log.leaf_hash(item) for item in LEAVES]


def rows() -> dict[int, merkle.Row]:
    found: dict[int, merkle.Row] = {}
    for seq, digest in enumerate(DIGESTS):
        nodes = {place: found[place].node for place in merkle.appended_needs(seq)}
        found[seq] = merkle.Row(digest, merkle.appended(seq, digest, nodes))
    return found


def note(size: int, seed: bytes = SEED) -> str:
    return checkpoint.sign(seed, ORIGIN, size, log.tree_root(DIGESTS[:size]))


def proof(index: int, size: int = 9) -> str:
    path = merkle.inclusion_path(index, size, rows())
    return checkpoint.proof_text(index, path, note(size), LEAVES[index])


def proof_of_one(only: bytes) -> str:
    """The proof of the one leaf of a log."""
    return checkpoint.proof_text(0, [], checkpoint.sign(SEED, ORIGIN, 1, log.leaf_hash(only)), only)


def signed(text: str, seed: bytes = SEED, name: str = ORIGIN) -> str:
    """A note over any text, also one that is no checkpoint."""
    key = Ed25519PrivateKey.from_private_bytes(seed)
    raw = log.key_id(name, key.public_key().public_bytes_raw()) + key.sign(text.encode())
    return f"{text}\n— {name} {base64.b64encode(raw).decode()}\n"


def pdf(*streams: bytes, deflate: bool = True) -> bytes:
    body = b"%PDF-1.7\n"
    for number, stream in enumerate(streams, start=1):
        data = zlib.compress(stream) if deflate else stream
        head = f"{number} 0 obj\n<< /Length {len(data)} >>\nstream\n".encode()
        body += head + data + b"\nendstream\nendobj\n"
    return body + b"%%EOF\n"
