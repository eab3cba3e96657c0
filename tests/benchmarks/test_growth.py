from __future__ import annotations

import pytest

from benchmarks.growth import ends, passes


def test_passes_are_rounds_or_the_mean_steps_of_the_values() -> None:
    requests = [{"steps": 10}, {"steps": 40}]

    assert passes({"losses": [[2.0, 0.5, 0.1], [1.0]], "requests": requests}) == 2
    assert passes({"requests": requests}) == 25


@pytest.mark.parametrize(("count", "found"), [(30, (4.5, 24.5)), (4, (0.5, 2.5)), (1, (0.0, 0.0))])
def test_ends_are_ten_batches_or_half_of_them(count: int, found: tuple[float, float]) -> None:
    assert ends(list(range(count))) == found
