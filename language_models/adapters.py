"""LoRA adapters (Hu et al. 2022) that act through hooks, in PEFT's own names and file format.

The model keeps its modules and weights. Several adapters can act in one forward, each on its own
part of the rows, which is how the experts of a mixture run together.
"""

from __future__ import annotations

import json
import math
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch.nn import Parameter
from transformers.pytorch_utils import Conv1D

from language_models.architecture import Projection, parts
from language_models.delta import WeightDelta
from language_models.errors import RequestError
from language_models.moments import hooked

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from language_models.checkpoint import LanguageModel

    # PEFT's name of a factor -> A (r, d_in) or B (d_out, r)
    Adapter = Mapping[str, Tensor]

PREFIX = "base_model.model."


def matrices(
    lm: LanguageModel, targets: Sequence[str] = (), layers: Sequence[int] = ()
) -> tuple[Projection, ...]:
    """Return the matrices of the blocks that an adapter may change.

    targets: ends of their names; none: all of the attention and, where it is dense, of the MLP.
    layers: those blocks alone; none: all. Raises RequestError when a block has none of them.
    """
    model = parts(lm.model)
    found: list[Projection] = []
    for layer in layers or range(len(model.blocks)):
        model.mlp(layer)  # says which layers there are
        roots = [model.family.attention, *([model.family.mlp] if model.is_dense(layer) else [])]
        paths = [
            path
            for path, module in model.blocks[layer].named_modules()
            if isinstance(module, (torch.nn.Linear, Conv1D))
            and (path.split(".")[-1] in targets if targets else path.startswith(tuple(roots)))
        ]
        if not paths:
            raise RequestError(
                f"No matrix of layer {layer} has one of the names in targets or modules."
            )
        found += [model.projection(layer, path) for path in paths]
    return tuple(found)


def names_of(one: Projection) -> tuple[str, str]:
    """Return PEFT's names of A and B of a matrix."""
    return factor_names(one.name)


def factor_names(weight: str) -> tuple[str, str]:
    """Return PEFT's names of A and B of the matrix whose parameter has this name."""
    path = PREFIX + weight.removesuffix(".weight")
    return f"{path}.lora_A.weight", f"{path}.lora_B.weight"


def fresh(places: Sequence[Projection], rank: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Return an adapter that changes nothing yet: A uniform as PEFT draws it, B of zeros."""
    adapter = {}
    for one in places:
        first, second = names_of(one)
        drawn = torch.rand(rank, one.d_in, generator=generator)
        adapter[first] = (2 * drawn - 1) / math.sqrt(one.d_in)
        adapter[second] = torch.zeros(one.d_out, rank)
    return adapter


def trainable(
    places: Sequence[Projection], rank: int, generator: torch.Generator
) -> dict[str, Parameter]:
    """Return a fresh adapter to be trained, each factor on the device of its matrix."""
    drawn = fresh(places, rank, generator)
    return {
        name: Parameter(drawn[name].to(one.parameter.device))
        for one in places
        for name in names_of(one)
    }


def stacked(adapters: Sequence[Adapter], device: torch.device) -> dict[str, Tensor]:
    """Return several adapters as one: A (n, r, d_in) and B (n, d_out, r) on a device."""
    return {name: torch.stack([one[name] for one in adapters]).to(device) for name in adapters[0]}


@contextmanager
def acting(places: Sequence[Projection], adapter: Adapter, scale: float) -> Iterator[None]:
    """Let an adapter act on the matrices: y = W x + scale · B A x.

    Of n stacked adapters the first acts on the first n-th of the rows, and so on.
    """

    def add(A: Tensor, B: Tensor, _module: Any, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        rows = args[0].to(A).reshape(*A.shape[:-2], -1, A.shape[-1])
        change = (rows @ A.mT) @ B.mT * scale
        return output + change.reshape(output.shape).to(output)

    pairs = [tuple(adapter[name] for name in names_of(one)) for one in places]
    with hooked(
        *(
            partial(one.module.register_forward_hook, partial(add, A, B))
            for one, (A, B) in zip(places, pairs, strict=True)
        )
    ):
        yield


def merged(
    lm: LanguageModel, places: Sequence[Projection], adapters: Sequence[Adapter], scale: float
) -> WeightDelta:
    """Return base + Σ scale · B A over the adapters in their order, without changing the weights.

    Each product is exact before its one rounding (language_models.tensor_change), so equal
    adapters give equal bits on any machine. To subtract an adapter from merged weights would leave
    other bits, and in 16 bits a trace of it; PEFT's `linear` merge is not this sum.
    """
    factors = {}
    for one in places:
        first, second = names_of(one)
        left = torch.cat([each[second].detach().double() * scale for each in adapters], dim=1)
        right = torch.cat([each[first].detach().double() for each in adapters])
        factors[one.name] = one.stored(left, right)
    return WeightDelta.from_factors(lm, factors)


def save_peft(adapter: Adapter, folder: Path, rank: int, alpha: float, *, transposed: bool) -> None:
    """Write an adapter as a folder that PEFT, or a server of many adapters, loads on the base.

    transposed: the model's modules store Wᵀ (GPT-2). The folder must not exist yet.
    """
    from peft import LoraConfig

    if folder.exists():
        raise RequestError(f"The folder {folder.name} exists already. Choose a new name.")
    folder.mkdir(parents=True)
    ends = (".lora_A.weight", ".lora_B.weight")
    modules = {name.removeprefix(PREFIX).removesuffix(end) for name in adapter
               for end in ends if name.endswith(end)}  # fmt: skip
    LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=sorted(modules),
        fan_in_fan_out=transposed,
        task_type="CAUSAL_LM",
        inference_mode=True,
    ).save_pretrained(str(folder))
    # PEFT keeps the names as a set: their order would be another in every process.
    path = folder / "adapter_config.json"
    told = json.loads(path.read_text(encoding="utf-8"))
    told["target_modules"].sort()
    path.write_text(json.dumps(told, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    save_file(
        {name: tensor.contiguous() for name, tensor in sorted(adapter.items())},
        folder / "adapter_model.safetensors",
        metadata={"format": "pt"},
    )
