from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from language_models import DeltaError, NotReached, UnsupportedArchitecture
from language_models.checkpoint import state_digest
from language_models.delta import WeightDelta, copy_weights
from language_models.tensor_change import low_rank, moved
from tests.language_models.tensors import DTYPES, model_of, random

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(0, 12))
SIZES = st.sampled_from([1e-8, 1e-3, 1.0, 30.0])


@settings(deadline=None, max_examples=80)
@given(shape=SHAPES, dtype=st.sampled_from(DTYPES), size=SIZES, seed=st.integers(0, 10_000))
def test_low_rank_of_any_shape_and_format_goes_there_and_back(
    shape: tuple[int, int, int], dtype: torch.dtype, size: float, seed: int
) -> None:
    rows, columns, rank = shape
    lm = model_of(random((rows, columns), seed).to(dtype))
    left, right = random((rows, rank), seed + 1, size), random((rank, columns), seed + 2)
    old, before = copy_weights(lm)["p0"], state_digest(lm.model)
    delta = WeightDelta.from_factors(lm, {"p0": (left, right)})

    after = WeightDelta.from_bytes(delta.to_bytes()).apply(lm)

    new, planned = copy_weights(lm)["p0"], left @ right
    change = delta.entries["p0"].change
    lost = float((new.double() - old.double() - planned).norm())
    exact = {"rel": 1e-6, "abs": 1e-12}
    assert torch.allclose(
        new.double(), (old.double() + planned).to(dtype).double(), rtol=1e-12, atol=1e-12
    )
    assert change.relative * float(old.double().norm()) == pytest.approx(
        float(planned.norm()), **exact
    )
    assert change.rounding * float(planned.norm()) == pytest.approx(lost, **exact)
    assert (after == state_digest(lm.model), delta.revert(lm)) == (True, before)


@pytest.mark.parametrize("shape", [(), (1,), (0,), (7,), (3, 0), (4, 3, 5)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_dense_change_of_any_shape_goes_there_and_back(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    lm = model_of(random(shape, 0).to(dtype), torch.ones(2))
    copies, before = copy_weights(lm), state_digest(lm.model)
    with torch.no_grad():
        next(lm.model.parameters()).mul_(3)
    after = state_digest(lm.model)
    restored = WeightDelta.from_bytes(WeightDelta.between(copies, lm).to_bytes())

    assert restored.revert(lm) == before
    assert restored.apply(lm) == after
    assert [name for name, _ in lm.model.named_parameters()] == ["p0", "p1"]


def test_product_has_the_same_bits_in_whatever_order_columns_are_added() -> None:
    generator = torch.Generator().manual_seed(0)
    old, left, right = random((64, 80), 1), random((64, 40), 2), random((40, 80), 3)
    left *= 10.0 ** torch.randint(-12, 12, (64, 1), generator=generator)
    entry = low_rank(old, left, right)

    shuffled = torch.randperm(40, generator=generator)
    other = low_rank(old, left[:, shuffled], right[shuffled])

    assert other.after == entry.after
    # Sums of plain products depend on the order, so the above is no accident.
    assert not torch.equal(left @ right, left[:, shuffled] @ right[shuffled])


def test_product_in_blocks_equals_the_product_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    old, left, right = random((30, 7), 1).float(), random((30, 3), 2), random((3, 7), 3)
    whole = low_rank(old, left, right)

    monkeypatch.setattr("language_models.tensor_change._BLOCK", 21)
    entry = low_rank(old, left, right)

    assert entry.after == whole.after
    assert torch.equal(entry.index, whole.index)
    assert entry.change.relative == pytest.approx(whole.change.relative, rel=1e-12)
    assert torch.equal(moved(moved(old, entry, forward=True), entry, forward=False), old)


def test_change_tells_rank_size_and_what_rounding_takes() -> None:
    old = random((32, 48), 1).to(torch.bfloat16)
    left, right = random((32, 1), 2, 1e-3), random((1, 48), 3)

    change = low_rank(old, left.repeat(1, 3), right.repeat(3, 1)).change

    planned = 3 * left @ right
    made = (old.double() + planned).float().to(torch.bfloat16).double() - old.double()
    assert change.rank == 1
    assert change.relative == pytest.approx(float(planned.norm() / old.double().norm()), rel=1e-9)
    assert change.rounding == pytest.approx(
        float((made - planned).norm() / planned.norm()), rel=1e-9
    )


@pytest.mark.parametrize("shapes", [((4, 2), (3, 5)), ((5, 2), (2, 4)), ((4,), (4, 5))])
def test_factors_of_another_shape_are_refused(
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
) -> None:
    with pytest.raises(DeltaError, match="shape"):
        low_rank(torch.ones(4, 5), *(torch.ones(one) for one in shapes))


@pytest.mark.parametrize("left", [float("nan"), float("inf"), 1e6])
def test_change_to_weights_that_are_no_numbers_is_refused(left: float) -> None:
    lm = model_of(torch.ones(2, 2, dtype=torch.float16))

    with pytest.raises(NotReached, match="not finite"):
        WeightDelta.from_factors(lm, {"p0": (torch.full((2, 1), left), torch.ones(1, 2))})


def test_quantised_and_recast_weights_are_refused() -> None:
    lm = model_of(torch.ones(2, 2))
    copies = copy_weights(lm)
    lm.model.to(torch.bfloat16)

    with pytest.raises(DeltaError, match="format"):
        WeightDelta.between(copies, lm)
    lm.model.p0.requires_grad_(requires_grad=False)
    lm.model.p0.data = torch.ones(2, 2, dtype=torch.int8)
    with pytest.raises(UnsupportedArchitecture, match="float32"):
        WeightDelta.between(copy_weights(lm), lm)
