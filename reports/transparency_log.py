"""Check a transparency log of Lethe without Lethe: one file, Python 3.11 and `cryptography`.

    python3 transparency_log.py log LEAVES.jsonl --key VKEYFILE --checkpoint NOTE ...
    python3 transparency_log.py file FILE --proof FILE.tlog-proof --key VKEYFILE
    python3 transparency_log.py pdf FILE.pdf --key VKEYFILE
    python3 transparency_log.py consistency OLD NEW --path PATHFILE --key VKEYFILE

Exit status 0: held; 1: did not hold; 2: not readable, or wrong usage. Hashes as in RFC 6962 §2.1;
texts as in C2SP signed-note (Ed25519), tlog-checkpoint and tlog-proof. May import nothing of ours.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

if TYPE_CHECKING:
    from collections.abc import Sequence

HELD, NOT_HELD = 0, 1
HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256().digest()
ED25519 = b"\x01"
PROOF_HEAD = "c2sp.org/tlog-proof@v1"
MAX_FILE = 1 << 28
# A note must have room for 16 signatures of nearly 5 kB each (C2SP signed-note).
MAX_NOTE = 1 << 18
MAX_PROOF = 1 << 20
MAX_INFLATED = 64 << 20

NOT_PROVEN = """\
NOT PROVEN: that what was written to the log is true, or that everything was written to it.
  Whoever has the signing key could write and sign another log from the start:
  compare these checkpoints with those that others hold."""

# Words are decoded with surrogateescape: what is not UTF-8 becomes surrogates, refused here.
KEY_NAME = re.compile(r"[^\x00-\x1f\s+\ud800-\udfff]+")
_NOT_TEXT = re.compile(r"[\x00-\x09\x0b-\x1f\ud800-\udfff]")
_VERIFIER_KEY = re.compile(rf"({KEY_NAME.pattern})\+([0-9a-f]{{8}})\+([^\n]+)")
_SIGNATURE = re.compile(rf"— ({KEY_NAME.pattern}) ([^ ]+)")
_NUMBER = "(0|[1-9][0-9]{0,17})"
_CHECKPOINT = re.compile(rf"([^\n]+)\n{_NUMBER}\n([^\n]+)\n(?:[^\n]+\n)*")
_PROOF = re.compile(
    rf"{re.escape(PROOF_HEAD)}\nextra ([^\n]*)\nindex {_NUMBER}\n((?:[^\n]+\n)*)\n(.*)", re.DOTALL
)
_STREAM = re.compile(rb">>\s*stream\r?\n")
_RECORD = re.compile(rb'\s*\{.*?"schema"\s*:\s*"lethe\.', re.DOTALL)
_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


class ProofError(Exception):
    """Something did not hold; the message never repeats what a file says, save sizes and places."""


def leaf_hash(leaf: bytes) -> bytes:
    """Return the 32-byte hash of one leaf (RFC 6962 §2.1)."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the 32-byte hash over two 32-byte hashes (RFC 6962 §2.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def tree_root(leaf_hashes: Sequence[bytes]) -> bytes:
    """Return the 32-byte root over leaf hashes; SHA-256 of nothing for none (RFC 6962 §2.1)."""
    level = list(leaf_hashes)
    # The last of an odd level moves up as it is: the same tree as by the halving of the RFC.
    while len(level) > 1:
        above = [node_hash(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
        level = above + level[len(above) * 2 :]
    return level[0] if level else EMPTY_ROOT


def verify_inclusion(
    root: bytes, size: int, index: int, digest: bytes, path: Sequence[bytes]
) -> None:
    """Check that a leaf hash is number index of a tree (RFC 6962 §2.1.1). Raises ProofError."""
    if not 0 <= index < size:
        raise ProofError(f"there is no leaf {index} in a log of {size} leaves")
    # Below `inner` the sibling stands on either side; from there on only to the left.
    inner = (index ^ (size - 1)).bit_length()
    _check_hashes(path, inner + (index >> inner).bit_count())
    found = digest
    for level, step in enumerate(path):
        left = level >= inner or index >> level & 1
        found = node_hash(step, found) if left else node_hash(found, step)
    if found != root:
        raise ProofError(f"leaf {index} is not in the log of {size} leaves that was signed")


def verify_consistency(
    old_root: bytes, old_size: int, new_root: bytes, new_size: int, path: Sequence[bytes]
) -> None:
    """Check that a new tree begins with the old one (RFC 6962 §2.1.2). Raises ProofError."""
    if not 0 <= old_size <= new_size:
        raise ProofError(f"a log of {new_size} leaves cannot continue one of {old_size}")
    old = new = old_root
    if old_size in (0, new_size):
        _check_hashes(path, 0)
        old = EMPTY_ROOT if old_size == 0 else old_root
        new = old if old_size == new_size else new_root
    else:
        # The walk starts at the largest subtree that both trees have complete at the old end.
        start = (old_size & -old_size).bit_length() - 1
        place, last = (old_size - 1) >> start, (new_size - 1) >> start
        inner = (place ^ last).bit_length()
        # A complete old tree is that subtree itself, so its hash is left out of the path.
        _check_hashes(path, bool(place) + inner + (place >> inner).bit_count())
        steps = [*path] if place else [old_root, *path]
        old = new = steps[0]
        for level, step in enumerate(steps[1:]):
            if level >= inner or place >> level & 1:
                old, new = node_hash(step, old), node_hash(step, new)
            else:
                new = node_hash(new, step)
    if (old, new) != (old_root, new_root):
        raise ProofError(f"the log of {new_size} leaves does not continue that of {old_size}")


@dataclass(frozen=True)
class VerifierKey:
    """The name of a log, its 4-byte key id and its 32-byte Ed25519 key (C2SP signed-note)."""

    name: str
    key_id: bytes
    public: bytes

    @classmethod
    def parse(cls, vkey: str) -> VerifierKey:
        """Return the key of name+hex id+base64. Raises ProofError, also when the id is not its."""
        match = _VERIFIER_KEY.fullmatch(vkey)
        typed = _base64(match[3], "the verifier key") if match else b""
        if match is None or len(typed) != 1 + HASH_BYTES or not typed.startswith(ED25519):
            raise ProofError("the verifier key is not a name, an id and an Ed25519 key")
        key = cls(match[1], key_id(match[1], typed[1:]), typed[1:])
        if match[2] != key.key_id.hex():
            raise ProofError("the id of the verifier key does not fit its name and key")
        return key


def key_id(name: str, public: bytes) -> bytes:
    """Return the 4-byte id of an Ed25519 key of 32 bytes (C2SP signed-note)."""
    return hashlib.sha256(name.encode() + b"\n" + ED25519 + public).digest()[:4]


@dataclass(frozen=True)
class Checkpoint:
    """What a log signed: its origin, its number of leaves and its 32-byte root."""

    origin: str
    size: int
    root: bytes


def open_checkpoint(note: str, key: VerifierKey) -> Checkpoint:
    """Return the checkpoint that key signed (C2SP tlog-checkpoint). Raises ProofError."""
    match = _CHECKPOINT.fullmatch(_signed_text(note, key))
    if match is None:
        raise ProofError("the checkpoint does not consist of origin, size and root")
    if match[1] != key.name:
        raise ProofError("the checkpoint is of another log than the key")
    root = _base64(match[3], "the root of the checkpoint")
    _check_hashes([root], 1)
    return Checkpoint(match[1], int(match[2]), root)


def open_proof(text: str, key: VerifierKey) -> tuple[bytes, int, Checkpoint]:
    """Return (leaf, index, checkpoint) of a C2SP tlog-proof with its leaf. Raises ProofError."""
    match = _PROOF.fullmatch(text) if len(text) <= MAX_PROOF else None
    if match is None:
        raise ProofError("the text is not a tlog-proof, version 1, that carries its leaf")
    leaf, index = _base64(match[1], "the leaf in the proof"), int(match[2])
    path = [_base64(line, "a hash in the proof") for line in match[3].split("\n")[:-1]]
    checkpoint = open_checkpoint(match[4], key)
    verify_inclusion(checkpoint.root, checkpoint.size, index, leaf_hash(leaf), path)
    return leaf, index, checkpoint


def check_leaves(leaves: Sequence[bytes]) -> None:
    """Check that leaf i is canonical JSON of an object with "seq" i. Raises ProofError."""
    for index, leaf in enumerate(leaves):
        _entry(leaf, index)


def attachments(pdf: bytes) -> list[bytes]:
    """Return the streams of a PDF, inflated where Flate fits. Raises ProofError over 64 MiB."""
    found: list[bytes] = []
    room, end = MAX_INFLATED, 0
    while start := _STREAM.search(pdf, end):
        end = pdf.find(b"endstream", start.end())
        if end < 0:
            break
        inflater, data = zlib.decompressobj(), pdf[start.end() : end]
        try:
            inflated = inflater.decompress(data, room + 1)
        except zlib.error:
            inflated = b""
        room -= len(inflated)
        if room < 0:
            raise ProofError(f"the streams of the file inflate to more than {MAX_INFLATED} bytes")
        # The end of line before the keyword is not part of a stream (ISO 32000 §7.3.8).
        found.append(inflated if inflater.eof else data.removesuffix(b"\n").removesuffix(b"\r"))
    return found


def check_log(data: bytes, notes: Sequence[bytes], key: VerifierKey) -> list[str]:
    """Check leaves, one per line, against notes; return what held. Raises ProofError with all."""
    if data[-1:] not in (b"", b"\n"):
        raise ProofError("the last leaf has no line feed at its end: the log was cut or changed")
    if len(data) < len(b'{"seq":0}\n') * data.count(b"\n"):
        raise ProofError("the lines of the log are too short to be leaves")
    leaves = data.split(b"\n")[:-1]
    digests = [leaf_hash(leaf) for leaf in leaves]
    covered, problems = 0, []
    for place, note in enumerate(notes, start=1):
        try:
            checkpoint = open_checkpoint(str(note, errors="surrogateescape"), key)
            size = checkpoint.size
            if size > len(leaves):
                raise ProofError(f"the log was cut: of {size} leaves {len(leaves)} are here")
            if tree_root(digests[:size]) != checkpoint.root:
                raise ProofError(f"the first {size} leaves are not those that were signed")
            covered = max(covered, size)
        except ProofError as problem:
            problems.append(f"checkpoint {place}: {problem}")
    try:
        check_leaves(leaves)
    except ProofError as problem:
        problems.append(str(problem))
    if problems:
        raise ProofError("; ".join(problems))
    return [
        f"leaves: {len(leaves)}, each canonical and numbered without a gap",
        f"checkpoints: {len(notes)}, each signed by the key given and fitting the leaves",
        f"leaves after the last checkpoint, protected by nothing here: {len(leaves) - covered}",
    ]


def check_pdf(pdf: bytes, key: VerifierKey) -> list[str]:
    """Check the proof in a PDF against the evidence record in it. Raises ProofError."""
    streams = set(attachments(pdf))
    proofs = [item for item in streams if item.startswith(PROOF_HEAD.encode() + b"\n")]
    records = [item for item in streams if _RECORD.match(item)]
    # With two of either, a reader could be shown one and the check be given the other.
    if len(proofs) != 1 or len(records) != 1:
        raise ProofError(f"not one proof and one record, but {len(proofs)} and {len(records)}")
    digest = hashlib.sha256(records[0]).hexdigest()
    facts = _proven(proofs[0], key, "evidence_sha256", digest, "evidence record in the file")
    return [*facts, "the visible pages were not compared: check the signature of the file as well"]


def check_consistency(old: bytes, new: bytes, path: bytes, key: VerifierKey) -> list[str]:
    """Check that the newer checkpoint continues the older one. Raises ProofError."""
    first, second = (
        open_checkpoint(str(note, errors="surrogateescape"), key) for note in (old, new)
    )
    lines = str(path, errors="surrogateescape").split("\n")
    hashes = [_base64(line, "a hash in the path") for line in lines if line]
    verify_consistency(first.root, first.size, second.root, second.size, hashes)
    return [f"the log of {second.size} leaves begins with the {first.size} leaves signed before"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what held; return the exit status. What cannot be read raises SystemExit 2."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    log, file, pdf, consistency = map(commands.add_parser, ("log", "file", "pdf", "consistency"))
    log.add_argument("leaves", type=_read)
    log.add_argument("--checkpoint", type=_read, required=True, action="append")
    file.add_argument("file", type=_read)
    file.add_argument("--proof", type=_read, required=True)
    pdf.add_argument("file", type=_read)
    consistency.add_argument("old", type=_read)
    consistency.add_argument("new", type=_read)
    consistency.add_argument("--path", type=_read, required=True)
    for command in (log, file, pdf, consistency):
        command.add_argument("--key", type=_key, required=True)
    options = parser.parse_args(arguments)
    try:
        if options.command == "log":
            facts = check_log(options.leaves, options.checkpoint, options.key)
        elif options.command == "file":
            digest = hashlib.sha256(options.file).hexdigest()
            facts = _proven(options.proof, options.key, "sha256", digest, "file")
        elif options.command == "pdf":
            facts = check_pdf(options.file, options.key)
        else:
            facts = check_consistency(options.old, options.new, options.path, options.key)
        status, words = HELD, "\n  ".join(["HOLDS:", *facts])
    except ProofError as problem:
        status, words = NOT_HELD, f"DOES NOT HOLD: {problem}."
    sys.stdout.write(f"{words}\n{NOT_PROVEN}\n")
    return status


def _read(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as problem:
        raise argparse.ArgumentTypeError(f"not readable: {problem.strerror}") from None
    if len(data) > MAX_FILE:
        raise argparse.ArgumentTypeError(f"not readable: larger than {MAX_FILE} bytes")
    return data


def _key(path: str) -> VerifierKey:
    try:
        return VerifierKey.parse(str(_read(path), errors="surrogateescape").strip())
    except ProofError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None


def _signed_text(note: str, key: VerifierKey) -> str:
    """Return the text of a note with its last line feed, once a signature of key was verified."""
    if len(note) > MAX_NOTE or _NOT_TEXT.search(note):
        raise ProofError(f"the note has control characters, or more than {MAX_NOTE} characters")
    head, gap, tail = note.rpartition("\n\n")
    if not gap or not tail.endswith("\n"):
        raise ProofError("the note does not consist of a text, an empty line and signature lines")
    verified = False
    for line in tail[:-1].split("\n"):
        match = _SIGNATURE.fullmatch(line)
        raw = _base64(match[2], "a signature") if match else b""
        if match is None or len(raw) <= 4:
            raise ProofError("a signature line is not a dash, a name and a signature")
        if (match[1], raw[:4]) == (key.name, key.key_id):
            try:
                public = Ed25519PublicKey.from_public_bytes(key.public)
                public.verify(raw[4:], (head + "\n").encode())
            except InvalidSignature:
                raise ProofError("a signature of the known key does not fit the note") from None
            verified = True
    if not verified:
        raise ProofError("the note has no signature of the known key")
    return head + "\n"


def _proven(proof: bytes, key: VerifierKey, fact: str, expected: str, what: str) -> list[str]:
    leaf, index, checkpoint = open_proof(str(proof, errors="surrogateescape"), key)
    facts = _entry(leaf, index).get("facts")
    if not isinstance(facts, dict) or facts.get(fact) != expected:
        raise ProofError(f"leaf {index}, which is proven, does not record this {what}")
    return [
        f"leaf {index} of {checkpoint.size} records this {what}: SHA-256 {expected}",
        # Escaped to ASCII, so that nothing in it can steer a terminal.
        f"the whole leaf: {leaf.decode().encode('ascii', 'backslashreplace').decode()}",
    ]


def _entry(leaf: bytes, index: int) -> dict[str, Any]:
    """Return leaf number index as an object. Raises ProofError."""
    try:
        entry: Any = json.loads(leaf.decode())
        canonical = isinstance(entry, dict) and _JSON.encode(entry).encode() == leaf
    except (ValueError, RecursionError):
        canonical = False
    if not canonical:
        raise ProofError(f"leaf {index} is not canonical JSON of an object")
    if type(entry.get("seq")) is not int or entry["seq"] != index:
        raise ProofError(f"leaf {index} does not carry its number")
    return cast("dict[str, Any]", entry)


def _base64(text: str, what: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        data = b""
    # Several texts decode to the same bytes; only one of them is accepted.
    if base64.b64encode(data).decode() != text:
        raise ProofError(f"{what} is not canonical base64")
    return data


def _check_hashes(hashes: Sequence[bytes], count: int) -> None:
    if len(hashes) != count:
        raise ProofError(f"the path has {len(hashes)} hashes where {count} are needed")
    if any(len(item) != HASH_BYTES for item in hashes):
        raise ProofError(f"a hash does not have {HASH_BYTES} bytes")


if __name__ == "__main__":
    sys.exit(main())
