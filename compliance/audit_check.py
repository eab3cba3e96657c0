"""Verify the whole log of record: every leaf, every node, every checkpoint that was signed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from django.db import connection

from reports.transparency_log import Checkpoint, leaf_hash, node_hash, tree_root

from . import append_only, audit
from .models import AuditEvent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Clocks of several machines differ by this much without anybody having set one back.
CLOCK_TOLERANCE_SECONDS = 5


@dataclass
class Verification:
    """What was found. `problem` names the first thing that does not fit; None when all does.

    `clock_back`: how often an event is dated before the one it follows, as after a clock was set
    back. The order of the log does not rest on clocks.
    """

    size: int = 0
    root: str = ""
    checkpoints: int = 0
    clock_back: int = 0
    problem: str | None = None


class _Misfit(Exception):
    """An event does not fit."""


def verify(held: Sequence[Checkpoint] = ()) -> Verification:
    """Recompute everything, and hold it against every checkpoint kept here and against `held`."""
    result = Verification()
    try:
        checkpoints = [*audit.seen(), *held]
        wanted = {checkpoint.size for checkpoint in checkpoints}
        tree = _Tree()
        roots = {0: tree.root()}
        for _ in _walk(tree, result):
            if tree.size in wanted:
                roots[tree.size] = tree.root()
        result.size, result.root = tree.size, tree.root().hex()
        _hold_against(checkpoints, roots, tree.size)
        if not append_only.in_place(connection):
            raise _Misfit("The triggers that refuse changes to the log are not in place.")
    except (_Misfit, audit.LogBroken) as misfit:
        result.problem = str(misfit)
    else:
        result.checkpoints = len(checkpoints)
    return result


class _Tree:
    """A Merkle tree that grows at its right edge; `edge`: its complete subtrees, largest first."""

    def __init__(self) -> None:
        self.size = 0
        self.edge: list[tuple[int, bytes]] = []

    def append(self, digest: bytes) -> bytes:
        """Add a leaf hash; returns the largest complete subtree that ends with it."""
        level, node = 0, digest
        while self.edge and self.edge[-1][0] == level:
            node = node_hash(self.edge.pop()[1], node)
            level += 1
        self.edge.append((level, node))
        self.size += 1
        return node

    def root(self) -> bytes:
        """The root over all leaves so far (RFC 6962 §2.1)."""
        if not self.edge:
            return tree_root([])
        node = self.edge[-1][1]
        for _, left in reversed(self.edge[:-1]):
            node = node_hash(left, node)
        return node


def _walk(tree: _Tree, result: Verification) -> Iterator[None]:
    columns = ("seq", "leaf", "digest", "node", "action", "at", "case__reference")
    last = None
    for row in AuditEvent.objects.order_by("seq").values_list(*columns).iterator(chunk_size=5000):
        seq, leaf, digest, node, *told = row
        at = _fitting(tree.size, seq, leaf, told)
        computed = leaf_hash(leaf.encode())
        if computed.hex() != digest or tree.append(computed).hex() != node:
            raise _Misfit(f"Event {seq} is not as it was written, or one before it is missing.")
        if last is not None and (last - at).total_seconds() > CLOCK_TOLERANCE_SECONDS:
            result.clock_back += 1
        last = at
        yield


def _fitting(expected: int, seq: int, leaf: str, told: Sequence[object]) -> datetime:
    """When the event was; the columns that pages read must say what the leaf says."""
    if seq != expected:
        raise _Misfit(f"Event {expected} is missing.")
    try:
        value = json.loads(leaf)
        at = datetime.fromisoformat(value["at"])
        same = [value["action"], at, value["case"]] == list(told) and value["seq"] == seq
    except (ValueError, KeyError, TypeError):
        same = False
    if not same:
        raise _Misfit(f"Event {seq} is not as it was written: its leaf and its row differ.")
    return at


def _hold_against(checkpoints: Sequence[Checkpoint], roots: dict[int, bytes], size: int) -> None:
    for checkpoint in checkpoints:
        if checkpoint.size > size:
            raise _Misfit(
                f"The log holds {size} events, but one of {checkpoint.size} was signed: the "
                "last ones are missing, as after an old backup was restored."
            )
        if roots[checkpoint.size] != checkpoint.root:
            raise _Misfit(
                f"The first {checkpoint.size} events are not those that were signed: the log was "
                "written anew."
            )
