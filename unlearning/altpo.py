"""AltPO (Mekala et al. 2025): DPO that prefers an alternate text to the true one.

The published method prefers made-up answers, which teaches a model wrong facts about a person.
Here the alternates are given, and should be neutral: "an undisclosed place".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from language_models.errors import RequestError
from language_models.methods import setting
from unlearning.loop import Task, Term, unlearned
from unlearning.preference import PreferenceConfig, preferred
from unlearning.results import Passage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from language_models.checkpoint import LanguageModel
    from language_models.progress import Progress
    from unlearning.gates import Gates
    from unlearning.results import Text, UnlearnResult


@dataclass(frozen=True, kw_only=True)
class AltPoConfig(PreferenceConfig):
    """Settings of AltPO."""

    alternates: tuple[str, ...] = setting(
        (),
        "one a forget text: what to prefer to the text, or to its answer; neutral, not made up",
        "AltPO has five made-up answers a question",
        private=True,
    )
    retain_weight: float = setting(
        200.0, "α, weight of the retain term", "measured for the divergence", published=1.0
    )
    learning_rate: float = setting(
        3e-4, "AdamW's learning rate at first; it falls to zero", "measured", published=1e-5
    )


def run(
    lm: LanguageModel,
    forget: Sequence[Text],
    retain: Sequence[Text],
    config: AltPoConfig,
    progress: Progress | None = None,
    gates: Gates | None = None,
) -> UnlearnResult:
    """Train to prefer the alternates. Raises RequestError unless there is one a forget text.

    A passage is taken whole: what it has in common with its alternate cancels out.
    """
    if len(config.alternates) != len(forget):
        raise RequestError("altpo needs one alternate for each forget text.")
    texts = [text.text if isinstance(text, Passage) else text for text in forget]
    pairs = list(zip(texts, config.alternates, strict=True))
    if any(not other.strip() or other == _learnt(text) for text, other in pairs):
        raise RequestError("An alternate is empty or the very text to unlearn. Write another.")
    wanted = [other if isinstance(text, str) else (text[0], other) for text, other in pairs]

    def terms(task: Task) -> list[Term]:
        return preferred(task, wanted, config)

    return unlearned("altpo", lm, texts, retain, config, terms, progress, gates)


def _learnt(text: str | tuple[str, str]) -> str:
    return text if isinstance(text, str) else text[1]
