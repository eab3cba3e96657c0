from __future__ import annotations

from typing import Any

from benchmarks.facts import KINDS
from benchmarks.tables import answers_table, quality_table, speed_table

RUN: dict[str, Any] = {
    "edits": 500,
    "total_seconds": 50.0,
    "peak_rss_mb": 432.1,
    "quality": dict.fromkeys(KINDS, 0.5),
}


def _found() -> dict[str, Any]:
    part = {"mode": "sequence", "facts": 500, "batch_size": 50, "ours": RUN}
    slow = {**RUN, "method": "ftm", "total_seconds": 150.0}
    return {
        "ultraedit": {"parts": [{**part, "peer": slow, "ratio": 3.0}, part]},
        "site": {"layer": 4},
    }


def test_every_row_has_a_cell_for_each_column() -> None:
    tables = [
        speed_table(_found()),
        answers_table(_found()),
        quality_table("batch", {"ours rome": RUN, "peer rome": {"failed": "out of memory"}})[2:-1],
    ]

    for table in tables:
        assert len(table) == 4
        assert len({line.count("|") for line in table}) == 1


def test_ratio_and_seconds_stand_beside_what_was_run() -> None:
    with_peer, alone = speed_table(_found())[2:]

    assert (
        "ultraedit beside ftm | 500, sequence of batches of 50 | 0.1 | 0.3 | **3.0**" in with_peer
    )
    assert "| 0.1 | - | - |" in alone
