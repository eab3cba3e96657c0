"""Copies of a model as torchao and bitsandbytes quantise it, with their own kernels.

Neither is a pinned package of Lethe: who wants this attack installs one of them.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from language_models.architecture import parts
from language_models.errors import RequestError

if TYPE_CHECKING:
    from language_models.checkpoint import LanguageModel

TORCHAO, BITSANDBYTES = "torchao", "bitsandbytes"


def quantised(lm: LanguageModel, library: str, bits: int) -> tuple[LanguageModel, str]:
    """Return a quantised copy and how it was made; the model itself stays.

    Embedding and head stay as they are. Raises RequestError where the library is not installed,
    has no such kernel on this device, or would leave matrices as they are (Conv1D of GPT-2, the
    experts of a mixture).
    """
    model = copy.deepcopy(lm.model)
    blocks = parts(model).blocks
    modules = [module for block in blocks for module in block.modules()]
    experts = any(one.dim() == 3 for block in blocks for one in block.parameters())
    if experts or any(isinstance(module, Conv1D) for module in modules):
        kind = "experts" if experts else "Conv1D matrices"
        raise RequestError(f"{library} does not quantise the {kind} of this family. Use rounding.")
    try:
        how = _torchao(blocks, bits) if library == TORCHAO else _bitsandbytes(blocks, bits)
    except ImportError as error:
        raise RequestError(f"The package {library} cannot be used here. Install it.") from error
    return replace(lm, model=model), f"{library} {version(library)}, {how}"


def _torchao(blocks: tuple[nn.Module, ...], bits: int) -> str:
    from torchao.quantization import Int4WeightOnlyConfig, Int8WeightOnlyConfig, quantize_

    config: Any = Int8WeightOnlyConfig() if bits == 8 else Int4WeightOnlyConfig(group_size=32)
    for block in blocks:
        quantize_(block, config)
    return f"int{bits} weights"


def _bitsandbytes(blocks: tuple[nn.Module, ...], bits: int) -> str:
    from bitsandbytes.nn import Int8Params, Linear4bit, Linear8bitLt, Params4bit

    for block in blocks:
        for path, module in list(block.named_modules()):
            if not isinstance(module, nn.Linear):
                continue
            sizes = (module.in_features, module.out_features)
            plain, device = module.weight.data, module.weight.device
            made: Any
            if bits == 8:
                made = Linear8bitLt(*sizes, bias=module.bias is not None, has_fp16_weights=False)
                made.weight = Int8Params(plain.cpu(), requires_grad=False, has_fp16_weights=False)
            else:
                made = Linear4bit(*sizes, bias=module.bias is not None, quant_type="nf4",
                                  compute_dtype=plain.dtype)  # fmt: skip
                made.weight = Params4bit(plain.cpu(), requires_grad=False, quant_type="nf4")
            made.bias = module.bias
            block.set_submodule(path, made.to(device))
    return "LLM.int8()" if bits == 8 else "NF4"
