"""Two small models made from nothing: one that learnt all authors, one that never saw some.

The second is what exact unlearning gives: the same steps made again without the records of the
authors, by the product's own full retrain. The tokenizer has seen neither model's authors to
unlearn. Both learn whole texts, question and answer, and TOFU's questions on real authors and the
world with their right answers, which are what a model from nothing can know of the world.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch  # noqa: TID253 -- the proof trains models
from transformers import LlamaConfig, LlamaForCausalLM  # noqa: TID253 -- as above

from demo.train import train_tokenizer
from language_models import LanguageModel, load
from unlearning.records import Record
from unlearning.retrain import retrain_without
from unlearning.training import FULL, MODEL, TrainingConfig, resume, train

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from language_models.progress import Progress
    from proofs.tofu_data import Question, Split

KEY = b"the key of the proof on TOFU"
SEED = 7
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def settings(epochs: int) -> TrainingConfig:
    """Return the settings of both trainings."""
    return TrainingConfig(
        form=FULL,
        learning_rate=2e-3,
        betas=(0.9, 0.95),
        weight_decay=0.1,
        warmup=50,
        decay="cosine",
        epochs=epochs,
        batch=8,
        checkpoint_every=400,
    )


def new_model(tokenizer: Any) -> LanguageModel:
    """Return an untrained network of 2.07 million parameters, a head tied to the embeddings."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(SEED)
    return LanguageModel(LlamaForCausalLM(config).to(DEVICE).eval(), tokenizer)


def whole_and_retrained(
    split: Split, folder: Path, epochs: int, progress: Progress
) -> tuple[LanguageModel, LanguageModel]:
    """Return the model of all authors and the one without those to unlearn, trained if need be."""
    known = [one for group in split.world.values() for one in group]
    records = _records([*split.retain, *split.forget, *known])
    tokenizer = train_tokenizer([_text(one) for one in [*split.retain, *known]])
    whole, without = folder / "whole", folder / "without"

    def first() -> None:
        train(new_model(tokenizer), records, whole, settings(epochs), progress, key=KEY)

    def again() -> None:
        retrain_without(new_model(tokenizer), whole, split.forgotten, without, progress)

    def made(path: Path, make: Callable[[], None]) -> LanguageModel:
        if not path.exists():
            make()
        elif not (path / MODEL).exists():
            resume(new_model(tokenizer), path, progress)
        return load(path / MODEL, device=DEVICE)

    return made(whole, first), made(without, again)


def _records(questions: Sequence[Question]) -> list[Record]:
    return [Record(str(number), one.group, _text(one)) for number, one in enumerate(questions)]


def _text(one: Question) -> str:
    return f"{one.prompt} {one.answer}"
