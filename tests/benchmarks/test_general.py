"""General facts after 50 edits in sequence: within 3 points for every method that locates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.editing import LOCATED
from benchmarks.general import after_a_sequence, answered
from benchmarks.second_moments import write_statistics
from benchmarks.summary import MODEL
from language_models import load

if TYPE_CHECKING:
    from pathlib import Path

SITE = {"role": "last", "layer": 4}  # what tracing chooses (benchmarks.editing.traced_site)


@pytest.mark.slow
@pytest.mark.xdist_group("heavy")
def test_general_facts_stay_within_three_points_after_fifty_edits_in_sequence(
    tmp_path: Path,
) -> None:
    statistics = write_statistics(tmp_path / "statistics.safetensors")
    before = answered(load(MODEL))

    # Settings were chosen on the facts of seed 0.
    after = {name: after_a_sequence(name, 1, SITE, statistics) for name in LOCATED}

    assert before == 1.0
    assert {name: share for name, share in after.items() if share < before - 0.03} == {}
