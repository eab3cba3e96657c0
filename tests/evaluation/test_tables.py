from __future__ import annotations

import json

from evaluation import AttackResult
from evaluation.planning import plan
from evaluation.results import group_results, summarise
from evaluation.tables import attack_rows, leak_rows, neighbour_rows, tables
from tests.evaluation.test_planning import design

PLAN = plan(design(keep=[], other_people=9, twins=2))
LEAKS = [one for one in PLAN.probes if one.group == "leak"]
ASKED = [one for one in PLAN.probes if one.group in ("leak", "indirect")]
BEFORE = summarise(PLAN, [one.id for one in PLAN.probes if "control" not in one.group])
AFTER = summarise(PLAN, [one.id for one in PLAN.probes if one.group == "others"][::2])


def test_leaks_stand_by_form_by_language_in_all_and_beside_chance() -> None:
    rows = leak_rows(BEFORE, AFTER)

    by_key = {row.key: row for row in rows}
    assert [row.key for row in rows][-4:] == ["all", "control", "indirect", "indirect_control"]
    for kind in ("form:", "language:"):
        assert sum(row.probes for row in rows if row.key.startswith(kind)) == len(ASKED)
    assert {"form:own", "form:reversed", "language:ja"} <= by_key.keys()
    assert (by_key["form:own"].label, by_key["language:ja"].label) == (
        "The model's own wordings", "Japanese",
    )  # fmt: skip
    assert (by_key["all"].before, by_key["all"].after) == (1.0, 0.0)
    assert (by_key["control"].before, by_key["control"].after) == (0.0, 0.0)
    assert by_key["all"].probes == len(LEAKS)
    assert by_key["indirect"].probes == len(ASKED) - len(LEAKS)
    for row in rows:
        assert row.before_low <= row.before <= row.before_high <= 1
        assert 0 <= row.after_low <= row.after <= row.after_high


def test_neighbours_stand_by_what_they_share() -> None:
    rows = neighbour_rows(BEFORE, AFTER)

    assert [row.key for row in rows] == ["same_relation"]
    assert (rows[0].before, rows[0].probes) == (1.0, 36)
    assert rows[0].after == 0.5


def test_attacks_stand_beside_what_they_brought_before_and_by_chance() -> None:
    quiet = group_results(PLAN.probes, set())
    loud = group_results(PLAN.probes, {LEAKS[0].id})
    lens = AttackResult("logit_lens", {}, {}, {"layer": 1})
    none = AttackResult("prefix", {}, {}, {"left_out": "no text"})
    before = summarise(PLAN, (), attacks=(AttackResult("quantisation", {"bits": 4}, loud), none))
    after = summarise(
        PLAN, (),
        attacks=(AttackResult("quantisation", {"bits": 4}, quiet), lens,
                 AttackResult("prefix", {}, loud)),
    )  # fmt: skip

    rows = attack_rows(before, after)

    assert [row.key for row in rows] == ["quantisation, 4 bits", "prefix"]
    assert rows[0].before == 1 / len(LEAKS)
    assert (rows[0].after, rows[0].chance, rows[0].others) == (0, 0, 0)
    assert rows[0].after_high == quiet["leak"].upper_by_prompt
    assert rows[1].before is None
    # An attack that was run after the change alone has no figure from before.
    assert [row.before for row in attack_rows(summarise(PLAN, ()), after)] == [None, None]


def test_without_measurements_there_are_no_rows() -> None:
    nothing = summarise(plan(design(keep=[], leak=[], new_values={"birth_city": "Far"})), ())

    found = tables(nothing, nothing)

    assert found["leak"] == found["attacks"] == []
    assert json.loads(json.dumps(tables(BEFORE, AFTER)))["leak"]
