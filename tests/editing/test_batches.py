from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from editing import METHODS, EditRequest, edit
from editing.batches import BatchedResult, Limits, edit_in_batches
from editing.facts import Check, Fact, FactTest, facts_of
from editing.scores import Examination, Scores, Share
from language_models import NotReached, RequestError
from language_models.checkpoint import state_digest
from language_models.delta import WeightDelta
from tests.editing.fact_rows import NAMES, TARGETS, row, tiny_rome
from tests.language_models.factories import tiny_model

if TYPE_CHECKING:
    from pathlib import Path

    from language_models import LanguageModel


def _edit(lm: LanguageModel, facts: Any, *, batch_size: int, **changes: Any) -> BatchedResult:
    config = changes.pop("config", tiny_rome())
    return edit_in_batches(
        lm, facts, "rome", config, batch_size=batch_size, max_new_tokens=1, **changes
    )


def _facts(count: int = 4) -> list[Fact]:
    return list(facts_of([row(number) for number in range(count)]))


def test_batches_apply_all_facts_and_revert_as_one_change(tmp_path: Path) -> None:
    lm = tiny_model()
    before = state_digest(lm.model)

    result = _edit(lm, _facts(), batch_size=2)

    after = state_digest(lm.model)
    assert result.applied == (0, 1, 2, 3)
    assert result.after.reliability == Share(4, 4)
    assert result.before.reliability == Share(0, 4)
    result.delta.save(tmp_path / "delta.safetensors")
    assert WeightDelta.load(tmp_path / "delta.safetensors").revert(lm) == before
    assert result.delta.apply(lm) == after


def test_batches_hand_the_memory_on() -> None:
    lm = tiny_model()

    result = _edit(lm, _facts(), batch_size=2)

    assert result.memory is not None
    assert result.memory.count == 4
    later = _edit(lm, [Fact(EditRequest("Sato", "{} works as", "was"))], batch_size=1,
                  memory=result.memory)  # fmt: skip
    assert later.memory is not None
    assert later.memory.count == 5


def test_each_batch_scores_all_batches_before_it() -> None:
    result = _edit(tiny_model(), _facts(), batch_size=2, limits=Limits(reliability=None))

    assert [len(scores) for scores in result.interference()] == [1, 2]
    last = result.rounds[-1]
    assert [scores.reliability.total for scores in last.by_batch] == [2, 2]
    assert sum(last.by_batch, Scores()).reliability == last.scores.reliability
    assert result.after == last.scores


@pytest.mark.parametrize("poisonous", [1, 5, 7])
def test_poisonous_fact_is_left_out_alone_in_logarithmic_tries(poisonous: int) -> None:
    lm = tiny_model()
    before = state_digest(lm.model)
    rows = [row(number) for number in range(8)]
    # It asks what fact 0 asks and wants another answer, so that one of them cannot hold.
    rows[poisonous] = row(0, target="A" if TARGETS[0] != "A" else "T")

    result = _edit(lm, facts_of(rows), batch_size=8)

    assert list(result.left_out) == [poisonous]
    assert "reliability is 0." in result.left_out[poisonous]
    assert result.applied == tuple(number for number in range(8) if number != poisonous)
    assert result.after.reliability == Share(7, 7)
    assert result.tries <= 2 * math.log2(8) + 1
    assert result.delta.revert(lm) == before


def test_result_tells_reasons_by_number_and_no_text() -> None:
    rows = [row(number) for number in range(4)]
    rows[2] = row(0, target="A")

    told = json.dumps(_edit(tiny_model(), facts_of(rows), batch_size=4).as_dict())

    assert json.loads(told)["left_out"].keys() == {"2"}
    assert not [text for text in (*NAMES, "born in") if text in told]


def test_fact_that_is_not_reached_is_left_out_and_the_rest_applied() -> None:
    lm = tiny_model()
    facts = _facts()
    # Many tokens that a random model cannot be brought to say by one value.
    facts[1] = Fact(replace(facts[1].request, target="Silver Tide Shipping of Kyoto"))

    result = _edit(lm, facts, batch_size=4)

    assert result.applied == (0, 2, 3)
    assert "not reached" in result.left_out[1]


def test_no_fact_applied_leaves_the_weights_and_an_empty_change() -> None:
    lm = tiny_model()
    before = state_digest(lm.model)
    facts = [Fact(EditRequest(NAMES[0], "{} was born in", "Silver Tide Shipping of Kyoto"))]

    result = _edit(lm, facts, batch_size=1)

    assert result.applied == ()
    assert result.delta.entries == {}
    assert result.after == result.before
    assert state_digest(lm.model) == before


@pytest.mark.parametrize("kind", ["others", "same_person", "general"])
def test_fact_that_changes_what_must_stay_is_left_out(kind: str) -> None:
    lm = tiny_model()
    facts = _facts()
    # Nearly the edited prompt: its answer changes along with the edit of fact 2.
    near = Check(f"So {NAMES[2]} was born in")
    harmed = Examination(lm, [Fact(facts[2].request, replace(FactTest(), **{kind: (near,)}))],
                         max_new_tokens=1)  # fmt: skip
    facts[2] = harmed.facts[0]

    result = _edit(lm, facts, batch_size=4)

    name = {"others": "locality"}.get(kind, kind)
    assert list(result.left_out) == [2]
    assert result.left_out[2].startswith(f"{name} fell by 1.00")
    assert getattr(result.after, name) == Share(0, 0)


def test_limits_compare_with_the_unedited_model() -> None:
    limits = Limits(generalization=0.5)
    before = Scores(locality=Share(8, 10), general=Share(10, 10))
    fine = Scores(
        reliability=Share(9, 10),
        generalization=Share(1, 2),
        locality=Share(8, 10),
        general=Share(98, 100),
    )

    assert limits.broken(before, fine) is None
    assert limits.broken(before, replace(fine, reliability=Share(8, 10))) == (
        "reliability is 0.80, below 0.90"
    )
    assert "generalization" in str(limits.broken(before, replace(fine, generalization=Share(1, 3))))
    assert "locality fell by 0.10" in str(
        limits.broken(before, replace(fine, locality=Share(7, 10)))
    )
    assert "general fell by 0.04" in str(
        limits.broken(before, replace(fine, general=Share(96, 100)))
    )
    assert Limits(general=None, reliability=None, locality=None).broken(before, Scores()) is None


def test_error_in_a_later_batch_takes_all_batches_back() -> None:
    lm = tiny_model()
    before = state_digest(lm.model)
    asked = []

    def stop(stage: str, done: int, total: int) -> None:
        asked.append((done, total))
        if stage == "batches" and done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _edit(lm, _facts(), batch_size=2, progress=stop)

    assert state_digest(lm.model) == before


def test_batches_of_a_codebook_are_taken_off_as_one() -> None:
    lm = tiny_model()
    before, bare = state_digest(lm.model), Examination(lm, _facts(), max_new_tokens=1)
    rows = [row(number) for number in range(4)]
    rows[2] = row(0, target="A")
    config = METHODS["grace"].config(layer=1, learning_rate=1.0)

    result = edit_in_batches(lm, facts_of(rows), "grace", config, batch_size=2, max_new_tokens=1)

    assert result.applied == (0, 1, 3)
    assert result.after.reliability == Share(3, 3)
    assert result.revert(lm) == before
    assert bare.scores(lm) == bare.before()


def test_wrong_batches_and_limits_are_refused() -> None:
    lm = tiny_model()
    with pytest.raises(RequestError, match="batch size"):
        _edit(lm, _facts(), batch_size=0)
    with pytest.raises(RequestError, match="at least one fact"):
        _edit(lm, [], batch_size=1)
    with pytest.raises(RequestError, match="between 0 and 1"):
        Limits(locality=2.0)


def test_unreached_alone_is_the_reason_that_edit_gives() -> None:
    request = EditRequest(NAMES[0], "{} was born in", "Silver Tide Shipping of Kyoto")
    with pytest.raises(NotReached) as told:
        edit(tiny_model(), [request], "rome", tiny_rome())

    assert _edit(tiny_model(), [request], batch_size=1).left_out == {0: str(told.value)}
