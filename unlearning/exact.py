"""Exact unlearning of one's own training data: sharded, sliced LoRA adapters over a frozen base.

SISA (Bourtoule et al. 2021) with the subject as the unit: all records of a subject go to one
slice of one shard by keyed HMAC. Each stage is a function of its recipe (unlearning.stages), so
after a subject is taken out, the stages that saw it are trained again from the stage before and
end in the bits of a training that never had it. Nothing is ever subtracted.

What the base model itself knows stays. The stages that saw the subject stay on the disk until
they are destroyed (unlearning.destruction): they are an attack tool, and their destruction is a job
of its own.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from language_models.adapters import matrices, merged, save_peft
from language_models.checkpoint import state_digest
from language_models.errors import NotReached, RequestError
from language_models.methods import public_config
from language_models.progress import Progress, silent
from unlearning import shards
from unlearning.deterministic import environment, require_environment
from unlearning.guarantee import guarantee
from unlearning.manifest import Manifest, alone, read_manifest, write_manifest
from unlearning.mixture import Experts, mixture
from unlearning.records import Record, tokens, write_records
from unlearning.sharded_folder import ShardedFolder
from unlearning.sharded_training import Shards, ShardsConfig, cost

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import Tensor

    from language_models.checkpoint import LanguageModel
    from language_models.delta import WeightDelta

__all__ = ["Record", "ShardedAdapters", "ShardsConfig"]

# Nats by which an adapter must tell a text better than the base. Measured on the demo model: from
# equal chances adapters take over questions about people of the base (recall .57 by routing, .75
# by mixture, .90 by the base alone), with 5 both are .90; with 10 the adapters' people lose.
HEAD_START = 5.0


class ShardedAdapters(ShardedFolder):
    """The adapters of a folder with the base model that they belong to.

    Raises RequestError or CheckpointError, before anything is changed, for another base model,
    other settings or another key than recorded, and for files that were changed.
    """

    def __init__(
        self,
        lm: LanguageModel,
        folder: str | Path,
        key: bytes,
        config: ShardsConfig | None = None,
    ) -> None:
        super().__init__(folder, key)
        self.lm = lm
        recorded = read_manifest(self.folder, key)
        self.config = config or _recorded_config(recorded)
        places = matrices(lm, self.config.targets)
        self.shards = Shards(lm, state_digest(lm.model), places, self.config, key)
        if recorded is not None:
            self._check_belongs(recorded)

    def train(
        self, records: Iterable[Record], *, progress: Progress | None = None, exact: bool = True
    ) -> dict[str, Any]:
        """Bring the adapters to exactly these records; return what was done.

        Stages that are there already are not trained again, so a training that was killed goes on
        where it was, and ends in the same bits. exact=False lets stages of several environments
        stand together, which is class A′ instead of A.
        Raises RequestError for no records, an id that stands twice, or a subject who was removed;
        NotReached when training breaks down. The version in force stays until the new one is whole.
        """
        chosen = tuple(records)
        if not chosen:
            raise RequestError("Give at least one record to train on.")
        if len({record.id for record in chosen}) < len(chosen):
            raise RequestError("Two records have the same id. Give each its own.")
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with alone(self.folder):
            before = read_manifest(self.folder, self.key)
            removed = set(before.removed if before else ())
            back = removed & {self._digest(record.subject) for record in chosen}
            if back:
                raise RequestError(
                    f"{len(back)} of the subjects were removed before and must not come back. Take"
                    " their records out."
                )
            return self._make(chosen, removed, progress or silent, exact=exact)

    def forget(
        self, subjects: Iterable[str], *, progress: Progress | None = None, exact: bool = True
    ) -> dict[str, Any]:
        """Take subjects out: their records are gone, the stages that saw them trained again.

        One batch shares the retraining. A subject taken out before is not an error, so a request
        that was killed can be repeated. exact and errors are as for `train`; RequestError for an
        empty batch or a subject who was never there.
        """
        started = time.monotonic()
        self._in_force()
        with alone(self.folder):
            asked, manifest, records = self._asked(subjects), self._in_force(), self._records()
            left = [record for record in records if record.subject not in asked]
            gone = {self._digest(subject) for subject in asked}
            told = self._make(left, {*manifest.removed, *gone}, progress or silent, exact=exact)
        return {
            "method": "sharded adapters",
            "requests": len(asked),
            "removed_before": len(gone & set(manifest.removed)),
            "same_texts_elsewhere": shards.same_texts(records, asked),
            "before": manifest.digest,
            **told,
            "seconds": round(time.monotonic() - started, 2),
            "guarantee": guarantee(self._in_force().guarantee).as_dict(),
        }

    def cost(self, subjects: Iterable[str]) -> dict[str, float]:
        """Return what forgetting a batch would take, without doing it.

        stages_trained: stages made again. share_trained: what they see of all that a full training
        without the subjects sees, 0 to 1.
        """
        asked = self._asked(subjects)
        left = [record for record in self._records() if record.subject not in asked]
        return cost(self.shards.plan(left, self._rows(left), self._in_force().stages))

    def adapters(self) -> dict[int, dict[str, Tensor]]:
        """Return the adapters in force by shard, in order, without those that are off."""
        manifest = self._in_force()
        return {
            shard: self.store.read(stage.address, stage.sha256)[0]
            for shard, stage in manifest.final.items()
            if shard not in manifest.switched_off
        }

    def mixture(self) -> LanguageModel:
        """Return the model that answers by all adapters and the base, weighted by likelihood."""
        return mixture(self.lm, self.experts())

    def experts(self) -> Experts:
        """Return the adapters in force as experts, for `unlearning.mixture`."""
        adapters = tuple(self.adapters().values())
        return Experts(self.shards.places, adapters, self._scale, HEAD_START)

    def merged(self) -> WeightDelta:
        """Return base + sum of the adapters in force as one change of the base's weights.

        Facts of several shards do not survive the sum (recall .40 against .92 by mixture, demo
        model, four shards): measure recall on the merged model before it is chosen.
        """
        experts = self.experts()
        if not experts.adapters:
            raise RequestError("No adapter is in force, so there is nothing to merge.")
        return merged(self.lm, experts.places, experts.adapters, experts.scale)

    def export(self, folder: str | Path) -> tuple[Path, ...]:
        """Write each adapter in force as a folder that PEFT loads; the folder must not exist."""
        target = Path(folder)
        if target.exists():
            raise RequestError(f"The folder {target.name} exists already. Choose a new name.")
        places = {shard: target / f"shard-{shard:03}" for shard in self.adapters()}
        turned = any(one.transposed for one in self.shards.places)
        for shard, adapter in self.adapters().items():
            save_peft(
                adapter, places[shard], self.config.rank, self.config.alpha, transposed=turned
            )
        return tuple(places.values())

    @property
    def _scale(self) -> float:
        return self.config.alpha / self.config.rank

    def _make(
        self, records: Sequence[Record], removed: set[str], report: Progress, *, exact: bool
    ) -> dict[str, Any]:
        """Train the stages that are not there, then put the new version in force."""
        now, before = environment(self.lm.device), read_manifest(self.folder, self.key)
        if exact and before is not None:
            require_environment(before.environment, now)
        if state_digest(self.lm.model) != self.shards.base:
            raise RequestError("The base model was changed meanwhile. Load it again.")
        rows = self._rows(records)
        plan = self.shards.plan(records, rows, before.stages if before else ())
        present = {self._digest(record.subject) for record in records}
        pending = before.pending.items() if before else ()
        with _room():
            stages = self.shards.made(plan, rows, self.store, report)
            manifest = Manifest(
                base=self.shards.base,
                settings=public_config(self.config),
                environment=now,
                records=self._records_digest(records),
                subjects=len(present),
                version=before.version + 1 if before else 1,
                stages=stages,
                pending={one: shard for one, shard in pending if one in present},
                removed=tuple(sorted(removed)),
            )
            write_records(self._records_path(manifest), records)
            write_manifest(self.folder, self.key, manifest)
        for other in self.folder.glob("records-*.jsonl"):
            if other != self._records_path(manifest):
                other.unlink()
        return {
            **cost(plan),
            "stages_in_force": len(stages),
            "after": manifest.digest,
            "obsolete_files": len(self.obsolete()),
        }

    def _rows(self, records: Iterable[Record]) -> dict[str, list[int]]:
        return {one.id: tokens(self.lm, one.text, self.config.max_tokens) for one in records}

    def _check_belongs(self, manifest: Manifest) -> None:
        if manifest.settings != public_config(self.config):
            raise RequestError("These adapters were made with other settings. Leave them out.")
        if manifest.base != self.shards.base:
            raise RequestError("These adapters belong to another base model. Load that one.")


@contextmanager
def _room() -> Iterator[None]:
    """Say of a disk without room that the version in force stays."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise NotReached(
            "The new version cannot be written. Is the disk full? The version in force stays. Make"
            " room and ask again: stages that are there are not trained twice."
        ) from error


def _recorded_config(manifest: Manifest | None) -> ShardsConfig:
    if manifest is None:
        return ShardsConfig()
    values = manifest.settings
    return ShardsConfig(**{**values, "targets": tuple(values["targets"])})
