"""LoRA (Hu et al. 2022) on new facts: ΔW = (alpha / rank) B A per matrix, trained breadth first.

The adapter acts through a hook while it is trained, so the model keeps its own modules and
weights all along. Then the same product, in float64, is added to each matrix as a change of low
rank that can be taken off bit for bit. `save_adapter` writes it in PEFT's own format.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from editing.matrices import matrices
from editing.outcome import conclude
from editing.training import Kept, Training, TrainingConfig
from language_models.architecture import Parts, Projection, parts
from language_models.delta import LowRank, WeightDelta
from language_models.errors import RequestError
from language_models.methods import require_positive, setting
from language_models.moments import hooked
from language_models.progress import Progress, silent
from language_models.replay import frozen

if TYPE_CHECKING:
    from torch import Tensor

    from editing.requests import EditRequest, EditResult
    from language_models.checkpoint import LanguageModel


@dataclass(frozen=True, kw_only=True)
class LoraConfig(TrainingConfig):
    """Settings of LoRA; dropout is 0, so that the adapter trained is the change written."""

    rank: int = setting(8, "rank of each matrix's change", "EasyEdit's settings")
    alpha: int = setting(16, "the change is alpha / rank times B A", "measured", published=32)
    layers: tuple[int, ...] = setting(
        (), "layers that get an adapter; none: the upper half", "measured"
    )
    targets: tuple[str, ...] = setting(
        (),
        "ends of the names of the matrices; none: the MLP's up and down projections, in a mixture"
        " the attention's projection to the block",
        "LocFT-BF's matrices; EasyEdit takes q_proj and v_proj",
    )
    learning_rate: float = setting(
        5e-3, "Adam's learning rate", "EasyEdit's settings", published=5e-3
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "rank", "alpha")


def run(
    lm: LanguageModel,
    requests: tuple[EditRequest, ...],
    config: LoraConfig,
    progress: Progress | None = None,
    _memory: object = None,
) -> EditResult:
    """Train an adapter until all targets follow their prompts, and add it to the weights."""
    model = parts(lm.model)
    count = len(model.blocks)
    layers = config.layers or tuple(range(count // 2, count))
    places = [one for layer in layers for one in _targets(model, layer, config.targets)]
    with frozen(lm):
        training = Training(lm, requests, config, min(layers))
        adapter = {one.name: _start(one, config, training.generator) for one in places}
        scale = config.alpha / config.rank
        told = _train(training, places, adapter, scale, progress or silent)
    factors = {}
    for one in places:
        A, B = (part.detach().double() for part in adapter[one.name])
        factors[one.name] = one.stored(B * scale, A)
    change = WeightDelta.from_factors(lm, factors)
    change.write(lm)
    details = {
        "method": "lora",
        "adapter": {
            "rank": config.rank,
            "alpha": config.alpha,
            "matrices": [one.name for one in places],
            "transposed": any(one.transposed for one in places),
        },
        **told,
    }
    return conclude(lm, requests, change, config, details)


def save_adapter(result: EditResult, folder: str | Path) -> None:
    """Write the change of a LoRA edit as an adapter folder that PEFT loads on the base model.

    The folder must not exist yet. Like a weight change, it tells whom the edit is about: store it
    encrypted. Raises RequestError for the result of another method.
    """
    from peft import LoraConfig as AdapterConfig

    told = result.details.get("adapter")
    if told is None:
        raise RequestError("This is not the result of a LoRA edit.")
    target = Path(folder)
    if target.exists():
        raise RequestError(f"The folder {target.name} exists already. Choose a new name.")
    tensors = {}
    for name, entry in result.delta.entries.items():
        if not isinstance(entry, LowRank):
            raise RequestError("This is not the result of a LoRA edit.")
        B, A = (entry.right.T, entry.left.T) if told["transposed"] else (entry.left, entry.right)
        path = f"base_model.model.{name.removesuffix('.weight')}"
        tensors[f"{path}.lora_A.weight"] = A.float().contiguous()
        tensors[f"{path}.lora_B.weight"] = (B * (told["rank"] / told["alpha"])).float().contiguous()
    target.mkdir(parents=True)
    AdapterConfig(
        r=told["rank"],
        lora_alpha=told["alpha"],
        target_modules=[name.removesuffix(".weight") for name in told["matrices"]],
        fan_in_fan_out=told["transposed"],
        task_type="CAUSAL_LM",
        inference_mode=True,
    ).save_pretrained(str(target))
    save_file(tensors, target / "adapter_model.safetensors", metadata={"format": "pt"})


def _targets(model: Parts, layer: int, names: tuple[str, ...]) -> tuple[Projection, ...]:
    """Return the matrices of a layer that get an adapter."""
    if names:
        paths = [path for path, _ in model.blocks[layer].named_modules()]
        found = [path for path in paths if path.split(".")[-1] in names]
        if not found:
            raise RequestError("No matrix of the layer has one of the names in targets.")
        return tuple(model.projection(layer, path) for path in found)
    if not model.is_dense(layer):
        return matrices(model, layer)
    return (matrices(model, layer, "mlp_in")[-1], *matrices(model, layer, "mlp_out"))


def _start(
    projection: Projection, config: LoraConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return A (rank, d_in), uniform as PEFT draws it, and B (d_out, rank) of zeros."""
    device = projection.parameter.device
    bound = 1 / math.sqrt(projection.d_in)
    drawn = torch.rand(config.rank, projection.d_in, generator=generator)
    A = ((2 * drawn - 1) * bound).to(device).requires_grad_()
    return A, torch.zeros(projection.d_out, config.rank, device=device).requires_grad_()


def _train(
    training: Training,
    places: list[Projection],
    adapter: dict[str, tuple[Tensor, Tensor]],
    scale: float,
    report: Progress,
) -> dict[str, Any]:
    """Train all factors in place; return how it went."""

    def add(name: str) -> Any:
        def hook(_module: Any, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            A, B = adapter[name]
            return output + (F.linear(F.linear(args[0].to(A), A), B) * scale).to(output)

        return hook

    def logits(kept: Kept) -> Tensor:
        with hooked(
            *(lambda one=one: one.module.register_forward_hook(add(one.name)) for one in places)
        ):
            return kept.blocks.logits(kept.asked.rows, kept.asked.columns)

    return training.fit([part for pair in adapter.values() for part in pair], logits, report)
