"""Change a log in every small way and see that the auditor's check notices each change.

    python -m proofs.log_mutations [--out FILE.json]

Runs `reports.transparency_log.check_log`, which is what the `log` command runs. Exit status 0: all
mutations were detected; 1: at least one was not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from compliance import checkpoint
from reports.transparency_log import ProofError, VerifierKey, check_log, leaf_hash, tree_root

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ORIGIN = "lethe.example/log"
SIZES = (40, 64)
# Fixed, so that two runs try the same mutations.
SEED = hashlib.sha256(b"proofs.log_mutations").digest()
OTHER_SEED = hashlib.sha256(b"proofs.log_mutations: not the log").digest()
KEY = VerifierKey.parse(checkpoint.verifier_key(SEED, ORIGIN))


class Mutation(NamedTuple):
    """What an auditor is handed: the file of leaves and the notes of checkpoints."""

    kind: str
    data: bytes
    notes: list[bytes]


def realistic_leaves(count: int) -> list[bytes]:
    """Return count canonical leaves as the product writes them, the same ones in each run."""
    draw = random.Random(2026)  # noqa: S311 -- fictional case numbers
    return [_leaf(seq, f"u-{draw.randrange(1 << 16):04x}", draw) for seq in range(count)]


def mutations(leaves: Sequence[bytes]) -> Iterator[Mutation]:
    """Yield every mutation; each needs a log of as many leaves as the newest checkpoint has."""
    data, notes = _file(leaves), [_note(leaves[:size]) for size in SIZES]
    yield from (Mutation("bit of the leaves flipped", item, notes) for item in _flipped(data))
    yield from _rearranged(leaves, notes)
    for place, note in enumerate(notes):
        for changed in _flipped(note):
            given = [*notes[:place], changed, *notes[place + 1 :]]
            yield Mutation("bit of a checkpoint flipped", data, given)
    for size in range(len(leaves)):
        cut = leaves[:size]
        yield Mutation("log cut", _file(cut), notes)
        foreign = [_note(cut, OTHER_SEED)]
        yield Mutation("log cut, signed by another key", _file(cut), foreign)
        yield Mutation(
            "log cut, signed again, older checkpoint", _file(cut), [_note(cut), notes[-1]]
        )
    for changed_leaves, older in _rewritten(leaves):
        given = [_note(changed_leaves), notes[older]]
        kind = "log rewritten, signed again, older checkpoint"
        yield Mutation(kind, _file(changed_leaves), given)


def detected(mutation: Mutation) -> bool:
    """Whether the auditor's check refuses what it is handed."""
    try:
        check_log(mutation.data, mutation.notes, KEY)
    except ProofError:
        return True
    return False


def controls_hold(leaves: Sequence[bytes]) -> bool:
    """Whether what must hold does hold; otherwise a detection would mean nothing.

    A log signed again by the right key holds on its own: only the older checkpoint betrays it.
    """
    own = [Mutation("", _file(leaves), [_note(leaves[:size]) for size in SIZES])]
    own += [Mutation("", _file(leaves[:size]), [_note(leaves[:size])]) for size in range(SIZES[-1])]
    own += [Mutation("", _file(item), [_note(item)]) for item, _ in _rewritten(leaves)]
    return not any(map(detected, own))


def measure() -> dict[str, Any]:
    """Try every mutation; return {tried, detected, kinds, seconds}, kinds by what was done."""
    started = time.perf_counter()
    leaves = realistic_leaves(SIZES[-1])
    if not controls_hold(leaves):
        raise RuntimeError("a log that was not changed does not hold")
    tried, found, seen = Counter[str](), Counter[str](), set[bytes]()
    for mutation in mutations(leaves):
        mark = hashlib.sha256(b"\x00".join([mutation.data, *mutation.notes])).digest()
        if mark not in seen:
            seen.add(mark)
            tried[mutation.kind] += 1
            found[mutation.kind] += detected(mutation)
    return {
        "tried": tried.total(),
        "detected": found.total(),
        "kinds": {kind: {"tried": tried[kind], "detected": found[kind]} for kind in tried},
        "seconds": round(time.perf_counter() - started, 1),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table of the mutations; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m proofs.log_mutations")
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")
    options = parser.parse_args(arguments)
    result = measure()
    rows = [*result["kinds"].items(), ("all", result)]
    for kind, figures in rows:
        sys.stdout.write(
            f"{kind:<48}{figures['tried']:>9,} tried{figures['detected']:>9,} detected\n"
        )
    sys.stdout.write(f"{result['seconds']} seconds\n")
    if options.out is not None:
        options.out.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if result["detected"] == result["tried"] else 1


def _leaf(seq: int, actor: str, draw: random.Random) -> bytes:
    entry = {
        "action": draw.choice(["case.moved", "identity.confirmed", "document.made"]),
        "actor": f"officer {actor}",
        "at": f"2026-11-22T{seq // 60:02}:{seq % 60:02}:07.{draw.randrange(10**6):06}+00:00",
        "case": f"L2026-{draw.randrange(1 << 16):04X}-{draw.randrange(1 << 16):04X}",
        "facts": {"reason": "prüfung", "sha256": hashlib.sha256(str(seq).encode()).hexdigest()},
        "seq": seq,
    }
    return json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _file(leaves: Sequence[bytes]) -> bytes:
    return b"".join(leaf + b"\n" for leaf in leaves)


def _note(leaves: Sequence[bytes], seed: bytes = SEED) -> bytes:
    root = tree_root([leaf_hash(leaf) for leaf in leaves])
    return checkpoint.sign(seed, ORIGIN, len(leaves), root).encode()


def _flipped(data: bytes) -> Iterator[bytes]:
    for bit in range(len(data) * 8):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << (bit % 8)
        yield bytes(changed)


def _rearranged(leaves: Sequence[bytes], notes: list[bytes]) -> Iterator[Mutation]:
    for at in range(len(leaves)):
        before, after = leaves[:at], leaves[at + 1 :]
        yield Mutation("leaf deleted", _file([*before, *after]), notes)
        yield Mutation("leaf doubled", _file([*before, leaves[at], leaves[at], *after]), notes)
        if after:
            swapped = [*before, after[0], leaves[at], *after[1:]]
            yield Mutation("neighbours swapped", _file(swapped), notes)


def _rewritten(leaves: Sequence[bytes]) -> Iterator[tuple[list[bytes], int]]:
    """Yield logs with one other leaf, in good form, and the place of a checkpoint over it."""
    for at, leaf in enumerate(leaves):
        other = [*leaves[:at], leaf.replace(b"officer u-", b"officer v-"), *leaves[at + 1 :]]
        yield from ((other, place) for place, size in enumerate(SIZES) if at < size)


if __name__ == "__main__":
    sys.exit(main())
