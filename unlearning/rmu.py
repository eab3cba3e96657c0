"""RMU (Li et al. 2024): leads the states of forget texts in one layer to a random direction.

L = γ · mean squared distance of the states of forget texts to c · u + α · mean squared distance of
the states of retain texts to the former ones, each a mean over a text's own tokens. Only the MLP's
second projections of the layer and of two below are trained, and no block above is run. It
scrambles and does not remove: for topics, not for single facts.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from language_models.architecture import parts
from language_models.methods import require_positive, setting
from language_models.moments import hooked
from language_models.padding import pad_right
from unlearning.loop import Task, Term, unlearned
from unlearning.losses import misdirection
from unlearning.settings import MODULES, RetainConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from language_models.checkpoint import LanguageModel
    from language_models.progress import Progress
    from unlearning.gates import Gates
    from unlearning.results import Text, UnlearnResult
    from unlearning.rows import Row


LAYERS_TRAINED = 3


@dataclass(frozen=True, kw_only=True)
class RmuConfig(RetainConfig):
    """Settings of RMU."""

    layer: int | None = setting(
        None, "layer whose states are led away; None: a third of the depth", "RMU: 7 of 32"
    )
    strength: float = setting(
        3.0, "length of c · u in mean lengths of a forget state", "RMU gives c itself: 6.5"
    )
    retain_weight: float = setting(
        10.0, "α, weight of the retain term", "not tuned yet", published=1200.0
    )
    part: str = setting(MODULES, "what is trained: all, modules or adapter", "RMU: three matrices")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "strength")


def run(
    lm: LanguageModel,
    forget: Sequence[Text],
    retain: Sequence[Text],
    config: RmuConfig,
    progress: Progress | None = None,
    gates: Gates | None = None,
) -> UnlearnResult:
    """Train three matrices. Raises UnsupportedArchitecture where a layer's MLP is a mixture."""
    model = parts(lm.model)
    layer = len(model.blocks) // 3 if config.layer is None else config.layer
    model.mlp(layer)  # says which layers there are
    chosen = config
    if not config.modules and not config.layers:
        layers = tuple(range(max(0, layer + 1 - LAYERS_TRAINED), layer + 1))
        last = model.mlp_out(layer).name.removesuffix(".weight").split(".")[-1]
        chosen = replace(config, modules=(last,), layers=layers)

    def terms(task: Task) -> list[Term]:
        target = _target(task, layer, config)

        def loss(numbers: list[int]) -> Tensor:
            states, mask = _states(lm, task.forget, numbers, layer)
            return misdirection(states, target.to(states), mask)

        def drift(numbers: list[int]) -> Tensor:
            with task.trained.as_before():
                before, mask = _states(lm, task.retain, numbers, layer)
            return misdirection(_states(lm, task.retain, numbers, layer)[0], before, mask)

        # Both are means over texts of the means over their own tokens.
        retained = [replace(one, shares=[1.0] * len(one.shares)) for one in task.retained(drift)]
        return [task.by_text(loss), *retained]

    return unlearned("rmu", lm, forget, retain, chosen, terms, progress, gates)


@torch.no_grad()
def _target(task: Task, layer: int, config: RmuConfig) -> Tensor:
    """Return c · u (d): u uniform in [0, 1) and normalised, as published, but from the seed."""
    total, count = 0.0, 0.0
    for number in range(len(task.forget)):
        states, mask = _states(task.lm, task.forget, [number], layer)
        total += float((states.float().norm(dim=-1) * mask).sum())
        count += float(mask.sum())
    u = torch.rand(states.shape[-1], generator=torch.Generator().manual_seed(config.seed))
    target: Tensor = u / u.norm() * (config.strength * total / count)
    return target


class _Reached(Exception):
    """The states of the layer are there; no block above needs to run."""


def _states(
    lm: LanguageModel, rows: Sequence[Row], numbers: Sequence[int], layer: int
) -> tuple[Tensor, Tensor]:
    """Return the output of a block (b, t, d) and a mask (b, t) with 1 at scored tokens."""
    chosen = [rows[number] for number in numbers]
    ids, mask = pad_right(lm, [row.ids for row in chosen])
    scored = torch.zeros_like(mask)
    for number, row in enumerate(chosen):
        scored[number, list(row.places)] = 1
    model = parts(lm.model)

    found: list[Tensor] = []

    def stop(_module: Any, _args: Any, output: Any) -> None:
        found.append(output[0] if isinstance(output, tuple) else output)
        raise _Reached

    with hooked(lambda: model.blocks[layer].register_forward_hook(stop)), suppress(_Reached):
        model.backbone(input_ids=ids, attention_mask=mask, use_cache=False)
    return found[0], scored.to(found[0].device)
