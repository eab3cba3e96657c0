"""Random tensors, and models that are nothing but parameters, for tests of weight changes."""

from __future__ import annotations

import torch
from torch import nn

from language_models import LanguageModel

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


class _Weights(nn.Module):
    """Parameters p0, p1 … of any shape, as a model with experts, norms and scalars has them."""

    def __init__(self, *tensors: torch.Tensor) -> None:
        super().__init__()
        for number, tensor in enumerate(tensors):
            self.register_parameter(f"p{number}", nn.Parameter(tensor))


def model_of(*tensors: torch.Tensor) -> LanguageModel:
    return LanguageModel(_Weights(*tensors), None)


def random(shape: tuple[int, ...], seed: int, size: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64) * size
