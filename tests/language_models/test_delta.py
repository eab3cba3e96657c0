from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from language_models import DeltaError
from language_models.architecture import parts
from language_models.checkpoint import state_digest, tensor_digest
from language_models.delta import (
    Dense,
    LowRank,
    WeightDelta,
    combine,
    copy_weights,
    restore_weights,
)
from tests.language_models.factories import tiny_model
from tests.language_models.tensors import DTYPES, model_of, random

if TYPE_CHECKING:
    from pathlib import Path

    from language_models import LanguageModel

NAME = parts(tiny_model().model).mlp_out(1).name
OTHER = parts(tiny_model().model).mlp_out(2).name
SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(0, 12))

Factors = dict[str, tuple[torch.Tensor, torch.Tensor]]


def _factors(rank: int = 2, size: float = 1.0, name: str = NAME, seed: int = 3) -> Factors:
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(32, rank, generator=generator, dtype=torch.float64) * size
    right = torch.randn(rank, 48, generator=generator, dtype=torch.float64)
    return {name: (left, right)}


def _dense(lm: LanguageModel) -> WeightDelta:
    before = copy_weights(lm)
    with torch.no_grad():
        for weight in lm.model.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    delta = WeightDelta.between(before, lm)
    restore_weights(lm, before)
    return delta


def _sum(old: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """The plan added in float64 and rounded once."""
    return (old.double() + left @ right).to(old.dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1e-3, 1.0, 100.0])
def test_low_rank_apply_and_revert_restore_each_bit(dtype: torch.dtype, size: float) -> None:
    lm = tiny_model()
    lm.model.to(dtype)
    before, old = state_digest(lm.model), copy_weights(lm)[NAME]
    left, right = _factors(size=size)[NAME]
    delta = WeightDelta.from_factors(lm, {NAME: (left, right)})

    applied = delta.apply(lm)

    weight = dict(lm.model.named_parameters())[NAME]
    exact = {"rtol": 0.0, "atol": 0.0} if dtype != torch.float64 else {}
    assert torch.allclose(weight, _sum(old, left, right), **exact)
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


@settings(deadline=None, max_examples=60)
@given(
    shape=SHAPES,
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 10_000),
    dense=st.lists(st.booleans(), max_size=4),
)
def test_combined_deltas_equal_the_sequence_in_both_directions(
    shape: tuple[int, int, int], dtype: torch.dtype, seed: int, dense: list[bool]
) -> None:
    rows, columns, rank = shape
    lm = model_of(random((rows, columns), seed).to(dtype))
    before, deltas = state_digest(lm.model), []
    for number, whole in enumerate(dense):
        left, right = random((rows, rank), seed + number), random((rank, columns), number)
        copies, delta = copy_weights(lm), WeightDelta.from_factors(lm, {"p0": (left, right)})
        delta.write(lm)
        deltas.append(WeightDelta.between(copies, lm) if whole else delta)
    after = state_digest(lm.model)

    combined = WeightDelta.from_bytes(combine(lm, deltas).to_bytes())

    assert state_digest(lm.model) == after
    assert combined.revert(lm) == before
    assert combined.apply(lm) == after


def test_combine_joins_low_rank_and_keeps_what_one_delta_alone_changed() -> None:
    lm = tiny_model()
    first = WeightDelta.from_factors(lm, {**_factors(1), **_factors(2, name=OTHER)})
    first.write(lm)
    second = WeightDelta.from_factors(lm, _factors(1, seed=5))
    second.write(lm)

    combined = combine(lm, [first, second])

    assert list(combined.entries) == [NAME, OTHER]
    assert combined.entries[OTHER] is first.entries[OTHER]
    assert combined.entries[NAME].change.rank == 2


def test_combine_of_many_columns_needs_no_more_room_than_the_tensor() -> None:
    lm = tiny_model()
    deltas = []
    for seed in range(5):
        deltas.append(WeightDelta.from_factors(lm, _factors(20, seed=seed)))
        deltas[-1].write(lm)

    entry = combine(lm, deltas).entries[NAME]

    assert isinstance(entry, Dense)
    assert entry.change.rank == 32


def test_combine_of_a_change_and_its_return_is_no_change() -> None:
    lm = tiny_model()
    copies = copy_weights(lm)
    there = WeightDelta.from_factors(lm, _factors())
    there.write(lm)
    changed = copy_weights(lm)
    restore_weights(lm, copies)
    back = WeightDelta.between(changed, lm)

    assert combine(lm, [there, back]).entries == {}


def test_combine_of_deltas_that_do_not_follow_each_other_is_refused() -> None:
    lm = tiny_model()
    first = WeightDelta.from_factors(lm, _factors())
    first.write(lm)
    second = WeightDelta.from_factors(lm, _factors(seed=5))
    second.write(lm)

    for wrong in ([second, first], [second, second], [first], [first, first, second]):
        with pytest.raises(DeltaError, match="is not the tensor"):
            combine(lm, wrong)


def test_tied_weight_is_changed_by_either_name_and_refused_by_both() -> None:
    lm = tiny_model()
    head, embed = "lm_head.weight", "model.embed_tokens.weight"
    before, rows = state_digest(lm.model), lm.model.get_parameter(head).shape[0]
    pair = (random((rows, 1), 1), random((1, 32), 2))

    after = WeightDelta.from_factors(lm, {head: pair}).apply(lm)

    assert lm.model.get_parameter(head) is lm.model.get_parameter(embed)
    delta = WeightDelta.from_factors(lm, _factors())
    assert delta.apply(lm) != after
    delta.revert(lm)
    assert state_digest(lm.model) == after != before
    with pytest.raises(DeltaError, match="tied"):
        WeightDelta.from_factors(lm, {head: pair, embed: pair})


def test_delta_of_another_model_is_refused_though_its_first_tensor_fits() -> None:
    lm, other = tiny_model(), tiny_model()
    with torch.no_grad():
        other.model.get_parameter(OTHER).mul_(2)
    delta = WeightDelta.from_factors(lm, {**_factors(), **_factors(name=OTHER)})
    before = state_digest(other.model)

    with pytest.raises(DeltaError, match=r"layers\.2.*is not the tensor"):
        delta.apply(other)

    assert state_digest(other.model) == before


def test_delta_never_adds_a_parameter() -> None:
    delta = WeightDelta.from_factors(
        model_of(torch.ones(2, 2)), {"p0": (torch.ones(2, 1), torch.ones(1, 2))}
    )
    lm = tiny_model()

    with pytest.raises(DeltaError, match="is not the tensor"):
        delta.apply(lm)
    with pytest.raises(DeltaError, match="is not the tensor"):
        WeightDelta.from_factors(lm, {"new.weight": _factors()[NAME]})
    with pytest.raises(DeltaError, match="is not the tensor"):
        WeightDelta.between({"new.weight": torch.ones(1)}, lm)


def test_file_with_any_changed_byte_is_refused() -> None:
    lm = tiny_model()
    low, whole = WeightDelta.from_factors(lm, _factors(1)), _dense(lm)
    contents = [low.to_bytes(), WeightDelta({NAME: whole.entries[NAME]}).to_bytes()]

    for content, bit in itertools.product(contents, (0, 6)):
        for place in range(0, len(content), 41):
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            with pytest.raises(DeltaError):
                WeightDelta.from_bytes(bytes(damaged))


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_file_cut_or_lengthened_or_of_random_bytes_is_refused(data: st.DataObject) -> None:
    content = WeightDelta.from_factors(tiny_model(), _factors(1)).to_bytes()
    cut = data.draw(st.integers(0, len(content) - 1))

    for damaged in (content[:cut], content + b"x", data.draw(st.binary(max_size=200))):
        with pytest.raises(DeltaError):
            WeightDelta.from_bytes(damaged)


def test_save_is_for_the_owner_alone_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    delta = WeightDelta.from_factors(tiny_model(), _factors())
    delta.save(tmp_path / "change.safetensors")

    assert (tmp_path / "change.safetensors").stat().st_mode & 0o777 == 0o600
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        delta.save(tmp_path / "taken")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["change.safetensors", "taken"]
