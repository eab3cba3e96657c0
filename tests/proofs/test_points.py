"""Which points the proofs choose, and how they are summed up."""

from __future__ import annotations

from typing import Any

from proofs import crash, watch, zombies


def point(number: int, act: str, *, inside: bool = False) -> dict[str, Any]:
    return {"point": str(number), "act": act, "open": inside}


POINTS = [
    point(1, "UPDATE compliance_job SET", inside=True),
    point(2, "COMMIT", inside=True),
    point(3, "start of the child"),
    {"point": "child:started", "act": "started", "open": False},
    point(4, "result of the child received"),
    *(point(5 + place, act, inside=True) for place, act in enumerate(zombies.INSIDE)),
    point(20, "ring"),
]


def test_a_worker_is_stopped_only_while_it_holds_the_job() -> None:
    assert [found["point"] for found in zombies.outside(POINTS)] == ["3", "4"]


def test_inside_lie_the_acts_of_the_transaction_that_records() -> None:
    assert [found["act"] for found in zombies.inside(POINTS)] == list(zombies.INSIDE)


def test_a_late_recovery_is_wrong_even_when_all_is_intact() -> None:
    late = watch.PROMISE_SECONDS + 1
    tried = [POINTS[0] | {"intact": True, "recovery": late, "duplicates": 0}]
    assert crash._summary("sqlite-filesystem", "find", 1, tried)["wrong"] == tried


def test_a_child_that_was_killed_has_no_lease_to_wait_for() -> None:
    tried = [POINTS[3] | {"intact": True, "recovery": 60.0, "duplicates": 0}]
    summed = crash._summary("sqlite-filesystem", "find", 1, tried)
    assert (summed["wrong"], summed["recovery_longest"], summed["of_child"]) == ([], None, 1)
