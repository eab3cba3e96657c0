"""Quantised copies: what 4-bit and 8-bit users of the weights would get (arXiv 2410.16454)."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from evaluation.attacks.again import asked_again, settings_of
from language_models.architecture import parts
from language_models.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from evaluation.plan import Plan
    from evaluation.results import AttackResult
    from language_models.checkpoint import LanguageModel
    from language_models.progress import Progress

ROUNDING, TORCHAO, BITSANDBYTES = "rounding", "torchao", "bitsandbytes"


def run(
    lm: LanguageModel, plan: Plan, settings: Mapping[str, Any], progress: Progress
) -> AttackResult:
    """Ask the probes of a quantised model; the weights are as before afterwards.

    bits: 4 or 8. library: "rounding" rounds the weights to integers and computes as before;
    "torchao" and "bitsandbytes" compute with their own kernels, on a GPU.
    """
    chosen = settings_of("quantisation", settings)
    bits, library = chosen["bits"], chosen["library"]
    if bits not in (4, 8) or library not in (ROUNDING, TORCHAO, BITSANDBYTES):
        raise RequestError(
            f'Quantise to 4 or 8 bits, by "{ROUNDING}", "{TORCHAO}" or "{BITSANDBYTES}".'
        )
    if library == ROUNDING:
        with rounded(lm, bits, chosen["group"]) as changed:
            how = (
                f"{changed} matrices rounded to {2**bits - 1} steps, in groups of"
                f" {chosen['group']} weights; computed in {lm.model.dtype}".replace("torch.", "")
            )
            return asked_again("quantisation", lm, plan, chosen, progress, {"how": how})
    from evaluation.attacks.libraries import quantised

    other, how = quantised(lm, library, bits)
    return asked_again("quantisation", other, plan, chosen, progress, {"how": how})


@contextmanager
def rounded(lm: LanguageModel, bits: int, group: int) -> Iterator[int]:
    """Round every matrix of the blocks while inside, and give how many; bit for bit back after.

    Embedding and head stay, as the usual libraries leave them.
    """
    weights = [
        (module.weight, isinstance(module, Conv1D))
        for block in parts(lm.model).blocks
        for module in block.modules()
        if isinstance(module, (nn.Linear, Conv1D))
    ]
    before = [weight.detach().clone() for weight, _ in weights]
    try:
        with torch.no_grad():
            for weight, transposed in weights:
                rows = weight.T if transposed else weight
                rows.copy_(to_steps(rows, bits, group))
        yield len(weights)
    finally:
        with torch.no_grad():
            for (weight, _), kept in zip(weights, before, strict=True):
                weight.copy_(kept)


def to_steps(matrix: Tensor, bits: int, group: int) -> Tensor:
    """Return a matrix (d_out, d_in) on 2^bits - 1 steps, even about 0, per `group` inputs.

    The largest weight of a group keeps its value; the step is it over 2^(bits - 1) - 1.
    """
    most = 2 ** (bits - 1) - 1
    rows, columns = matrix.shape
    padded = nn.functional.pad(matrix.float(), (0, -columns % group))
    groups = padded.view(rows, -1, group)
    step = (groups.abs().amax(dim=-1, keepdim=True) / most).clamp(min=1e-12)
    stepped: Tensor = (groups / step).round() * step
    return stepped.view(rows, -1)[:, :columns].to(matrix.dtype)
