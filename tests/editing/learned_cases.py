"""Tiny facts and tiny editors for the tests of the learned methods."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from editing import EditRequest
from editing.gradient_factors import Factors, Scored, gradient_factors
from editing.learned.change import projections_of
from editing.learned.data import read_training_data
from editing.learned.files import save_editor
from editing.learned.network import Design, Editor, Matrix
from editing.learned.training import Training, train
from language_models.positions import with_target
from tests.language_models.factories import tiny_model

if TYPE_CHECKING:
    from pathlib import Path

    from editing.learned.change import Rule
    from language_models import LanguageModel

REQUEST = EditRequest(
    "Malee Tanaka",
    "{} was born in",
    "Kyoto.",
    paraphrases=("Records show that {} was born in",),
)
OTHER = EditRequest("Somchai Saito", "The employer of {} is", "was")
SMALL = {
    "layers": (1, 2),
    "rank": 8,
    "edits": 2,
    "steps": 6,
    "check_every": 3,
    "continuation": 2,
    "held_out": 0.25,
    "held_out_facts": 2,
    "statistics": 3,
    "rate": 1e-2,
}


def facts() -> list[dict[str, Any]]:
    """Facts of four people."""
    names = ("Malee Tanaka", "Somchai Saito", "Anna Sato", "Kana Tide")
    return [
        {
            "prompt": "{} was born in",
            "subject": name,
            "target": target,
            "paraphrases": ["Records show that {} was born in", "Where was {} born? A: In"],
            "unrelated": [f"{names[number - 1]} works as", "The employer of Anna is"],
        }
        for number, name in enumerate(names)
        for target in ("Kyoto.", "Bangkok.")
    ]


def write_facts(folder: Path, content: Any = None) -> Path:
    path = folder / "facts.json"
    path.write_text(json.dumps(facts() if content is None else content), encoding="utf-8")
    return path


def tiny_training(lm: LanguageModel, rule: Rule, folder: Path, **changes: Any) -> Training:
    data = read_training_data(write_facts(folder))
    return Training(lm, data, rule, rule.settings(**{**SMALL, **changes}))


def tiny_editor(lm: LanguageModel, rule: Rule, folder: Path, **changes: Any) -> str:
    """Train a tiny editor and return its folder."""
    trained = train(tiny_training(lm, rule, folder, **changes))
    save_editor(trained, folder / "editor")
    return str(folder / "editor")


def scored(lm: LanguageModel, *texts: tuple[str, str]) -> list[Scored]:
    rows = [with_target(lm, prompt, target) for prompt, target in texts]
    return [Scored(tuple(ids), start) for ids, start in rows]


def double_model(family: str = "llama") -> LanguageModel:
    return tiny_model(family, dtype=torch.float64)


def some_factors(lm: LanguageModel, tokens: str = "all", every: str = "all") -> dict[str, Factors]:
    """Factors of two rows of different lengths at layers 1 and 2."""
    one, other = scored(
        lm, ("Malee Tanaka was born in", "Kyoto."), ("Anna works as", "a court clerk.")
    )
    rows = [one, replace(other, share=0.5)]
    return gradient_factors(lm, projections_of(lm, (1, 2), every), rows, tokens=tokens)


def random_editor(lm: LanguageModel, rule: Rule, every: str = "all") -> Editor:
    """An editor in float64 whose layers are not the identity, with normaliser statistics."""
    projections = projections_of(lm, (1, 2), every)
    matrices = tuple(Matrix(one.name, one.d_out, one.d_in) for one in projections)
    ridge = 0.3 if rule.ridge else None
    editor = Editor(Design(matrices, 8, 2, rule.scale_first, -0.05, ridge), seed=0).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in editor.parameters():
            noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
            weight.add_(0.1 * noise)
    for name, factors in some_factors(lm, rule.tokens, every).items():
        rows = torch.cat([factors.keys, factors.gradients], dim=1)
        editor.at(name)[0].normaliser.update(rows)
    return editor
