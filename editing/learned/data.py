"""The facts that an editor is trained on: a JSON list, read strictly.

[{"prompt": "{} was born in", "subject": "…", "target": "…", "paraphrases": ["…"],
  "unrelated": ["…"]}]
With a subject, prompt and paraphrases hold one "{}" for it; without, they are whole. unrelated are
whole prompts whose continuation must stay.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from language_models.errors import RequestError
from language_models.positions import fill

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

REQUIRED = {"prompt": str, "target": str, "paraphrases": list, "unrelated": list}
OPTIONAL = {"subject": str}


@dataclass(frozen=True)
class Example:
    """One fact with its subject filled in; group: what must not be on both sides of the split."""

    wordings: tuple[str, ...]
    target: str
    unrelated: tuple[str, ...]
    group: str


@dataclass(frozen=True)
class TrainingData:
    """All facts and the SHA-256 of the file they were read from."""

    examples: tuple[Example, ...]
    digest: str


def read_training_data(path: Path) -> TrainingData:
    """Read a data file; raises RequestError, which names an item by its number only."""
    try:
        content = path.read_bytes()
        items = json.loads(content.decode("utf-8"))
    except FileNotFoundError as error:
        raise RequestError("The data file does not exist. Check the path.") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RequestError("The data file is not valid JSON in UTF-8.") from error
    if not isinstance(items, list) or not items:
        raise RequestError("The data file must hold a JSON list of facts.")
    examples = tuple(_example(number, item) for number, item in enumerate(items))
    return TrainingData(examples, hashlib.sha256(content).hexdigest())


def split(
    examples: Sequence[Example], share: float, seed: int
) -> tuple[list[Example], list[Example]]:
    """Return (training, held out); a subject is in one of them only.

    Raises RequestError when there are too few subjects for two parts.
    """
    groups = sorted({example.group for example in examples})
    count = max(1, round(share * len(groups)))
    if count >= len(groups):
        raise RequestError("Training needs facts of at least two subjects; give more data.")
    order = torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed)).tolist()
    held = {groups[index] for index in order[:count]}
    return (
        [example for example in examples if example.group not in held],
        [example for example in examples if example.group in held],
    )


def _example(number: int, item: Any) -> Example:
    where = f"Item {number} of the data"
    if not isinstance(item, dict):
        raise RequestError(f"{where} is not an object.")
    for key in item:
        if key not in REQUIRED and key not in OPTIONAL:
            known = ", ".join([*REQUIRED, *OPTIONAL])
            raise RequestError(f"{where} has a key that is not known. Known keys: {known}.")
    for key, kind in (REQUIRED | OPTIONAL).items():
        if key not in item and key in REQUIRED:
            raise RequestError(f"{where} has no {key}.")
        if key in item and not isinstance(item[key], kind):
            raise RequestError(f"{where}: {key} must be a {'text' if kind is str else 'list'}.")
    for key in ("paraphrases", "unrelated"):
        if not all(isinstance(text, str) and text.strip() for text in item[key]):
            raise RequestError(f"{where}: {key} must hold texts that are not empty.")
    if not item["unrelated"]:
        raise RequestError(f"{where} has no unrelated prompt. Give at least one that must stay.")
    if not item["target"].strip() or item["target"] != item["target"].lstrip():
        raise RequestError(f"{where}: target is a value without a space before it.")
    return Example(
        tuple(dict.fromkeys(_wordings(where, item))),
        item["target"],
        tuple(item["unrelated"]),
        item["subject"] if "subject" in item else item["prompt"],
    )


def _wordings(where: str, item: dict[str, Any]) -> list[str]:
    found = [item["prompt"], *item["paraphrases"]]
    if not all(text.strip() for text in found):
        raise RequestError(f"{where}: prompt must not be empty.")
    if "subject" in item:
        if not item["subject"].strip() or any(text.count("{}") != 1 for text in found):
            raise RequestError(
                f'{where} has a subject, so each prompt needs exactly one "{{}}" for it.'
            )
        return [fill(text, item["subject"]) for text in found]
    if any("{}" in text for text in found):
        raise RequestError(f'{where} has a "{{}}" and no subject to put there.')
    return found
