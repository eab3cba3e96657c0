from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from language_models import DeltaError
from language_models.architecture import mlp_out_name
from language_models.checkpoint import state_digest, tensor_digest
from language_models.delta import Dense, LowRank, WeightDelta, copy_weights, restore_weights
from tests.language_models.factories import tiny_model

if TYPE_CHECKING:
    from pathlib import Path

    from language_models import LanguageModel

NAME = mlp_out_name(1)


def _factors(rank: int = 2, size: float = 1.0) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(3)
    left = torch.randn(32, rank, generator=generator, dtype=torch.float64) * size
    right = torch.randn(rank, 48, generator=generator, dtype=torch.float64)
    return {NAME: (left, right)}


def _dense(lm: LanguageModel) -> WeightDelta:
    before = copy_weights(lm)
    with torch.no_grad():
        for weight in lm.model.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    delta = WeightDelta.between(before, lm)
    restore_weights(lm, before)
    return delta


def _sum(old: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Outer products added one after another in float64, rounded once."""
    outer = [torch.outer(left[:, i], right[i]) for i in range(left.shape[1])]
    return (old.double() + (outer[0] + outer[1])).to(old.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("size", [1e-3, 1.0, 100.0])
def test_low_rank_apply_and_revert_restore_each_bit(dtype: torch.dtype, size: float) -> None:
    lm = tiny_model()
    lm.model.to(dtype)
    before, old = state_digest(lm.model), copy_weights(lm)[NAME]
    left, right = _factors(size=size)[NAME]
    delta = WeightDelta.from_factors(lm, {NAME: (left, right)})

    applied = delta.apply(lm)

    weight = dict(lm.model.named_parameters())[NAME]
    assert torch.equal(weight, _sum(old, left, right))
    assert applied == state_digest(lm.model) != before
    assert delta.revert(lm) == before


@pytest.mark.parametrize("kind", ["low_rank", "dense"])
def test_delta_after_save_and_load_does_the_same(tmp_path: Path, kind: str) -> None:
    lm = tiny_model()
    before = state_digest(lm.model)
    delta = WeightDelta.from_factors(lm, _factors()) if kind == "low_rank" else _dense(lm)
    delta.save(tmp_path / "change.safetensors")

    loaded = WeightDelta.load(tmp_path / "change.safetensors")

    after = delta.apply(lm)
    assert loaded.revert(lm) == before
    assert loaded.apply(lm) == after
    assert delta.revert(lm) == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["change.safetensors"]


def test_low_rank_changes_no_other_tensor() -> None:
    lm = tiny_model()
    before = {name: tensor_digest(tensor) for name, tensor in lm.model.state_dict().items()}

    WeightDelta.from_factors(lm, _factors()).apply(lm)

    after = {name: tensor_digest(tensor) for name, tensor in lm.model.state_dict().items()}
    assert [name for name in before if before[name] != after[name]] == [NAME]


def test_low_rank_correction_is_sparse_for_a_small_change() -> None:
    entry = WeightDelta.from_factors(tiny_model(), _factors(size=1e-3)).entries[NAME]

    assert isinstance(entry, LowRank)
    assert len(entry.index) < 0.1 * 32 * 48


def test_between_keeps_only_what_changed() -> None:
    lm = tiny_model()
    before = copy_weights(lm)
    with torch.no_grad():
        dict(lm.model.named_parameters())[NAME][0, 0] += 1

    delta = WeightDelta.between(before, lm)

    assert list(delta.entries) == [NAME]
    entry = delta.entries[NAME]
    assert isinstance(entry, Dense)
    assert int((entry.bits != 0).sum()) == 1


def test_apply_to_another_model_is_refused_and_changes_nothing() -> None:
    delta = WeightDelta.from_factors(tiny_model(), _factors())
    other = tiny_model(seed=9)
    before = state_digest(other.model)

    with pytest.raises(DeltaError, match="is not the tensor"):
        delta.apply(other)

    assert state_digest(other.model) == before


def test_apply_twice_and_revert_before_apply_are_refused() -> None:
    lm = tiny_model()
    delta = WeightDelta.from_factors(lm, _factors())
    with pytest.raises(DeltaError):
        delta.revert(lm)

    delta.apply(lm)

    with pytest.raises(DeltaError):
        delta.apply(lm)


def test_apply_of_damaged_factors_is_refused_before_any_weight_changes() -> None:
    lm = tiny_model()
    before = state_digest(lm.model)
    delta = WeightDelta.from_factors(lm, _factors())
    entry = delta.entries[NAME]
    assert isinstance(entry, LowRank)
    entry.left[0, 0] += 1

    with pytest.raises(DeltaError, match="does not give the recorded weights"):
        delta.apply(lm)

    assert state_digest(lm.model) == before


@pytest.mark.parametrize("content", [None, b"", b"x" * 100])
def test_load_of_a_missing_or_damaged_file_is_refused(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "change.safetensors"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(DeltaError, match="missing or damaged"):
        WeightDelta.load(path)
