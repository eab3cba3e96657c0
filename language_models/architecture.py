"""Where each supported family keeps its blocks, its MLP output, its embedding and its head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from language_models.errors import RequestError, UnsupportedArchitecture

if TYPE_CHECKING:
    from torch import nn

# model_type in config.json -> name of the class in transformers. All four share one layout:
# model.layers.{i}.mlp.down_proj is a Linear without post-FFN norm, so the block output is
# linear in a change of its weight.
FAMILIES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}


def class_name(model_type: object) -> str:
    """Return the transformers class of a family, or say which families work."""
    name = FAMILIES.get(model_type) if isinstance(model_type, str) else None
    if name is None:
        known = ", ".join(sorted(FAMILIES))
        raise UnsupportedArchitecture(
            f"Models of type {model_type!r} are not supported. Use one of these types: {known}."
        )
    return name


@dataclass(frozen=True)
class Parts:
    """The parts of a model that editing and tracing look at."""

    blocks: tuple[nn.Module, ...]
    embed: nn.Embedding
    head: nn.Linear

    def mlp_out(self, layer: int) -> nn.Linear:
        """Return the MLP's second projection of `layer`: (d_ff) -> (d_model)."""
        return cast("nn.Linear", cast("Any", self._block(layer)).mlp.down_proj)

    def _block(self, layer: int) -> nn.Module:
        if not 0 <= layer < len(self.blocks):
            raise RequestError(
                f"The model has layers 0 to {len(self.blocks) - 1}; layer {layer} is none of them."
            )
        return self.blocks[layer]


def parts(model: Any) -> Parts:
    """Return the parts of a causal language model of a supported family."""
    class_name(model.config.model_type)
    return Parts(
        blocks=tuple(model.model.layers),
        embed=model.get_input_embeddings(),
        head=model.get_output_embeddings(),
    )


def mlp_out_name(layer: int) -> str:
    """Return the parameter name of the MLP's second projection of `layer`."""
    return f"model.layers.{layer}.mlp.down_proj.weight"
