"""The keys of edits made before, per version of a model: so that later edits keep earlier ones.

Without them a sequence of edits undoes itself; with them edits one after another equal one batch.
A memory belongs to the weights it was made on and is refused on others. It tells whom the edits
were about almost as well as the weight change does: store it encrypted.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from language_models.architecture import parts
from language_models.checkpoint import tensor_digest
from language_models.errors import DeltaError, RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from language_models.checkpoint import LanguageModel

FORMAT = "lethe-edited-keys-1"


@dataclass(frozen=True)
class EditedKeys:
    """Per layer K Kᵀ (d_ff, d_ff) in float64 over all keys edited, and the weights they made.

    digests: layer -> SHA-256 of the MLP's second projection after the last edit. count: edits.
    value_norm: mean norm of the values of the first batch, made on the unedited model; 0: none.
    """

    sums: Mapping[int, Tensor] = field(default_factory=dict)
    digests: Mapping[int, str] = field(default_factory=dict)
    count: int = 0
    value_norm: float = 0.0

    def outer(self, lm: LanguageModel, layer: int) -> Tensor:
        """Return K Kᵀ of `layer` on the model's device; zero where nothing was edited.

        Raises RequestError when the model is not the one that the earlier edits made.
        """
        projection = parts(lm.model).mlp_out(layer)
        if layer not in self.sums:
            return torch.zeros(1, dtype=torch.float64, device=lm.device)
        if tensor_digest(projection.parameter) != self.digests[layer]:
            raise RequestError(
                f"The memory of earlier edits belongs to other weights of layer {layer}. Use the"
                " model that they made, or start without memory."
            )
        return self.sums[layer].to(lm.device)

    def after(
        self, lm: LanguageModel, keys: Mapping[int, Tensor], edits: int, value_norm: float = 0.0
    ) -> EditedKeys:
        """Return the memory with K (d_ff, n) per layer added, for the weights as they are now."""
        model = parts(lm.model)
        sums = dict(self.sums)
        for layer, K in keys.items():
            total = (K.double() @ K.double().T).cpu()
            sums[layer] = sums[layer] + total if layer in sums else total
        digests = {layer: tensor_digest(model.mlp_out(layer).parameter) for layer in sums}
        return EditedKeys(sums, digests, self.count + edits, self.value_norm or value_norm)

    def to_bytes(self) -> bytes:
        """Return the memory as the content of one safetensors file, to be encrypted at once."""
        header = {
            "count": self.count,
            "digests": {str(layer): digest for layer, digest in self.digests.items()},
            "value_norm": self.value_norm,
        }
        tensors = {str(layer): total.contiguous() for layer, total in self.sums.items()}
        return save_tensors(tensors, metadata={"format": FORMAT, "memory": json.dumps(header)})

    @classmethod
    def from_bytes(cls, content: bytes) -> EditedKeys:
        """Read what `to_bytes` wrote; raises DeltaError when it is damaged or something else."""
        try:
            tensors = load_tensors(content)
            head = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
            stored = json.loads(head["__metadata__"]["memory"])
            digests = {int(layer): digest for layer, digest in stored["digests"].items()}
            sums = {int(name): total for name, total in tensors.items()}
            if head["__metadata__"]["format"] != FORMAT or sums.keys() != digests.keys():
                raise DeltaError("This file is not a memory of edits of this version of Lethe.")
            return cls(sums, digests, stored["count"], stored["value_norm"])
        except (SafetensorError, KeyError, ValueError) as error:
            raise DeltaError("The memory of edits is missing or damaged. Restore it.") from error
