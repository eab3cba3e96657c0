"""Roots and paths of the log's tree (RFC 6962 §2.1) from few stored rows; no Django here.

The log stores for leaf number `seq` its `digest` (leaf hash) and `node`: the hash of the largest
complete subtree that ends at this leaf. The level of that subtree is the number of trailing zero
bits of seq + 1. Each question has a twin ending in _needs that names the rows it will read, so
that a caller fetches them in one query.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from reports.transparency_log import EMPTY_ROOT, node_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Row(NamedTuple):
    """What the log stores for one leaf: two hashes of 32 bytes."""

    digest: bytes
    node: bytes


class _Subtree(NamedTuple):
    """A complete subtree of 2^level leaves; end is the number of its last leaf."""

    level: int
    end: int


class _Span(NamedTuple):
    """The leaves start to stop - 1, as RFC 6962 writes D[start:stop]."""

    start: int
    stop: int


def appended_needs(seq: int) -> list[int]:
    """Return the rows whose node is needed to append leaf seq. Raises ValueError below 0."""
    if seq < 0:
        raise ValueError("a leaf number is not below 0")
    return [seq - (1 << level) for level in range(_level(seq))]


def appended(seq: int, digest: bytes, nodes: Mapping[int, bytes]) -> bytes:
    """Return the node of the new row seq. Raises ValueError below 0."""
    node = digest
    for place in appended_needs(seq):
        node = node_hash(nodes[place], node)
    return node


def root_needs(size: int) -> list[int]:
    """Return the rows whose node is needed for the root. Raises ValueError below 0."""
    if size < 0:
        raise ValueError("a log has no fewer than 0 leaves")
    return [subtree.end for subtree in _subtrees(_Span(0, size))]


def root(size: int, nodes: Mapping[int, bytes]) -> bytes:
    """Return the root over the first size leaves. Raises ValueError below 0."""
    peaks = [nodes[end] for end in root_needs(size)]
    return _folded(peaks) if peaks else EMPTY_ROOT


def inclusion_needs(index: int, size: int) -> set[int]:
    """Return the rows that inclusion_path will read. Raises ValueError for no such leaf."""
    return _rows_of(_inclusion_spans(index, size))


def inclusion_path(index: int, size: int, rows: Mapping[int, Row]) -> list[bytes]:
    """Return the path of leaf index among size leaves, from the leaf up (RFC 6962 §2.1.1).

    Raises ValueError when there is no such leaf.
    """
    return [_span_hash(span, rows) for span in _inclusion_spans(index, size)]


def consistency_needs(old: int, new: int) -> set[int]:
    """Return the rows that consistency_path will read. Raises ValueError unless 0 ≤ old ≤ new."""
    return _rows_of(_consistency_spans(old, new))


def consistency_path(old: int, new: int, rows: Mapping[int, Row]) -> list[bytes]:
    """Return the path between the trees of old and new leaves (RFC 6962 §2.1.2).

    Empty from an empty tree and between equal sizes. Raises ValueError unless 0 ≤ old ≤ new.
    """
    return [_span_hash(span, rows) for span in _consistency_spans(old, new)]


def _inclusion_spans(index: int, size: int) -> list[_Span]:
    """Return the leaves under each hash of the path, from the leaf up."""
    if not 0 <= index < size:
        raise ValueError("the log has no such leaf")
    spans = []
    start, stop = 0, size
    while stop - start > 1:
        middle = start + _split(stop - start)
        if index < middle:
            spans.append(_Span(middle, stop))
            stop = middle
        else:
            spans.append(_Span(start, middle))
            start = middle
    return spans[::-1]


def _consistency_spans(old: int, new: int) -> list[_Span]:
    """Return the leaves under each hash of the path, in the order of the path."""
    if not 0 <= old <= new:
        raise ValueError("the older tree is not larger than the newer")
    spans = []
    start, stop = 0, new if old else 0
    while stop > old:
        middle = start + _split(stop - start)
        if old <= middle:
            spans.append(_Span(middle, stop))
            stop = middle
        else:
            spans.append(_Span(start, middle))
            start = middle
    # From leaf 0 on it is the older tree itself, whose root the verifier has.
    if start:
        spans.append(_Span(start, stop))
    return spans[::-1]


def _rows_of(spans: Iterable[_Span]) -> set[int]:
    return {
        row
        for span in spans
        for subtree in _subtrees(span)
        for row in (subtree.end, *_folded_rows(subtree))
    }


def _span_hash(span: _Span, rows: Mapping[int, Row]) -> bytes:
    return _folded([_subtree_hash(subtree, rows) for subtree in _subtrees(span)])


def _subtrees(span: _Span) -> list[_Subtree]:
    """Split a span that starts on a multiple of its size, rounded up to a power of two."""
    start, size = span.start, span.stop - span.start
    found = []
    for level in reversed(range(size.bit_length())):
        if size >> level & 1:
            start += 1 << level
            found.append(_Subtree(level, start - 1))
    return found


def _subtree_hash(subtree: _Subtree, rows: Mapping[int, Row]) -> bytes:
    last = rows[subtree.end]
    if subtree.level == _level(subtree.end):
        return last.node
    found = last.digest
    for row in _folded_rows(subtree):
        found = node_hash(rows[row].node, found)
    return found


def _folded_rows(subtree: _Subtree) -> list[int]:
    """Return the rows to fold onto the last digest; none when the last row has the hash itself."""
    if subtree.level == _level(subtree.end):
        return []
    return [subtree.end - (1 << level) for level in range(subtree.level)]


def _folded(hashes: list[bytes]) -> bytes:
    """Join complete subtrees, the smallest (last) first."""
    found = hashes[-1]
    for left in reversed(hashes[:-1]):
        found = node_hash(left, found)
    return found


def _level(seq: int) -> int:
    """Return the number of trailing zero bits of seq + 1."""
    return ((seq + 1) & -(seq + 1)).bit_length() - 1


def _split(size: int) -> int:
    """Return the largest power of two smaller than size, which is at least 2."""
    return 1 << ((size - 1).bit_length() - 1)
