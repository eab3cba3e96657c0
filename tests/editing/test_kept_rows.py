"""Rows kept where a change begins, and their scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch.nn import functional as F

from editing import edit
from editing.finetune import FinetuneConfig
from editing.kept_blocks import keep_blocks
from editing.kept_rows import (
    Kept,
    achieved_by,
    reached_share,
    row_losses,
    row_scores,
    stayed_share,
)
from editing.outcome import achieved
from editing.training_rows import asked, end_mark, target_rows
from editing.ultraedit import UltraEditConfig
from language_models.architecture import parts
from language_models.moments import hooked
from tests.editing.gradient_cases import OTHER, REQUEST, endless, model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from editing.training_rows import Row
    from language_models import LanguageModel


def kept_at_the_end(lm: LanguageModel, rows: Sequence[Row]) -> Kept:
    """The rows as they leave the last block."""
    ids = [row.ids[:-1] for row in rows]
    blocks, states, _ = keep_blocks(lm, ids, len(parts(lm.model).blocks))
    wanted = asked(lm, rows)
    return Kept(blocks, wanted, states[wanted.rows, wanted.columns])


def logits_for(tokens: Tensor, height: float = 2.0) -> Tensor:
    """Logits of a vocabulary of 320 in which these tokens come first."""
    return height * F.one_hot(tokens, 320).float()


def test_behind_the_last_block_only_the_positions_asked_are_kept() -> None:
    lm = model()
    rows = target_rows(lm, [REQUEST, OTHER])
    kept = kept_at_the_end(lm, rows)

    narrow = kept.narrowed()

    assert narrow.blocks.states.shape[1] == max(len(row.ids) - row.start for row in rows)
    for some in (torch.arange(len(rows)), torch.tensor([2, 0])):
        one, other = kept.select(some), narrow.select(some)
        torch.testing.assert_close(
            one.blocks.logits(one.asked.rows, one.asked.columns),
            other.blocks.logits(other.asked.rows, other.asked.columns),
        )


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_a_change_behind_the_mlp_moves_what_leaves_its_block(family: str) -> None:
    lm = model(family)
    layer, ids = 1, [row.ids[:-1] for row in target_rows(lm, [OTHER])]
    mlp = parts(lm.model).mlp_out(layer).module
    blocks, _, watched = keep_blocks(lm, ids, layer + 1, [mlp])
    kept = Kept(blocks, asked(lm, target_rows(lm, [OTHER])), blocks.states, watched[0])
    change = torch.randn(watched[0][1].shape, generator=torch.Generator().manual_seed(0))

    with hooked(lambda: mlp.register_forward_hook(lambda _module, _args, out: out + change)):
        wanted = keep_blocks(lm, ids, layer + 1)[0].states

    torch.testing.assert_close(kept.moved(change), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("made", [model, endless])
@pytest.mark.parametrize("layer", [1, 2])
@pytest.mark.parametrize("method", ["finetune", "ultraedit"])
def test_what_the_kept_rows_tell_is_what_a_whole_pass_tells(
    method: str, layer: int, made: Callable[[], LanguageModel]
) -> None:
    lm = made()
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
    rows = target_rows(lm, [REQUEST], end=end_mark(lm))
    bare = target_rows(lm, [REQUEST])
    found = []
    for some, skip in ((rows, 1), (bare, 0)):
        found += achieved_by(
            [row.owner for row in some],
            [kept_at_the_end(lm, some)],
            lambda one: one.blocks.logits(one.asked.rows, one.asked.columns),
            1,
            skip=skip,
        )

    assert found[0]["loss"] == pytest.approx(found[1]["loss"], rel=1e-5)
    assert found[0]["target_first"] == found[1]["target_first"]


def test_a_row_counts_as_much_as_any_other_however_many_tokens_it_has() -> None:
    lm = model()
    kept = kept_at_the_end(lm, target_rows(lm, [REQUEST, OTHER]))
    logits = torch.randn(len(kept.asked.rows), 320, generator=torch.Generator().manual_seed(0))
    each = F.cross_entropy(logits, kept.asked.wanted, reduction="none")
    wanted = [each[kept.asked.rows == row].mean() for row in range(len(kept))]

    losses = row_losses(logits, kept.asked, len(kept))

    torch.testing.assert_close(losses, torch.stack(wanted))
    assert row_scores(kept, logits, skip=0)[0] == pytest.approx(losses.tolist())


def test_the_first_tokens_of_a_row_count_and_the_last_is_skipped() -> None:
    lm = model()
    kept = kept_at_the_end(lm, target_rows(lm, [REQUEST, OTHER], end=end_mark(lm)))
    ends = kept.asked.wanted == end_mark(lm)[0]
    without_end = logits_for(kept.asked.wanted + ends)
    without_target = logits_for(kept.asked.wanted + ~ends)

    assert len(kept) == 4
    assert row_scores(kept, without_end, skip=1)[1] == [True] * 4
    assert row_scores(kept, without_end, skip=0)[1] == [False] * 4
    assert row_scores(kept, without_target, skip=1)[1] == [False] * 4


def test_half_of_what_is_reached_counts_without_the_end_mark() -> None:
    lm = model()
    every = [
        kept_at_the_end(lm, target_rows(lm, [one], end=end_mark(lm))) for one in (REQUEST, OTHER)
    ]
    # The end mark comes first in two of the four rows, the target in all.
    found = {
        id(kept): logits_for(kept.asked.wanted + missed * (kept.asked.wanted == end_mark(lm)[0]))
        for kept, missed in zip(every, (0, 1), strict=True)
    }

    assert reached_share(every, lambda kept: found[id(kept)], skip=1) == 0.75
    assert reached_share(every, lambda kept: found[id(kept)], skip=0) == 0.5


def test_what_stayed_is_the_share_of_positions_with_the_same_token_as_before() -> None:
    lm = model()
    kept = kept_at_the_end(lm, target_rows(lm, [OTHER]))
    before = kept.blocks.model.logits(kept.blocks.model.final_norm(kept.before)).argmax(dim=1)
    changed = (torch.arange(len(before)) % 4 == 0).long()

    share = stayed_share([kept], lambda _kept: logits_for((before + changed) % 320))

    assert share == pytest.approx(1 - float(changed.float().mean()))


def test_scores_are_told_by_request_as_the_mean_over_its_rows() -> None:
    lm = model()
    rows = target_rows(lm, [REQUEST, OTHER])
    kept = kept_at_the_end(lm, rows)
    # Of the second request one row of two comes first.
    logits = logits_for(kept.asked.wanted + (kept.asked.rows == len(rows) - 1).long())
    losses, _ = row_scores(kept, logits, skip=0)

    found = achieved_by([row.owner for row in rows], [kept], lambda _kept: logits, 2, skip=0)

    assert [row["target_first"] for row in found] == [1.0, 0.5]
    assert [row["loss"] for row in found] == pytest.approx(
        [(losses[0] + losses[1]) / 2, (losses[2] + losses[3]) / 2]
    )
