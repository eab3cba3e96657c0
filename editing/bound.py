"""How much of a change is written: no more than its targets need, no more than neighbours bear.

Others lose in proportion to the change, while a target comes first well before the whole of it.
So the least share is sought at which as many targets come first as with the whole; a margin more
than that is written, for wordings that were not asked. Where neighbours still answer otherwise,
it is the greatest share below at which they do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from editing.requests import EditConfig
from language_models.errors import RequestError
from language_models.methods import setting

if TYPE_CHECKING:
    from collections.abc import Callable

# Halvings of the range in which a share is sought.
HALVINGS = 4
# A loss of exactly the limit must hold although 1.0 - 0.96 is a little more than 0.04.
ROUNDING = 1e-12


@dataclass(frozen=True, kw_only=True)
class BoundConfig(EditConfig):
    """Settings of the methods that write a share of the change they found."""

    margin: float = setting(
        1.3,
        "times the least share of the change that holds the targets is written; 0: all of it",
        "measured; not in the papers",
        published=0.0,
    )
    neighbours_lost: float = setting(
        0.04,
        "most neighbours, as a share, that may begin otherwise than before; of 64 or more, one in"
        " eight is not held but looked at; 1: none is",
        "measured; not in the papers",
        published=1.0,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.margin != 0 and self.margin < 1:
            raise RequestError("margin is 1 or more, or 0 for the whole change.")
        if not 0 <= self.neighbours_lost <= 1:
            raise RequestError("neighbours_lost is a share: between 0 and 1.")


class Share(NamedTuple):
    """The share of a change to write; borne: whether neighbours bear as much as targets need."""

    written: float
    borne: bool


def share_to_write(
    config: BoundConfig,
    reached: Callable[[float], float],
    stayed: Callable[[float], float] | None,
) -> Share:
    """Return the share of a change to write.

    reached: from a share of the change to that of targets that come first; stayed: to that of
    neighbours that begin as before, None where none is looked at.
    """
    share = 1.0
    if config.margin:
        goal = reached(1.0)
        _, least = _between(lambda part: reached(part) >= goal, 1.0)
        share = min(1.0, least * config.margin)
    least_kept = 1 - config.neighbours_lost - ROUNDING
    if stayed is None or stayed(share) >= least_kept:
        return Share(share, borne=True)
    most, _ = _between(lambda part: stayed(part) < least_kept, share)
    return Share(most, borne=False)


def _between(holds: Callable[[float], bool], high: float) -> tuple[float, float]:
    """Return a share that does not hold and one above it that does; `high` does, 0 does not."""
    low = 0.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return low, high
