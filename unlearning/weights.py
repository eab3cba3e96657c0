"""Which weights a run trains, how the model acts by the weights before, and the way back.

All weights, the matrices of chosen modules, or factors B A beside them (LoRA), which act through
hooks while they are trained and are then added to the weights as a change of low rank.
"""

from __future__ import annotations

import math
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch

from language_models.adapters import acting, matrices, merged, names_of, trainable
from language_models.architecture import parts
from language_models.delta import WeightDelta, restore_weights
from language_models.errors import NotReached, RequestError
from language_models.placement import is_out_of_memory
from language_models.replay import frozen
from unlearning.settings import ADAPTER, ALL, LoopConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from language_models.architecture import Projection
    from language_models.checkpoint import LanguageModel

_WIDE = (torch.float32, torch.float64)


class Weights:
    """Parameters of the model itself, trained in place, with copies of how they were."""

    def __init__(self, lm: LanguageModel, names: list[str] | None = None) -> None:
        """names: the parameters to train; None for all.

        Raises RequestError for weights in 16 bits or not in memory.
        """
        known = dict(lm.model.named_parameters())
        named = known if names is None else {name: known[name] for name in names}
        if any(weight.is_meta for weight in named.values()):
            raise RequestError("Some weights are not in memory. Load the model on one device.")
        if any(weight.dtype not in _WIDE for weight in named.values()):
            raise RequestError(
                'Small steps vanish in 16 bits. Load the model with dtype="float32", or train an'
                ' adapter (part="adapter").'
            )
        self.lm, self.named = lm, named
        self.before = {name: weight.detach().clone() for name, weight in named.items()}
        self.parameters: list[Tensor] = [weight.requires_grad_() for weight in named.values()]

    @contextmanager
    def as_before(self) -> Iterator[None]:
        """Let the model act by its former weights, without gradients; a copy serves, no model."""
        now = {name: weight.data for name, weight in self.named.items()}
        try:
            self._point_to(self.before)
            with torch.no_grad():
                yield
        finally:
            self._point_to(now)

    @contextmanager
    def scaled(self, share: float) -> Iterator[None]:
        """Let the model act by a share of its change, then by all of it again, bit for bit."""
        now = {name: weight.data for name, weight in self.named.items()}
        try:
            self._point_to({name: self._moved(name, share) for name in now})
            yield
        finally:
            self._point_to(now)

    def keep(self, share: float) -> None:
        """Leave a share of the change; a negative one turns it round."""
        with torch.no_grad():
            for name, weight in self.named.items():
                weight.copy_(self._moved(name, share))

    def conclude(self) -> tuple[WeightDelta, float]:
        """Return the exact change and ‖Δ‖/‖W‖ over all weights."""
        return WeightDelta.between(self.before, self.lm), relative_change(self.lm, self.before)

    def restore(self) -> None:
        """Bring the weights back bit for bit."""
        restore_weights(self.lm, self.before)

    def _moved(self, name: str, share: float) -> Tensor:
        """Return W before + share · change."""
        return torch.lerp(self.before[name], self.named[name].data, share)

    def _point_to(self, tensors: dict[str, Tensor]) -> None:
        for name, weight in self.named.items():
            weight.data = tensors[name]


class Adapter:
    """Factors A (rank, d_in) and B (d_out, rank) per matrix; the weights stay until the end."""

    def __init__(self, lm: LanguageModel, places: Sequence[Projection], config: LoopConfig) -> None:
        self.lm, self.places, self.scale = lm, places, config.alpha / config.rank
        self.written: WeightDelta | None = None
        generator = torch.Generator().manual_seed(config.seed)
        self.factors = trainable(places, config.rank, generator)
        self.parameters: list[Tensor] = list(self.factors.values())
        self.hooks = ExitStack()

    def act(self) -> None:
        """Let the adapter act until `rest`."""
        self.hooks.enter_context(acting(self.places, self.factors, self.scale))

    def rest(self) -> None:
        """Let the model act as if there were no adapter."""
        self.hooks.close()

    @contextmanager
    def as_before(self) -> Iterator[None]:
        """Let the model act without the adapter and without gradients."""
        self.rest()
        try:
            with torch.no_grad():
                yield
        finally:
            self.act()

    @contextmanager
    def scaled(self, share: float) -> Iterator[None]:
        """Let a share of the adapter act, then all of it again, bit for bit."""
        kept = {name: factor.detach().clone() for name, factor in self.factors.items()}
        self.keep(share)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, factor in self.factors.items():
                    factor.copy_(kept[name])

    def keep(self, share: float) -> None:
        """Leave a share of the change, in B; a negative one turns it round."""
        with torch.no_grad():
            for one in self.places:
                self.factors[names_of(one)[1]].mul_(share)

    def conclude(self) -> tuple[WeightDelta, float]:
        """Add the adapter to the weights; return the change and ‖Δ‖/‖W‖ over all weights."""
        self.rest()
        change = merged(self.lm, self.places, [self.factors], self.scale)
        before = {one.name: one.parameter.detach().clone() for one in self.places}
        change.write(self.lm)
        self.written = change
        return change, relative_change(self.lm, before)

    def restore(self) -> None:
        """Take off what `conclude` wrote; until then no weight was changed."""
        if self.written is not None:
            self.written.undo(self.lm)


@contextmanager
def training(lm: LanguageModel, config: LoopConfig) -> Iterator[Weights | Adapter]:
    """Make the chosen weights trainable for a block; dropout is off.

    After an error the weights are as before. Running out of memory becomes NotReached.
    """
    with ExitStack() as stack:
        stack.enter_context(frozen(lm))
        trained: Weights | Adapter
        if config.part == ALL:
            trained = Weights(lm)
        elif config.part == ADAPTER:
            trained = Adapter(lm, matrices(lm, config.modules, config.layers), config)
            stack.callback(trained.rest)
            trained.act()
        else:
            chosen = matrices(lm, config.modules, config.layers)
            trained = Weights(lm, [one.name for one in chosen])
        if config.gradient_checkpointing:
            stack.enter_context(_checkpointed(lm))
        try:
            yield trained
        except BaseException as error:
            trained.restore()
            if is_out_of_memory(error):
                raise NotReached(
                    "The memory was too small. Lower tokens_per_pass, turn gradient_checkpointing"
                    " on, or train an adapter. The weights are as before."
                ) from error
            raise
        finally:
            for weight in trained.parameters:
                weight.grad = None


def relative_change(lm: LanguageModel, before: dict[str, Tensor]) -> float:
    """Return ‖W - before‖ / ‖W‖ over all weights of a model; those not in `before` stayed."""
    changed = total = 0.0
    for name, weight in lm.model.named_parameters():
        now = weight.detach()
        old = before.get(name, now)
        changed += float((now.double() - old.double()).square().sum())
        total += float(old.double().square().sum())
    return math.sqrt(changed / total)


@contextmanager
def _checkpointed(lm: LanguageModel) -> Iterator[None]:
    """Compute each block a second time on the way back instead of keeping its states.

    transformers does so in training mode only. The blocks alone are put into it: what is inside
    them, dropout above all, stays as in evaluation.
    """
    blocks = parts(lm.model).blocks
    lm.model.activation_checkpointing_enable({"use_reentrant": False})
    for block in blocks:
        block.training = True
    try:
        yield
    finally:
        lm.model.activation_checkpointing_disable()
        for block in blocks:
            block.training = False
