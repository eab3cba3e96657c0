"""The replay of the blocks above a layer equals a whole forward with the same change."""

from __future__ import annotations

import pytest
import torch

from language_models import RequestError, UnsupportedArchitecture
from language_models.architecture import parts
from language_models.checkpoint import state_digest
from language_models.moments import hooked
from language_models.replay import frozen, replay
from tests.language_models.factories import DENSE, tiny_model

ROWS = [[1, 40, 80, 120, 60, 90], [1, 70], [33, 34, 35, 36, 37, 38, 39, 41], [1, 99, 50]]
# The first token, the last one, and prefixes of several lengths.
STARTS = [3, 1, 0, 2]
LAYERS = [(family, layer) for family in DENSE for layer in range(3)] + [("qwen3_moe", 1)]
CASES = [(*case, "eager") for case in LAYERS]
# GPT-J and Gemma 2 have no other attention.
CASES += [(*case, "sdpa") for case in LAYERS if case[0] not in ("gptj", "gemma2")]


def _whole(lm, row: list[int], start: int, layer: int, delta: torch.Tensor) -> torch.Tensor:
    """The model's own logits from `start` on, with delta added where the replay adds it."""

    def add(_module, _inputs, output: torch.Tensor) -> torch.Tensor:
        output = output.clone()
        output[:, start] += delta
        return output

    module = parts(lm.model).mlp_out(layer).module
    with hooked(lambda: module.register_forward_hook(add)):
        return lm.model(torch.tensor([row])).logits[0, start:]


def _compare(lm, rows, starts, layer, found, delta) -> None:
    for number, (row, start) in enumerate(zip(rows, starts, strict=True)):
        columns = torch.arange(len(row) - start)
        actual = found.logits(delta, torch.full_like(columns, number), columns)
        expected = _whole(lm, row, start, layer, delta[number])
        error = float((actual - expected).norm() / expected.norm())
        assert error < 1e-4


@torch.no_grad()
@pytest.mark.parametrize(("family", "layer", "attention"), CASES)
def test_replay_equals_a_whole_forward(family: str, layer: int, attention: str) -> None:
    lm = tiny_model(family, noise=0.1)
    lm.model.set_attn_implementation(attention)
    delta = torch.randn(len(ROWS), 32, generator=torch.Generator().manual_seed(0))

    found = replay(lm, ROWS, STARTS, layer)

    _compare(lm, ROWS, STARTS, layer, found, delta)
    _compare(lm, ROWS, STARTS, layer, found, torch.zeros_like(delta))


@torch.no_grad()
@pytest.mark.parametrize("family", [*DENSE, "qwen3_moe"])
def test_replay_of_selected_rows_equals_theirs(family: str) -> None:
    lm = tiny_model(family, noise=0.1)
    delta = torch.randn(len(ROWS), 32, generator=torch.Generator().manual_seed(1))
    chosen = torch.tensor([2, 0])

    found = replay(lm, ROWS, STARTS, 1).select(chosen)
    again = found.select(torch.tensor([1]))

    _compare(lm, [ROWS[2], ROWS[0]], [STARTS[2], STARTS[0]], 1, found, delta[chosen])
    _compare(lm, [ROWS[0]], [STARTS[0]], 1, again, delta[:1])


@torch.no_grad()
@pytest.mark.parametrize("family", ["mistral", "gemma2", "gemma3_text"])
def test_replay_of_rows_as_long_as_the_window_together_equals_each_alone(family: str) -> None:
    lm = tiny_model(family, noise=0.1, sliding_window=64)
    # Side by side their columns span more than the window, though no row does.
    rows = [[1, *range(40, 103)], [1, *range(103, 40, -1)]]
    starts = [60, 2]
    delta = torch.randn(2, 32, generator=torch.Generator().manual_seed(2))

    _compare(lm, rows, starts, 1, replay(lm, rows, starts, 1), delta)


def test_replay_gives_the_gradient_of_the_whole_forward() -> None:
    lm = tiny_model("gemma2", noise=0.1)
    ours, theirs = (torch.zeros(1, 32, requires_grad=True) for _ in range(2))

    with frozen(lm):
        found = replay(lm, [ROWS[0]], [STARTS[0]], 0)
        found.logits(ours, torch.tensor([0]), torch.tensor([2])).logsumexp(-1).sum().backward()
        whole = _whole(lm, ROWS[0], STARTS[0], 0, theirs[0])
        whole[2].logsumexp(-1).backward()

    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-7)
    assert all(weight.grad is None for weight in lm.model.parameters())


def _left(lm) -> tuple[object, ...]:
    """What a replay must leave as it was."""
    return (
        state_digest(lm.model),
        [module.training for module in lm.model.modules()],
        [weight.requires_grad for weight in lm.model.parameters()],
        [list(module._forward_hooks) for module in lm.model.modules()],
        [list(module._forward_pre_hooks) for module in lm.model.modules()],
        lm.model.is_activation_checkpointing,
        lm.model.config.use_cache,
    )


def test_replay_leaves_the_model_as_it_was() -> None:
    lm = tiny_model("llama")
    lm.model.train()
    lm.model.activation_checkpointing_enable()
    lm.model.model.layers[1].eval()
    lm.model.lm_head.weight.requires_grad_(requires_grad=False)
    before = _left(lm)

    with frozen(lm):
        replay(lm, ROWS, STARTS, 1).states_above(torch.zeros(len(ROWS), 32))

    assert _left(lm) == before


def test_replay_in_training_mode_is_without_dropout() -> None:
    lm = tiny_model("gpt2", resid_pdrop=0.5)
    expected = replay(lm, ROWS, STARTS, 1).states

    lm.model.train()

    assert torch.equal(replay(lm, ROWS, STARTS, 1).states, expected)


def test_replay_that_fails_leaves_no_hooks() -> None:
    lm = tiny_model("llama")
    before = _left(lm)

    with pytest.raises(IndexError):
        replay(lm, [[1, 10_000]], [1], 1)

    assert _left(lm) == before


def test_replay_of_a_mixture_is_refused() -> None:
    with pytest.raises(UnsupportedArchitecture, match="mixture of experts"):
        replay(tiny_model("mixtral"), ROWS, STARTS, 1)


def test_replay_of_a_row_longer_than_the_window_is_refused() -> None:
    lm = tiny_model("gemma2", sliding_window=64)

    with pytest.raises(RequestError, match="attention window of 64"):
        replay(lm, [[1] * 65], [1], 1)
