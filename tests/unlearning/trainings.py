"""Records of made-up people, small trainings of them, and a plain loop to compare with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from tests.language_models.factories import tiny_model
from unlearning.records import Record, tokens
from unlearning.training import TrainingConfig, schedule

if TYPE_CHECKING:
    from collections.abc import Collection

    from language_models import LanguageModel

KEY = b"k" * 32
PEOPLE = ("Malee Tanaka", "Somchai Saito", "Anna Sato", "Ploy Mori", "Kenji Wong")
FULL = TrainingConfig(
    form="full",
    learning_rate=1e-3,
    weight_decay=0.01,
    warmup=2,
    decay="cosine",
    epochs=2,
    batch=2,
    checkpoint_every=2,
)
LORA = TrainingConfig(
    form="lora", learning_rate=1e-2, epochs=2, batch=2, accumulate=2, checkpoint_every=1, rank=2
)
BOTH = {"full": FULL, "lora": LORA}


def records(word: str = "Bangkok") -> list[Record]:
    """Two records a person; their lengths differ."""
    rows = []
    for number, name in enumerate(PEOPLE):
        subject = f"subject-{number}"
        rows.append(Record(f"{number}-a", subject, f"{name} was born in {word}."))
        rows.append(Record(f"{number}-b", subject, f"The employer of {name} is Tide{number}." * 2))
    return rows


def model(family: str = "llama", seed: int = 0) -> LanguageModel:
    sizes: dict[str, Any] = {"num_hidden_layers": 2, "hidden_size": 16, "intermediate_size": 24}
    return tiny_model(family, seed=seed, scale=1.0, **sizes)


def plain_loop(
    lm: LanguageModel, config: TrainingConfig, without: Collection[str] = ()
) -> dict[str, torch.Tensor]:
    """Train all weights on the schedule with some people never seen, by nothing but torch."""
    named = {record.id: record for record in records()}
    rows = {name: tokens(lm, one.text, config.max_tokens) for name, one in named.items()}
    weights = dict(lm.model.named_parameters())
    adamw = torch.optim.AdamW(
        weights.values(), lr=1.0, betas=config.betas, weight_decay=config.weight_decay
    )
    for step in schedule(list(named), config):
        batches = [[rows[one] for one in slot if named[one].subject not in without]
                   for slot in step.slots]  # fmt: skip
        count = sum(len(row) - 1 for batch in batches for row in batch)
        if not count:
            continue
        for batch in filter(None, batches):
            (_sum_of_losses(lm.model, batch) / count).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(weights.values(), config.max_gradient)
        adamw.param_groups[0]["lr"] = step.learning_rate
        adamw.step()
        adamw.zero_grad()
    moments = {
        f"{part}.{name}": adamw.state[weight][part]
        for name, weight in weights.items()
        for part in ("step", "exp_avg", "exp_avg_sq")
    }
    return {**{f"weight.{name}": one.detach() for name, one in weights.items()}, **moments}


def _sum_of_losses(model: Any, batch: list[list[int]]) -> torch.Tensor:
    width = max(len(row) for row in batch)
    ids = torch.tensor([row + [0] * (width - len(row)) for row in batch])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in batch])
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
    labels = torch.where(mask == 1, ids, -100)[:, 1:]
    return torch.nn.functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), reduction="sum"
    )
