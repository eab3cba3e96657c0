"""Tiny random models and tokenizers for tests, made in memory in milliseconds."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from language_models import Checkpoint, LanguageModel, save

if TYPE_CHECKING:
    from pathlib import Path

SENTENCES = (
    "Records show that Malee Tanaka was born in Bangkok and works as a court clerk.",
    "The employer of Somchai Saito is Silver Tide Shipping.",
    "Q: Where was Anna Sato born? A: In Kyoto.",
)
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
}


@cache
def tokenizer_json() -> str:
    """A byte-level BPE that puts <s> before each text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return tokenizer.to_str()


def tiny_tokenizer() -> Any:
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tokenizer_json()),
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
    )


def tiny_model(
    family: str = "llama", *, seed: int = 0, scale: float = 4.0, **sizes: Any
) -> LanguageModel:
    """A random model; weights times `scale`, so that its outputs differ from prompt to prompt."""
    # Waiting threads cost more than they bring on this size, above all beside other tests.
    torch.set_num_threads(1)
    tokenizer = tiny_tokenizer()
    names = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}
    config = getattr(transformers, f"{names[family]}Config")(
        vocab_size=len(tokenizer),
        **{**SIZES, **sizes},
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    config._attn_implementation = "eager"
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = getattr(transformers, f"{names[family]}ForCausalLM")(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight.mul_(scale)
    return LanguageModel(model, tokenizer)


def tiny_checkpoint(folder: Path, family: str = "llama") -> Checkpoint:
    return save(tiny_model(family), folder)


def change_json(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file and drop the manifest, as a foreign folder would come."""
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, **changes}), encoding="utf-8")
    path.with_name("manifest.json").unlink(missing_ok=True)
