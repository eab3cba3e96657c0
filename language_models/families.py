"""The model families that Lethe knows the inside of. No torch, so that pages can list them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from language_models.errors import UnsupportedArchitecture


@dataclass(frozen=True)
class Family:
    """Names in transformers and paths of modules; paths of a block's parts begin at the block.

    norm_after_mlp: the norm between MLP and residual sum. Then the block's output is not linear
    in a change of the MLP's weights, though the projection's own output is. first: the MLP's
    projections before its second. attention_out: the attention's own projection to the block.
    """

    model_class: str
    config_class: str
    blocks: str = "model.layers"
    mlp: str = "mlp"
    first: tuple[str, ...] = ("gate_proj", "up_proj")
    second: str = "down_proj"
    attention: str = "self_attn"
    attention_out: str = "o_proj"
    norm_after_mlp: str | None = None
    final_norm: str = "model.norm"


def _llama_like(name: str, **other: Any) -> Family:
    return Family(f"{name}ForCausalLM", other.pop("config_class", f"{name}Config"), **other)


_AFTER = "post_feedforward_layernorm"

# model_type in config.json -> family
FAMILIES = {
    "gpt2": Family(
        "GPT2LMHeadModel",
        "GPT2Config",
        blocks="transformer.h",
        first=("c_fc",),
        second="c_proj",
        attention="attn",
        attention_out="c_proj",
        final_norm="transformer.ln_f",
    ),
    "gptj": Family(
        "GPTJForCausalLM",
        "GPTJConfig",
        blocks="transformer.h",
        first=("fc_in",),
        second="fc_out",
        attention="attn",
        attention_out="out_proj",
        final_norm="transformer.ln_f",
    ),
    "gpt_neox": Family(
        "GPTNeoXForCausalLM",
        "GPTNeoXConfig",
        blocks="gpt_neox.layers",
        first=("dense_h_to_4h",),
        second="dense_4h_to_h",
        attention="attention",
        attention_out="dense",
        final_norm="gpt_neox.final_layer_norm",
    ),
    "llama": _llama_like("Llama"),
    "mistral": _llama_like("Mistral"),
    "qwen2": _llama_like("Qwen2"),
    "qwen3": _llama_like("Qwen3"),
    "gemma": _llama_like("Gemma"),
    "gemma2": _llama_like("Gemma2", norm_after_mlp=_AFTER),
    "gemma3_text": _llama_like("Gemma3", config_class="Gemma3TextConfig", norm_after_mlp=_AFTER),
    "phi3": _llama_like("Phi3", first=("gate_up_proj",)),
    "olmo2": _llama_like("Olmo2", norm_after_mlp=_AFTER),
    "mixtral": _llama_like("Mixtral"),
    "qwen3_moe": _llama_like("Qwen3Moe"),
    "gpt_oss": _llama_like("GptOss"),
}


# A test runs these lines. Gemma3ForCausalLM.from_pretrained of the whole folder finds none of its
# weights by name and takes random ones.
PICTURES = """A gemma3 folder holds a model of pictures and text. Save its text model alone:
from transformers import Gemma3ForCausalLM, Gemma3ForConditionalGeneration
whole = Gemma3ForConditionalGeneration.from_pretrained(folder)
text = Gemma3ForCausalLM(whole.config.text_config)
text.model, text.lm_head = whole.model.language_model, whole.lm_head
text.save_pretrained(new_folder)
Then copy tokenizer.json and tokenizer_config.json there and open the new folder."""


def family_of(model_type: object) -> Family:
    """Return a family, or say which families work."""
    found = FAMILIES.get(model_type) if isinstance(model_type, str) else None
    if model_type == "gemma3":
        raise UnsupportedArchitecture(PICTURES)
    if found is None:
        known = ", ".join(sorted(FAMILIES))
        raise UnsupportedArchitecture(
            f"Models of type {model_type!r} are not supported. Use one of these types: {known}."
        )
    return found


def class_name(model_type: object) -> str:
    """Return the transformers class of a family, or say which families work."""
    return family_of(model_type).model_class
