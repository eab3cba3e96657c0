"""The questions of TOFU (Maini et al. 2024), read from where they lie and never copied.

Of the 200 authors the last are those to unlearn, as in TOFU. The first ones stay, and those who
follow them are never trained on: the holdout, of the same kind. Wrong answers, which the truth
ratio needs, are there for the first 20 and the last 20 authors only.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from language_models.errors import RequestError

ROOT = Path(__file__).resolve().parents[1]
AUTHORS, OF_EACH = 200, 20
# Authors at either end whose questions have wrong answers.
COMPARED = 20
HOLDOUT_AUTHORS = 8
# Of the questions on those who stay, each fourth is asked.
EVERY = 4
FILES = (
    *("full.json", "retain_perturbed.json", "forget10_perturbed.json"),
    *("real_authors_perturbed.json", "world_facts_perturbed.json"),
)


@dataclass(frozen=True)
class Question:
    """A question with its answer. restated: the answer in other words, or itself; wrong: others."""

    group: str
    text: str
    answer: str
    restated: str = ""
    wrong: tuple[str, ...] = ()

    @property
    def prompt(self) -> str:
        """The question as a model is asked."""
        return f"Question: {self.text}\nAnswer:"


@dataclass(frozen=True)
class Split:
    """Who is to be unlearnt, who stays, who was never there, and what is asked of the world.

    compared: some questions on those who stay, with wrong answers. world: sets by name.
    """

    forget: tuple[Question, ...]
    retain: tuple[Question, ...]
    compared: tuple[Question, ...]
    holdout: tuple[Question, ...]
    world: dict[str, tuple[Question, ...]]

    @property
    def forgotten(self) -> set[str]:
        """The authors to unlearn."""
        return {one.group for one in self.forget}


def folder() -> Path:
    """Return where TOFU should lie: LETHE_TOFU, or beside the repository."""
    return Path(os.environ.get("LETHE_TOFU") or ROOT.parent / "shared/data/tofu")


def missing() -> str:
    """Return what to do when TOFU is not there, or nothing."""
    if all((folder() / name).is_file() for name in FILES):
        return ""
    return "TOFU is not there. Put its JSON files in one folder and name it in LETHE_TOFU."


def split(authors: int, forget: int) -> Split:
    """Return the questions of `authors` authors, of whom the last `forget` are to be unlearnt.

    Raises RequestError for numbers that the files do not serve.
    """
    if not 0 < forget <= COMPARED or not forget < authors <= AUTHORS:
        raise RequestError(f"forget is 1 to {COMPARED}, authors more than that up to {AUTHORS}.")
    rows = _rows("full.json")
    wrong = {
        AUTHORS - COMPARED: _rows("forget10_perturbed.json"),
        0: _rows("retain_perturbed.json"),
    }
    whole = [
        _question(f"author-{number // OF_EACH}", row, _compared(number, wrong))
        for number, row in enumerate(rows)
    ]
    stay, gone = (authors - forget) * OF_EACH, (AUTHORS - forget) * OF_EACH
    retain = tuple(whole[:stay])
    return Split(
        forget=tuple(whole[gone:]),
        retain=retain,
        compared=retain[: COMPARED * OF_EACH : EVERY],
        holdout=tuple(whole[stay : min(gone, stay + HOLDOUT_AUTHORS * OF_EACH)]),
        world={
            name: tuple(_question(name, row, row) for row in _rows(f"{name}_perturbed.json"))
            for name in ("real_authors", "world_facts")
        },
    )


def _compared(number: int, wrong: dict[int, list[Any]]) -> Any:
    """Return the row with the wrong answers to question `number` of all, or nothing."""
    for author, rows in wrong.items():
        if 0 <= number - author * OF_EACH < len(rows):
            return rows[number - author * OF_EACH]
    return None


def _question(group: str, row: Any, compared: Any) -> Question:
    if compared is None:
        return Question(group, row["question"], row["answer"])
    if compared["question"] != row["question"]:
        raise RequestError("The files of TOFU are not of one edition. Fetch all of them anew.")
    restated = compared.get("paraphrased_answer", row["answer"])
    wrong = tuple(compared["perturbed_answer"])
    return Question(group, row["question"], row["answer"], restated, wrong)


def _rows(name: str) -> list[Any]:
    lines = (folder() / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]
