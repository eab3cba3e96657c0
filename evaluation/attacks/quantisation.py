"""Quantised copies: what 4-bit and 8-bit users of the weights would get (arXiv 2410.16454)."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

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
        matrix
        for block in parts(lm.model).blocks
        for module in block.modules()
        for matrix in _matrices(module)
    ]
    before = [weight.clone() for weight in weights]
    try:
        for weight in weights:
            weight.copy_(to_steps(weight, bits, group))
        yield sum(weight[..., 0, 0].numel() for weight in weights)
    finally:
        for weight, kept in zip(weights, before, strict=True):
            weight.copy_(kept)


def _matrices(module: nn.Module) -> list[Tensor]:
    """Return views (d_out, d_in) of a module's own matrices, or (experts, d_out, d_in)."""
    if isinstance(module, nn.Linear):
        return [module.weight.detach()]
    if isinstance(module, Conv1D):
        return [module.weight.detach().T]
    experts = [one.detach() for one in module.parameters(recurse=False) if one.dim() == 3]
    return [one.mT if getattr(module, "is_transposed", False) else one for one in experts]


def to_steps(matrix: Tensor, bits: int, group: int) -> Tensor:
    """Return a matrix (…, d_out, d_in) on 2^bits - 1 steps, even about 0, per `group` inputs.

    The largest weight of a group keeps its value; the step is it over 2^(bits - 1) - 1.
    """
    most = 2 ** (bits - 1) - 1
    columns = matrix.shape[-1]
    padded = nn.functional.pad(matrix.float(), (0, -columns % group))
    groups = padded.view(*padded.shape[:-1], -1, group)
    largest = groups.abs().amax(dim=-1, keepdim=True).clamp(min=1e-12)
    stepped: Tensor = (groups / largest * most).round() / most * largest
    return stepped.flatten(-2)[..., :columns].to(matrix.dtype)
