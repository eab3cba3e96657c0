"""LoRA (Hu et al. 2022) on new facts: ΔW = (alpha / rank) B A per matrix, trained breadth first.

The adapter acts through a hook while it is trained, so the model keeps its own modules and
weights all along. Then the same product, in float64, is added to each matrix as a change of low
rank that can be taken off bit for bit. `save_adapter` writes it in PEFT's own format.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from editing.matrices import matrices
from editing.outcome import conclude
from editing.training import Training, TrainingConfig
from editing.training_rows import end_mark
from language_models.adapters import acting, factor_names, merged, save_peft, trainable
from language_models.architecture import Parts, Projection, parts
from language_models.delta import LowRank
from language_models.errors import RequestError
from language_models.methods import require_positive, setting
from language_models.progress import Progress, silent
from language_models.replay import frozen

if TYPE_CHECKING:
    from torch import Tensor

    from editing.kept_rows import Kept
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
        training = Training(lm, requests, config, min(layers), end=end_mark(lm))
        adapter = trainable(places, config.rank, training.generator)
        scale = config.alpha / config.rank

        def logits(kept: Kept) -> Tensor:
            with acting(places, adapter, scale):
                return kept.blocks.logits(kept.asked.rows, kept.asked.columns)

        told = training.fit(list(adapter.values()), logits, progress or silent)
    change = merged(lm, places, [adapter], scale)
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
    told = result.details.get("adapter")
    if told is None:
        raise RequestError("This is not the result of a LoRA edit.")
    scale = told["alpha"] / told["rank"]
    adapter = {}
    for name, entry in result.delta.entries.items():
        if not isinstance(entry, LowRank):
            raise RequestError("This is not the result of a LoRA edit.")
        B, A = (entry.right.T, entry.left.T) if told["transposed"] else (entry.left, entry.right)
        first, second = factor_names(name)
        adapter[first], adapter[second] = A.float(), (B / scale).float()
    save_peft(adapter, Path(folder), told["rank"], told["alpha"], transposed=told["transposed"])


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
