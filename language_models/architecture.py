"""Where each supported family keeps its blocks, its MLP's second projection, its norms, its head.

Orientation is read from the type of a module (Conv1D keeps its weight transposed), never from
its shape or name: with d_ff = d_model a shape says nothing, and GPT-2 and GPT-Neo share names.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers.pytorch_utils import Conv1D

from language_models.errors import RequestError, UnsupportedArchitecture
from language_models.families import FAMILIES, Family, class_name, family_of

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["FAMILIES", "Family", "Parts", "Projection", "class_name", "family_of", "parts"]

MIXTURE = (
    "Layer {layer} is a mixture of experts: each token's output is a sum over several experts, so"
    " no single matrix maps its key to its value and closed forms do not hold. {dense}"
    "Use finetune, lora, ultraedit or grace for this model."
)


@dataclass(frozen=True)
class Projection:
    """One matrix of a block, seen as y = W x + b with W (d_out, d_in) whatever its module stores.

    name: the parameter's name in the model. transposed: the module stores Wᵀ (Conv1D).
    """

    name: str
    module: nn.Module
    transposed: bool

    @property
    def parameter(self) -> nn.Parameter:
        """The parameter as the module stores it.

        Raises RequestError while Accelerate keeps the weights elsewhere.
        """
        weight = cast("nn.Parameter", self.module.weight)
        if weight.is_meta:
            raise RequestError(
                f"{self.name} is not on a device but kept in memory or in files. Load the model"
                " with a device map that has this layer on a device, or edit another layer."
            )
        return weight

    @property
    def matrix(self) -> Tensor:
        """W as (d_out, d_in): a view without gradient of the weights as they are now."""
        stored = self.parameter.detach()
        return stored.T if self.transposed else stored

    @property
    def d_out(self) -> int:
        """Width of the output."""
        return cast("nn.Parameter", self.module.weight).shape[1 if self.transposed else 0]

    @property
    def d_in(self) -> int:
        """Width of the input, the key."""
        return cast("nn.Parameter", self.module.weight).shape[0 if self.transposed else 1]

    def stored(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """Return the factors of ΔW = left @ right in the orientation of the parameter."""
        return (right.T, left.T) if self.transposed else (left, right)


@dataclass(frozen=True)
class Parts:
    """The parts of a causal language model that editing and tracing look at."""

    model: Any
    family: Family

    @cached_property
    def blocks(self) -> tuple[nn.Module, ...]:
        """The transformer blocks in order."""
        return tuple(self.model.get_submodule(self.family.blocks))

    @property
    def backbone(self) -> Any:
        """The model without its head: token ids to normed states."""
        return self.model.base_model

    @property
    def embed(self) -> nn.Embedding:
        """The token embedding."""
        return cast("nn.Embedding", self.model.get_input_embeddings())

    @property
    def head(self) -> nn.Linear:
        """The output layer over the vocabulary."""
        return cast("nn.Linear", self.model.get_output_embeddings())

    @property
    def final_norm(self) -> nn.Module:
        """The norm between the last block and the head."""
        return cast("nn.Module", self.model.get_submodule(self.family.final_norm))

    def logits(self, states: Tensor) -> Tensor:
        """Return the logits (…, v) of normed states (…, d), with the family's soft cap."""
        logits: Tensor = self.head(states)
        cap = getattr(self.model.config, "final_logit_softcapping", None)
        return logits if cap is None else torch.tanh(logits / cap) * cap

    def mlp(self, layer: int) -> nn.Module:
        """Return the whole MLP (or mixture) of `layer`."""
        return self._block(layer).get_submodule(self.family.mlp)

    def attention(self, layer: int) -> nn.Module:
        """Return the attention of `layer`."""
        return self._block(layer).get_submodule(self.family.attention)

    def norm_after_mlp(self, layer: int) -> nn.Module | None:
        """Return the norm between the MLP and the residual sum, where the family has one."""
        name = self.family.norm_after_mlp
        return None if name is None else self._block(layer).get_submodule(name)

    def is_dense(self, layer: int) -> bool:
        """Whether the MLP of `layer` ends in one projection, not in a mixture of experts."""
        return hasattr(self.mlp(layer), self.family.second)

    def mlp_out(self, layer: int) -> Projection:
        """Return the MLP's second projection of `layer`: (d_ff) -> (d_model).

        Raises UnsupportedArchitecture for a mixture of experts, RequestError for no such layer.
        """
        if not self.is_dense(layer):
            dense = [str(n) for n in range(len(self.blocks)) if self.is_dense(n)]
            hint = f"Dense layers of this model: {', '.join(dense)}. " if dense else ""
            raise UnsupportedArchitecture(MIXTURE.format(layer=layer, dense=hint))
        return self.projection(layer, f"{self.family.mlp}.{self.family.second}")

    def projection(self, layer: int, path: str) -> Projection:
        """Return the matrix at `path` inside the block of `layer`."""
        module = self._block(layer).get_submodule(path)
        if not isinstance(module, (torch.nn.Linear, Conv1D)):
            raise UnsupportedArchitecture(f"{path} is neither Linear nor Conv1D.")
        name = f"{self.family.blocks}.{layer}.{path}.weight"
        return Projection(name, module, isinstance(module, Conv1D))

    def _block(self, layer: int) -> nn.Module:
        if not 0 <= layer < len(self.blocks):
            raise RequestError(
                f"The model has layers 0 to {len(self.blocks) - 1}; layer {layer} is none of them."
            )
        return self.blocks[layer]


def parts(model: Any) -> Parts:
    """Return the parts of a causal language model of a supported family.

    Raises UnsupportedArchitecture for another family and for attention to later tokens.
    """
    if getattr(model.config, "use_bidirectional_attention", None):
        raise UnsupportedArchitecture(
            "This model lets tokens see later ones (use_bidirectional_attention), as models for"
            " search do. Use one that writes text from left to right."
        )
    return Parts(model, family_of(model.config.model_type))
