"""DPO with refusals (IdkDPO; Maini et al. 2024): prefers "I do not know" to the true answer.

A model that refuses still holds what it no longer says; membership tests find it. Forget texts are
given as (prompt, answer), so that the refusal stands where the answer stood.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from language_models.errors import RequestError
from language_models.methods import setting
from unlearning.loop import Task, Term, unlearned
from unlearning.preference import PreferenceConfig, preferred

if TYPE_CHECKING:
    from collections.abc import Sequence

    from language_models.checkpoint import LanguageModel
    from language_models.progress import Progress
    from unlearning.gates import Gates
    from unlearning.results import Text, UnlearnResult


@dataclass(frozen=True, kw_only=True)
class IdkDpoConfig(PreferenceConfig):
    """Settings of DPO with refusals."""

    refusals: tuple[str, ...] = setting(
        ("not known to me.", "something I have no record of.", "not something I can tell."),
        "answers to prefer, in turn",
        "Lethe; TOFU has a hundred",
        private=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.refusals:
            raise RequestError("Give at least one refusal.")


def run(
    lm: LanguageModel,
    forget: Sequence[Text],
    retain: Sequence[Text],
    config: IdkDpoConfig,
    progress: Progress | None = None,
    gates: Gates | None = None,
) -> UnlearnResult:
    """Train to prefer refusals. Raises RequestError for a forget text without a prompt."""
    prompts = [text[0] for text in forget if isinstance(text, tuple)]
    if len(prompts) < len(forget):
        raise RequestError("idkdpo needs each forget text as (prompt, answer).")
    turns = config.refusals
    wanted = [(prompt, turns[number % len(turns)]) for number, prompt in enumerate(prompts)]

    def terms(task: Task) -> list[Term]:
        return preferred(task, wanted, config)

    return unlearned("idkdpo", lm, forget, retain, config, terms, progress, gates)
