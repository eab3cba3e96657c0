"""Which matrices of a block the methods by gradient change, named alike for all families.

A mixture of experts has no one MLP matrix that every token passes: there the attention's
projection to the block is changed, which holds in every family.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from language_models.errors import RequestError, UnsupportedArchitecture

if TYPE_CHECKING:
    from language_models.architecture import Parts, Projection

# The MLP's second projection, its first ones, the attention's projection to the block.
PLACES = ("mlp_out", "mlp_in", "attention_out")


def check_place(place: str | None) -> None:
    """Raise RequestError unless `place` is one of PLACES, or None for the family's own."""
    if place is not None and place not in PLACES:
        raise RequestError(f"Unknown matrix {place!r}. Use one of {', '.join(PLACES)}.")


def matrices(model: Parts, layer: int, place: str | None = None) -> tuple[Projection, ...]:
    """Return the matrices of `layer` at `place`; None is mlp_out, or attention_out in a mixture.

    Raises UnsupportedArchitecture for the MLP of a mixture, RequestError for no such layer.
    """
    family = model.family
    if place is None:
        place = "mlp_out" if model.is_dense(layer) else "attention_out"
    if place == "attention_out":
        return (model.projection(layer, f"{family.attention}.{family.attention_out}"),)
    if not model.is_dense(layer):
        raise UnsupportedArchitecture(
            f"Layer {layer} is a mixture of experts: no single MLP matrix sees every token. Use"
            " attention_out there."
        )
    if place == "mlp_out":
        return (model.mlp_out(layer),)
    return tuple(model.projection(layer, f"{family.mlp}.{name}") for name in family.first)


def layer_at(model: Parts, share: float) -> int:
    """Return the layer at `share` of the model's depth, rounded down."""
    return min(int(share * len(model.blocks)), len(model.blocks) - 1)
