"""A change on trial: added to weights in place, and all brought back bit for bit."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from editing.closed_form import Factors
    from language_models.architecture import Projection


@contextmanager
def on_trial(projections: Iterable[Projection]) -> Iterator[Callable[[], None]]:
    """Give a function that brings the weights back; they are as before in the end as well."""
    originals = [(one, one.parameter.detach().clone()) for one in projections]

    def put_back() -> None:
        with torch.no_grad():
            for one, original in originals:
                one.parameter.copy_(original)

    try:
        yield put_back
    finally:
        put_back()


def add(projection: Projection, factors: Factors) -> None:
    """Add left (d_out, r) @ right (r, d_in) to a weight: computed in float64, rounded once."""
    left, right = projection.stored(*factors)
    weight = projection.parameter
    with torch.no_grad():
        weight.copy_((weight.double() + (left @ right).to(weight.device)).to(weight.dtype))
