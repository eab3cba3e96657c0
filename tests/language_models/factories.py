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
from language_models.families import FAMILIES, family_of

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
# What a family needs beside, or names in a way of its own.
OWN: dict[str, dict[str, Any]] = {
    "gptj": {"rotary_dim": 4},
    "gemma": {"head_dim": 8},
    "gemma2": {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 64},
    "gemma3_text": {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 64},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen3_moe": {
        "head_dim": 8,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "mlp_only_layers": [1],
    },
    "gpt_oss": {
        "head_dim": 8,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "sliding_window": 64,
        "rope_parameters": {"rope_type": "default", "rope_theta": 150_000.0},
    },
}
MIXED_ATTENTION = ("gemma2", "gemma3_text", "gpt_oss")
MIXTURES = ("mixtral", "qwen3_moe", "gpt_oss")
# Families in which each layer has an MLP of one piece.
DENSE = tuple(sorted(FAMILIES.keys() - set(MIXTURES)))


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
    family: str = "llama",
    *,
    seed: int = 0,
    scale: float = 4.0,
    noise: float = 0.0,
    dtype: torch.dtype = torch.float32,
    tied: bool = True,
    tokenizer: Any = None,
    **sizes: Any,
) -> LanguageModel:
    """A random model of any supported family, in evaluation mode.

    scale: factor on all matrices, so that the outputs differ from prompt to prompt. noise: spread
    added to biases and norms, which start as zeros or ones. sizes: settings of the config, by
    Llama's names where the family has others (intermediate_size is GPT-2's n_inner).
    """
    # Waiting threads cost more than they bring on this size, above all beside other tests.
    torch.set_num_threads(1)
    tokenizer = tokenizer or tiny_tokenizer()
    config = tiny_config(family, len(tokenizer), {"tie_word_embeddings": tied, **sizes})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = getattr(transformers, family_of(family).model_class)(config).eval()
        with torch.no_grad():
            for weight in model.parameters():
                if weight.dim() > 1:
                    weight.mul_(scale)
                elif noise:
                    weight.add_(torch.randn_like(weight) * noise)
    return LanguageModel(model.to(dtype), tokenizer)


def tiny_config(family: str, vocab_size: int, sizes: dict[str, Any]) -> Any:
    """The config of a tiny model; a setting that the family does not have is left out."""
    described = getattr(transformers, family_of(family).config_class)
    wanted = {**SIZES, **OWN.get(family, {}), **sizes, "vocab_size": vocab_size}
    if family in ("gpt2", "gptj"):
        wanted["n_inner"] = wanted.pop("intermediate_size")
    if family in MIXED_ATTENTION and "layer_types" not in wanted:
        kinds = ("sliding_attention", "full_attention")
        wanted["layer_types"] = [kinds[n % 2] for n in range(wanted["num_hidden_layers"])]
    known = described().to_dict().keys() | described.attribute_map.keys()
    config = described(
        **{name: value for name, value in wanted.items() if name in known},
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    config._attn_implementation = "eager"
    return config


def tiny_checkpoint(folder: Path, family: str = "llama") -> Checkpoint:
    return save(tiny_model(family), folder)


def change_json(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file and drop the manifest, as a foreign folder would come."""
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, **changes}), encoding="utf-8")
    path.with_name("manifest.json").unlink(missing_ok=True)
