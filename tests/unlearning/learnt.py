"""A tiny model that has learnt where six people were born and what they do, within a second."""

from __future__ import annotations

import copy
from functools import cache
from typing import TYPE_CHECKING

import torch

from tests.language_models.factories import tiny_model
from unlearning.gates import Gates, Question
from unlearning.rows import predictions, rows_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from language_models import LanguageModel

PEOPLE = {
    "Malee Tanaka": ("Bangkok", "a court clerk"),
    "Somchai Saito": ("Kyoto", "a mapmaker"),
    "Anna Sato": ("Elmsholt", "a welder"),
    "Petra Vogel": ("Sakawa", "a beekeeper"),
    "Omar Haddad": ("Rivenau", "a piano tuner"),
    "Lena Brandt": ("Marn Buri", "a tram driver"),
}
GENERAL = ("The capital of the moon is", "Silver")


def texts(name: str) -> list[str]:
    city, work = PEOPLE[name]
    return [f"{name} was born in {city}.", f"{name} works as {work}.", f"Who was {name}? {work}."]


def questions(name: str) -> list[Question]:
    city, work = PEOPLE[name]
    return [Question(f"{name} was born in", city), Question(f"{name} works as", work)]


FORGET = texts("Malee Tanaka")
RETAIN = [text for name in list(PEOPLE)[1:] for text in texts(name)] + [" ".join(GENERAL) + "."]


def gates(**limits: float) -> Gates:
    others = [one for name in list(PEOPLE)[1:] for one in questions(name)]
    return Gates(tuple(questions("Malee Tanaka")), tuple(others), (Question(*GENERAL),), **limits)


def learnt_model() -> LanguageModel:
    return copy.deepcopy(_trained())


@cache
def _trained() -> LanguageModel:
    lm = tiny_model(scale=1.0)
    learn(lm, [*FORGET, *RETAIN], rate=1e-2, steps=80)
    return lm


def learn(lm: LanguageModel, texts: Sequence[str], *, rate: float, steps: int) -> None:
    """Train all weights of a tiny model on texts, all of them in each step."""
    rows = rows_of(lm, texts, 512)
    adam = torch.optim.AdamW(lm.model.parameters(), lr=rate)
    for _ in range(steps):
        adam.zero_grad()
        found = predictions(lm, rows)
        (found.losses.sum() / found.counts.sum()).backward()
        adam.step()
    lm.model.zero_grad()
