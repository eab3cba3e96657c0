"""The prover against RFC 6962 §2.1 as the RFC writes it down, and against the verifier."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from compliance import merkle
from reports.transparency_log import (
    ProofError,
    leaf_hash,
    tree_root,
    verify_consistency,
    verify_inclusion,
)

LARGEST = 40
LEAVES = [f"leaf {number}".encode() for number in range(LARGEST)]


def split(size: int) -> int:
    """The largest power of two smaller than size."""
    power = 1
    while power * 2 < size:
        power *= 2
    return power


def naive_root(leaves: list[bytes]) -> bytes:
    """MTH(D[n])."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = split(len(leaves))
    return hashlib.sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def naive_path(index: int, leaves: list[bytes]) -> list[bytes]:
    """PATH(m, D[n])."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if index < k:
        return [*naive_path(index, leaves[:k]), naive_root(leaves[k:])]
    return [*naive_path(index - k, leaves[k:]), naive_root(leaves[:k])]


def naive_subproof(old: int, leaves: list[bytes], *, whole: bool) -> list[bytes]:
    """SUBPROOF(m, D[n], b)."""
    if old == len(leaves):
        return [] if whole else [naive_root(leaves)]
    k = split(len(leaves))
    if old <= k:
        return [*naive_subproof(old, leaves[:k], whole=whole), naive_root(leaves[k:])]
    return [*naive_subproof(old - k, leaves[k:], whole=False), naive_root(leaves[:k])]


def stored(size: int) -> dict[int, merkle.Row]:
    """The rows of a log that was appended to, leaf by leaf, from only the rows needed."""
    rows: dict[int, merkle.Row] = {}
    for seq in range(size):
        digest = leaf_hash(LEAVES[seq])
        nodes = {place: rows[place].node for place in merkle.appended_needs(seq)}
        rows[seq] = merkle.Row(digest, merkle.appended(seq, digest, nodes))
    return rows


ROWS = stored(LARGEST)


def inclusion_path(index: int, size: int) -> list[bytes]:
    """The path from exactly the rows that the prover asks for."""
    rows = {row: ROWS[row] for row in merkle.inclusion_needs(index, size)}
    return merkle.inclusion_path(index, size, rows)


def consistency_path(old: int, new: int) -> list[bytes]:
    """The path from exactly the rows that the prover asks for."""
    rows = {row: ROWS[row] for row in merkle.consistency_needs(old, new)}
    return merkle.consistency_path(old, new, rows)


@pytest.mark.parametrize("size", range(LARGEST + 1))
def test_root_is_that_of_the_rfc(size: int) -> None:
    expected = naive_root(LEAVES[:size])
    nodes = {place: ROWS[place].node for place in merkle.root_needs(size)}
    assert merkle.root(size, nodes) == expected
    assert tree_root([leaf_hash(leaf) for leaf in LEAVES[:size]]) == expected


def test_node_of_a_row_is_the_largest_complete_subtree_that_ends_there() -> None:
    for seq, row in ROWS.items():
        size = (seq + 1) & -(seq + 1)
        assert row.node == naive_root(LEAVES[seq + 1 - size : seq + 1])
        assert (row.node == row.digest) == (size == 1)


@pytest.mark.parametrize("size", range(1, LARGEST + 1))
def test_every_inclusion_path_is_that_of_the_rfc_and_holds(size: int) -> None:
    root = naive_root(LEAVES[:size])
    for index in range(size):
        path = inclusion_path(index, size)
        assert path == naive_path(index, LEAVES[:size])
        verify_inclusion(root, size, index, leaf_hash(LEAVES[index]), path)


@pytest.mark.parametrize("new", range(1, LARGEST + 1))
def test_every_consistency_path_is_that_of_the_rfc_and_holds(new: int) -> None:
    root = naive_root(LEAVES[:new])
    for old in range(1, new + 1):
        path = consistency_path(old, new)
        assert path == naive_subproof(old, LEAVES[:new], whole=True)
        verify_consistency(naive_root(LEAVES[:old]), old, root, new, path)


@pytest.mark.parametrize("new", [0, 1, 7])
def test_every_log_continues_the_empty_one(new: int) -> None:
    assert consistency_path(0, new) == []
    verify_consistency(naive_root([]), 0, naive_root(LEAVES[:new]), new, [])


@pytest.mark.parametrize("size", range(2, 18))
def test_inclusion_of_a_changed_path_is_refused(size: int) -> None:
    root = naive_root(LEAVES[:size])
    for index in range(size):
        digest, path = leaf_hash(LEAVES[index]), inclusion_path(index, size)
        wrong = [[*path[:at], bytes(32), *path[at + 1 :]] for at in range(len(path))]
        missing = [[*path[:at], *path[at + 1 :]] for at in range(len(path))]
        extra = [[*path[:at], bytes(32), *path[at:]] for at in range(len(path) + 1)]
        for changed in wrong:
            with pytest.raises(ProofError, match="is not in the log"):
                verify_inclusion(root, size, index, digest, changed)
        for changed in (*missing, *extra):
            with pytest.raises(ProofError, match=f"{len(changed)} hashes where {len(path)} are"):
                verify_inclusion(root, size, index, digest, changed)


@pytest.mark.parametrize("size", range(2, 18))
def test_inclusion_at_another_place_or_of_another_leaf_is_refused(size: int) -> None:
    root = naive_root(LEAVES[:size])
    for index in range(size):
        path = inclusion_path(index, size)
        for other in {*range(-1, size + 1)} - {index}:
            with pytest.raises(ProofError):
                verify_inclusion(root, size, other, leaf_hash(LEAVES[index]), path)
        with pytest.raises(ProofError, match=f"^there is no leaf {size} in a log of {size}"):
            verify_inclusion(root, size, size, leaf_hash(LEAVES[index]), path)
        with pytest.raises(ProofError, match=f"^leaf {index} is not in the log"):
            verify_inclusion(root, size, index, leaf_hash(b"other"), path)


@pytest.mark.parametrize("new", range(2, 18))
def test_consistency_by_a_changed_path_or_root_is_refused(new: int) -> None:
    root = naive_root(LEAVES[:new])
    for old in range(new):
        before, path = naive_root(LEAVES[:old]), consistency_path(old, new)
        wrong = [[*path[:at], bytes(32), *path[at + 1 :]] for at in range(len(path))]
        missing = [[*path[:at], *path[at + 1 :]] for at in range(len(path))]
        extra = [[*path[:at], bytes(32), *path[at:]] for at in range(len(path) + 1)]
        for changed in wrong:
            with pytest.raises(ProofError, match="does not continue"):
                verify_consistency(before, old, root, new, changed)
        for changed in (*missing, *extra):
            with pytest.raises(ProofError, match=f"{len(changed)} hashes where {len(path)} are"):
                verify_consistency(before, old, root, new, changed)
        with pytest.raises(ProofError):
            verify_consistency(bytes(32), old, root, new, path)
        if old:
            with pytest.raises(ProofError):
                verify_consistency(before, old, bytes(32), new, path)


def test_equal_sizes_need_equal_roots_and_an_empty_path() -> None:
    root = naive_root(LEAVES[:5])
    verify_consistency(root, 5, root, 5, [])
    with pytest.raises(ProofError, match="0 are needed"):
        verify_consistency(root, 5, root, 5, [root])
    with pytest.raises(ProofError, match="does not continue"):
        verify_consistency(root, 5, bytes(32), 5, [])
    with pytest.raises(ProofError, match="does not continue"):
        verify_consistency(bytes(32), 0, bytes(32), 0, [])
    with pytest.raises(ProofError, match="cannot continue one of 6"):
        verify_consistency(root, 6, root, 5, [])


def test_a_hash_of_another_length_is_refused() -> None:
    path = inclusion_path(2, 5)
    for changed in (path[0][:-1], path[0] + b"\x00", b""):
        with pytest.raises(ProofError, match="does not have 32 bytes"):
            verify_inclusion(
                naive_root(LEAVES[:5]), 5, 2, leaf_hash(LEAVES[2]), [changed, *path[1:]]
            )


@pytest.mark.parametrize(("index", "size"), [(0, 0), (-1, 3), (3, 3), (9, 3)])
def test_path_of_no_such_leaf_is_an_error(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="no such leaf"):
        merkle.inclusion_needs(index, size)
    with pytest.raises(ValueError, match="no such leaf"):
        merkle.inclusion_path(index, size, ROWS)


@pytest.mark.parametrize(("old", "new"), [(-1, 3), (4, 3), (-2, -1)])
def test_path_between_no_such_trees_is_an_error(old: int, new: int) -> None:
    with pytest.raises(ValueError, match="not larger"):
        merkle.consistency_needs(old, new)
    with pytest.raises(ValueError, match="not larger"):
        merkle.consistency_path(old, new, ROWS)


def test_sizes_below_zero_are_an_error() -> None:
    with pytest.raises(ValueError, match="fewer than 0"):
        merkle.root(-1, {})
    with pytest.raises(ValueError, match="not below 0"):
        merkle.appended(-1, bytes(32), {})


def test_few_rows_are_read_of_a_large_log() -> None:
    size, index = 1_000_003, 654_321
    assert len(merkle.appended_needs(2**20 - 1)) == 20
    assert len(merkle.root_needs(size)) == size.bit_count()
    # One row per step at best, one more row per level where a subtree must be folded.
    assert len(merkle.inclusion_needs(index, size)) <= 20 * 21 // 2 + 20
    assert len(merkle.consistency_needs(index, size)) <= 20 * 21 // 2 + 20


def test_prover_and_signer_live_without_django() -> None:
    code = "import sys, compliance.merkle, compliance.checkpoint; print('django' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "False\n")
