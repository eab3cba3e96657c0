"""How much of a change is written, and the scores that decide it."""

from __future__ import annotations

import pytest
import torch

from editing import edit
from editing.bound import BoundConfig, share_to_write
from editing.finetune import FinetuneConfig
from editing.kept_blocks import keep_blocks
from editing.kept_rows import Kept, achieved_by
from editing.outcome import achieved
from editing.requests import EditRequest
from editing.training_rows import asked, drawn_neighbours, held_and_checked, target_rows
from editing.ultraedit import UltraEditConfig
from language_models import RequestError
from language_models.architecture import parts
from tests.editing.gradient_cases import OTHER, REQUEST, model

PROMPTS = tuple(f"Anna {number} was born in" for number in range(200))


def test_a_margin_more_than_the_least_share_is_written() -> None:
    share = share_to_write(BoundConfig(margin=1.2), lambda part: float(part >= 0.5), None)

    assert share == pytest.approx(0.6)


def test_the_whole_is_written_without_margin_and_when_all_of_it_is_needed() -> None:
    assert share_to_write(BoundConfig(margin=0.0), lambda _part: 1.0, None) == 1.0
    assert share_to_write(BoundConfig(), lambda part: part, None) == 1.0


def test_neighbours_bound_the_share_whatever_the_targets_need() -> None:
    def stayed(part: float) -> float:
        return 0.98 if part <= 0.5 else 0.97

    share = share_to_write(BoundConfig(neighbours_lost=0.02), lambda part: part, stayed)

    assert share == 0.5
    assert share_to_write(BoundConfig(neighbours_lost=1.0), lambda part: part, stayed) == 1.0


@pytest.mark.parametrize("settings", [{"margin": 0.9}, {"neighbours_lost": -0.1}])
def test_settings_of_the_bound_that_make_no_sense_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(RequestError):
        BoundConfig(**settings)


def test_neighbours_are_drawn_by_the_number_of_facts_and_never_fewer_than_64() -> None:
    requests = [EditRequest("Malee", "{} is", "x", (), PROMPTS)] * 10

    assert len(drawn_neighbours(requests[:1], 8, 0)) == 64
    assert len(drawn_neighbours(requests, 8, 0)) == 80
    assert drawn_neighbours(requests, 8, 0) != drawn_neighbours(requests, 8, 1)
    assert drawn_neighbours(requests, 0, 0) == list(PROMPTS)


def test_of_many_neighbours_some_are_only_looked_at_and_of_few_all_are_both() -> None:
    held, checked = held_and_checked(PROMPTS, 0)

    assert sorted([*held, *checked]) == sorted(PROMPTS)
    assert len(checked) == 25
    assert held_and_checked(PROMPTS[:63], 0) == (list(PROMPTS[:63]), list(PROMPTS[:63]))


def test_behind_the_last_block_only_the_positions_asked_are_kept() -> None:
    lm = model()
    rows = target_rows(lm, [REQUEST, OTHER])
    last = len(parts(lm.model).blocks)
    blocks, states, _ = keep_blocks(lm, [row.ids[:-1] for row in rows], last)
    wanted = asked(lm, rows)
    kept = Kept(blocks, wanted, states[wanted.rows, wanted.columns])

    narrow = kept.narrowed()

    assert narrow.blocks.states.shape[1] == max(len(row.ids) - row.start for row in rows)
    for some in (torch.arange(len(rows)), torch.tensor([2, 0])):
        one, other = kept.select(some), narrow.select(some)
        torch.testing.assert_close(
            one.blocks.logits(one.asked.rows, one.asked.columns),
            other.blocks.logits(other.asked.rows, other.asked.columns),
        )


@pytest.mark.parametrize("layer", [1, 2])
@pytest.mark.parametrize("method", ["finetune", "ultraedit"])
def test_what_the_kept_rows_tell_is_what_a_whole_pass_tells(method: str, layer: int) -> None:
    lm = model()
    marked = {"unreached": "mark", "neighbour_weight": 0.0}
    config = (
        FinetuneConfig(layer=layer, epochs=3, learning_rate=0.05, **marked)
        if method == "finetune"
        else UltraEditConfig(layers=(layer,), rounds=3, step=3e-2, **marked)
    )

    told = edit(lm, [REQUEST, OTHER], method, config).details["requests"]

    for row, found in zip(told, achieved(lm, [REQUEST, OTHER]), strict=True):
        assert row["target_first"] == found["target_first"]
        assert row["loss"] == pytest.approx(found["loss"], rel=1e-4)


def test_the_end_of_a_row_that_does_not_count_changes_no_score() -> None:
    lm = model()
    rows = target_rows(lm, [REQUEST])
    bare = target_rows(lm, [REQUEST], end_mark=False)
    found = []
    for some, skip in ((rows, 1), (bare, 0)):
        last = len(parts(lm.model).blocks)
        blocks, states, _ = keep_blocks(lm, [row.ids[:-1] for row in some], last)
        wanted = asked(lm, some)
        kept = Kept(blocks, wanted, states[wanted.rows, wanted.columns])
        found += achieved_by(
            [row.owner for row in some],
            [kept],
            lambda one: one.blocks.logits(one.asked.rows, one.asked.columns),
            1,
            skip=skip,
        )

    assert found[0]["loss"] == pytest.approx(found[1]["loss"], rel=1e-5)
    assert found[0]["target_first"] == found[1]["target_first"]
