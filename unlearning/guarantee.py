"""What a result of unlearning means and what it does not, in words that a report may quote.

The classes are those of language_models.methods.GUARANTEES. None of them speaks of data outside
the training that the result names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from language_models.errors import RequestError
from language_models.methods import GUARANTEES

if TYPE_CHECKING:
    from typing import Any


@dataclass(frozen=True)
class Guarantee:
    """A class with its claim, what it rests on and where it ends."""

    letter: str
    claim: str
    conditions: tuple[str, ...]
    limits: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "class": self.letter,
            "claim": self.claim,
            "conditions": list(self.conditions),
            "limits": list(self.limits),
        }


RECORDS = (
    "All records of the person are known and are part of the request, as are copies of their text"
    " in the records of others."
)
NOT_ADAPTIVE = (
    "The requests do not depend on the published models: nobody chose what to ask to have taken"
    " out by looking at their outputs or weights (Gupta et al. 2021)."
)
SAME_ENVIRONMENT = (
    "Training and repetition were made with the same versions of the software, the same kind of"
    " processor and the same number of threads, all of which are recorded and compared."
)
DETERMINISTIC = (
    "The order, seeds and learning rates of all steps were fixed before the first step, and none"
    " depends on what a record says; one record is one row; no algorithm whose additions come in a"
    " free order takes part."
)
SAME_SETTINGS = (
    "The new training uses the settings of the first, and none of them was chosen by how well the"
    " person's records were learnt."
)
DECLARED_TESTS = (
    "The probes, their number, the wordings, the attacks and the thresholds were fixed before the"
    " change was made, and the verdict names them; before there is a verdict nothing is claimed."
)
FILTER_IN_FORCE = (
    "Every answer passes through the filter, or the adapter stays switched off, wherever the model"
    " is used."
)

OWN_DATA = (
    "It covers the data of this training alone. What the base model learnt before, from other"
    " sources, is outside it."
)
OTHERS = "The same facts in records about other people stay in the training and in the weights."
OLD_CHECKPOINT = (
    "Earlier weights, adapters and checkpoints still carry the data, and whoever has them beside"
    " the new ones can find out more than from either (Wu et al. 2025). They are to be destroyed;"
    " the destruction is a job of its own with a record of its own."
)
PUBLISHED = (
    "Weights that were published or handed on cannot be recalled, nor what was built on them."
)
PLACES = (
    "A replay equals the recorded training with the person's places in it left empty. A training"
    " planned anew without the person would take the other records in another order."
)
TESTS_ONLY = (
    "It is evidence against the listed tests only. Other attacks, or more of the same, may bring"
    " out what these did not."
)
STILL_THERE = "The weights still carry the data; without the filter it can be brought out."

_EXACT_LIMITS = (OWN_DATA, OTHERS, OLD_CHECKPOINT, PUBLISHED)
_MEANING = {
    "A": (
        (RECORDS, NOT_ADAPTIVE, SAME_SETTINGS, DETERMINISTIC, SAME_ENVIRONMENT),
        (*_EXACT_LIMITS, PLACES),
    ),
    "A′": ((RECORDS, NOT_ADAPTIVE, SAME_SETTINGS), _EXACT_LIMITS),
    "B": (
        (RECORDS, DECLARED_TESTS),
        (TESTS_ONLY, OTHERS, OLD_CHECKPOINT, PUBLISHED),
    ),
    "C": ((FILTER_IN_FORCE,), (STILL_THERE, OLD_CHECKPOINT, PUBLISHED)),
}


def guarantee(letter: str) -> Guarantee:
    """Return a class by its letter: A, A′, B or C. Raises RequestError for another."""
    if letter not in _MEANING:
        raise RequestError(f"There is no such class. Use one of: {', '.join(_MEANING)}.")
    conditions, limits = _MEANING[letter]
    return Guarantee(letter, GUARANTEES[letter], conditions, limits)
