"""Settings that all approximate methods share."""

from __future__ import annotations

import math
from dataclasses import dataclass

from language_models.errors import RequestError
from language_models.methods import require_positive, setting

ALL, MODULES, ADAPTER = "all", "modules", "adapter"
LIKELIHOOD, DIVERGENCE = "likelihood", "divergence"


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """Settings of the training loop; every method has its own defaults for some of them."""

    learning_rate: float = setting(
        2e-4,
        "AdamW's learning rate at first; it falls in a line to zero over the steps",
        "not tuned yet; for 1B models 2e-5 to 5e-5",
        published=1e-5,
    )
    weight_decay: float = setting(0.01, "AdamW's weight decay", "NPO, section 5")
    steps: int = setting(40, "steps at most; without gates all of them are run", "not tuned yet")
    forget_weight: float = setting(1.0, "γ, weight of the forget term", "open-unlearning")
    forget_batch: int = setting(9, "forget texts a step, at most all", "measured", published=16)
    max_gradient: float = setting(1.0, "norm to which the gradient is clipped", "common use")
    max_tokens: int = setting(512, "tokens of a text that are used", "common use")
    seed: int = setting(0, "seed of the order of texts", "Lethe")
    part: str = setting(
        ALL, f"what is trained: {ALL} weights, chosen {MODULES}, or an {ADAPTER} (LoRA)", "Lethe"
    )
    modules: tuple[str, ...] = setting(
        (), "ends of the names of the matrices trained; none: attention and dense MLP", "QLoRA"
    )
    layers: tuple[int, ...] = setting((), "layers of those matrices; none: all", "QLoRA")
    rank: int = setting(8, "rank of the adapter's matrices", "UNDIAL's adapter")
    alpha: int = setting(16, "the adapter's change is alpha / rank times B A", "UNDIAL's adapter")
    tokens_per_pass: int = setting(
        16384, "padded tokens of a pass; a larger step is made in several", "Lethe"
    )
    gradient_checkpointing: bool = setting(
        default=False,
        told="compute each block twice instead of keeping its states",
        source="Chen et al. 2016",
    )
    eight_bit: bool = setting(
        default=False,
        told="keep AdamW's moments in 8 bits (bitsandbytes, on a GPU)",
        source="Dettmers et al. 2022",
    )
    check_every: int = setting(5, "steps between two looks at gates and floor", "Lethe")
    floor: float = setting(
        0.5, "share of its former general ability below which a run is stopped", "Lethe"
    )

    def __post_init__(self) -> None:
        require_positive(
            self,
            *("learning_rate", "steps", "forget_weight", "forget_batch", "max_gradient"),
            *("max_tokens", "rank", "alpha", "tokens_per_pass", "check_every"),
        )
        for name in ("weight_decay", "floor"):
            require_not_negative(self, name)
        if self.part not in (ALL, MODULES, ADAPTER):
            raise RequestError(f"part must be one of {ALL}, {MODULES}, {ADAPTER}.")


@dataclass(frozen=True, kw_only=True)
class RetainConfig(LoopConfig):
    """Settings of methods that hold other texts at the same time; a weight of 0 leaves it out."""

    retain_weight: float = setting(
        1.0, "α, weight of the retain term", "tuned sweep: 1 to 5", published=1.0
    )
    retain_batch: int = setting(16, "retain texts a step, at most all", "measured")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "retain_batch")
        require_not_negative(self, "retain_weight")


@dataclass(frozen=True, kw_only=True)
class RetainTextsConfig(RetainConfig):
    """Settings of methods whose retain term is about what the model predicts of the texts.

    By their likelihood the model learns them further, with the chance of their wording and order.
    By the divergence from the model before nothing of them is learnt, so every step pulls only
    against what the forget term did to them; it costs one more pass without gradients.
    """

    retain_loss: str = setting(
        DIVERGENCE,
        f"{DIVERGENCE}: stay near the model before; {LIKELIHOOD}: learn the texts",
        "measured for NPO: others lose less",
        published=LIKELIHOOD,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.retain_loss not in (LIKELIHOOD, DIVERGENCE):
            raise RequestError(f"retain_loss must be one of {LIKELIHOOD}, {DIVERGENCE}.")


def require_not_negative(config: LoopConfig, name: str) -> None:
    """Raise RequestError unless the named field is a finite number of at least zero."""
    value = getattr(config, name)
    if not (math.isfinite(value) and value >= 0):
        raise RequestError(f"{name} must be zero or above.")
