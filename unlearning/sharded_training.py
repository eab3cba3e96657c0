"""The training of shards stage by stage: what a version needs, what of it is there, the rest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch.nn import Parameter

from language_models.adapters import acting, fresh
from language_models.errors import CheckpointError, RequestError
from language_models.methods import public_config, require_positive, setting
from unlearning.deterministic import COSINE, Optimisation, Step, Trainer, environment
from unlearning.manifest import Stage
from unlearning.shards import (
    Place,
    divided,
    fingerprint,
    passes_of_stage,
    record_digest,
    schedule,
)
from unlearning.stages import NO_STAGE, Recipe, digest_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from language_models.architecture import Projection
    from language_models.checkpoint import LanguageModel
    from language_models.progress import Progress
    from unlearning.records import Record
    from unlearning.stages import StageStore


@dataclass(frozen=True)
class ShardsConfig:
    """Settings of sharded adapters; all of them stay as they are for the life of a folder."""

    shards: int = setting(8, "S, adapters; more make requests cheaper, recall lower", "SISA, §4")
    slices: int = setting(4, "R, stages an adapter is trained in", "SISA, §4")
    rank: int = setting(16, "rank of each matrix's change", "measured; S3T: 32", published=32)
    alpha: int = setting(32, "the change is alpha / rank times B A", "common use")
    targets: tuple[str, ...] = setting(
        (), "ends of the names of the matrices; none: all of attention and MLP", "measured"
    )
    epochs: float = setting(6.0, "passes over a shard that its stages cost in all", "measured")
    batch: int = setting(16, "records a step", "measured")
    micro_batch: int = setting(16, "records a forward", "Lethe")
    learning_rate: float = setting(
        3e-3, "AdamW's highest learning rate; for large models 2e-5 to 2e-4", "measured; S3T: 2e-5",
        published=2e-5,
    )  # fmt: skip
    max_tokens: int = setting(512, "tokens of a text that are used", "common use")
    seed: int = setting(0, "seed of the adapters' first values", "Lethe")

    def __post_init__(self) -> None:
        names = ("shards", "slices", "rank", "alpha", "epochs", "batch", "micro_batch")
        require_positive(self, *names, "learning_rate", "max_tokens")
        if self.seed < 0:
            raise RequestError("seed must be 0 or above.")


@dataclass(frozen=True)
class Planned:
    """A stage of a version. steps: the ids of each step. kept: the stage in force, if it is it."""

    recipe: Recipe
    steps: tuple[tuple[str, ...], ...]
    kept: Stage | None

    @property
    def seen(self) -> int:
        """How often the stage sees a record."""
        return sum(len(step) for step in self.steps)


@dataclass(frozen=True)
class Shards:
    """What the stages of a folder have in common."""

    lm: LanguageModel
    base: str
    places: tuple[Projection, ...]
    config: ShardsConfig
    key: bytes

    def plan(
        self, records: Sequence[Record], rows: Mapping[str, list[int]], in_force: Sequence[Stage]
    ) -> list[Planned]:
        """Return all stages of a version with these records, shard by shard.

        rows: the token ids of each record. in_force: the stages of the version before.
        """
        config, key = self.config, self.key
        digests = {one.id: record_digest(key, one, rows[one.id]) for one in records}
        old = {(stage.shard, stage.slice): stage for stage in in_force}
        settings = digest_of([public_config(config), fingerprint(key)])
        here = digest_of(environment(self.lm.device))
        passes = passes_of_stage(config.epochs, config.slices)
        planned: list[Planned] = []
        for shard, slices in enumerate(divided(key, records, config.shards, config.slices)):
            ids: list[str] = []
            parent = NO_STAGE
            for number, added in enumerate(slices):
                ids += added
                if not ids:
                    continue
                seen = tuple(sorted(digests[one] for one in ids))
                recipe = Recipe(settings, self.base, shard, number, parent, seen, here)
                recipe, kept = _compared(recipe, old.get((shard, number)))
                steps = schedule(key, ids, Place(shard, number), passes, config.batch)
                planned.append(Planned(recipe, tuple(steps), kept))
                parent = recipe.address
        return planned

    def made(
        self,
        plan: Sequence[Planned],
        rows: Mapping[str, list[int]],
        store: StageStore,
        report: Progress,
    ) -> tuple[Stage, ...]:
        """Return the stages of a plan; those that are not there yet are trained and written.

        Raises CheckpointError when a stage in force is missing or was changed, NotReached when
        training breaks down; what was written until then is used by the next try.
        """
        total = sum(len(one.steps) for one in plan if one.kept is None)
        done = 0
        adapter: dict[str, Tensor] = {}
        stages = []
        for one in plan:
            recipe = one.recipe
            if recipe.parent == NO_STAGE:
                seed = self.config.seed * 1_000_003 + recipe.shard
                drawn = torch.Generator().manual_seed(seed)
                adapter = fresh(self.places, self.config.rank, drawn)
            if one.kept is not None:
                adapter, sha256 = store.read(recipe.address, one.kept.sha256)
            else:
                found = _unfinished(store, recipe.address)
                if found is None:
                    trained = self._fit(one, adapter, rows, (report, done, total))
                    found = trained, store.write(recipe.address, trained)
                adapter, sha256 = found
                done += len(one.steps)
                report("stages", done, total)
            count = len(recipe.records)
            stages.append(
                Stage(recipe.shard, recipe.slice, recipe.address, sha256, recipe.environment,
                      count, one.seen)
            )  # fmt: skip
        return tuple(stages)

    def _fit(
        self,
        planned: Planned,
        before: Mapping[str, Tensor],
        rows: Mapping[str, list[int]],
        so_far: tuple[Progress, int, int],
    ) -> dict[str, Tensor]:
        """Train one stage from the adapter before it, with a fresh optimiser."""
        report, done, total = so_far
        config, device = self.config, self.lm.device
        adapter = {name: Parameter(one.to(device, copy=True)) for name, one in before.items()}
        optimisation = Optimisation(learning_rate=config.learning_rate, decay=COSINE)
        pad_id = self.lm.tokenizer.pad_token_id or 0
        with acting(self.places, adapter, config.alpha / config.rank):
            # Sorted, because the norm of the gradient is summed in this order, and an adapter that
            # was read from its file has its names in another order than one just made.
            trainer = Trainer(self.lm.model, sorted(adapter.items()), pad_id, optimisation)
            for number, ids in enumerate(planned.steps, start=1):
                rate = optimisation.rate(number, len(planned.steps))
                size = config.micro_batch
                slots = tuple(ids[at : at + size] for at in range(0, len(ids), size))
                trainer.step(Step(number, config.seed, rate, slots), rows)
                report("steps", done + number, total)
        return {name: one.detach().cpu() for name, one in adapter.items()}


def cost(plan: Sequence[Planned]) -> dict[str, float]:
    """Return how many stages of a plan are to be trained, and their share of all it sees."""
    again = [one for one in plan if one.kept is None]
    seen = sum(one.seen for one in plan)
    return {
        "stages_trained": len(again),
        "share_trained": sum(one.seen for one in again) / seen if seen else 0.0,
    }


def _compared(recipe: Recipe, stage: Stage | None) -> tuple[Recipe, Stage | None]:
    """Return the recipe and the stage in force if it was made by it, wherever that was."""
    if stage is not None:
        there = replace(recipe, environment=stage.environment)
        if there.address == stage.address:
            return there, stage
    return recipe, None


def _unfinished(store: StageStore, address: str) -> tuple[dict[str, Tensor], str] | None:
    """Return a stage of a training that was stopped, if it is there and whole."""
    if not store.has(address):
        return None
    try:
        return store.read(address)
    except CheckpointError:
        # Not in force yet: it is simply trained again.
        return None
