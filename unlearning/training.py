"""Train all weights or a LoRA on records keyed by subject, so that it can be made again.

The whole schedule is written before the first step (unlearning.trace) and depends on no text, so
what happens in a step is known without the steps before. After a kill, training goes on from its
last checkpoint and ends in the same bits. One record is one row: none is ever packed with others.
A model may lie on several devices (language_models.load, device "split"): its layers are spread,
never its records, because gradients summed across copies depend on how many copies there are.
"""

from __future__ import annotations

import hashlib
import secrets
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from language_models.adapters import acting, matrices, save_peft, trainable
from language_models.checkpoint import save, state_digest
from language_models.errors import NotReached, RequestError
from language_models.files import sync
from language_models.methods import public_config, require_positive, setting
from language_models.progress import Progress, silent
from unlearning.deterministic import Optimisation, Step, Trainer, environment, require_environment
from unlearning.records import tokens
from unlearning.trace import (
    checkpoints,
    create,
    identifier,
    keep_state,
    open_trace,
    read_state,
    records_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch.nn import Parameter

    from language_models.checkpoint import LanguageModel
    from unlearning.records import Record
    from unlearning.trace import Trace

FULL, LORA = "full", "lora"
MODEL, ADAPTER = "model", "adapter"


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Optimisation):
    """Settings of a training."""

    form: str = setting(LORA, f"what is trained: {LORA} or {FULL}", "Lethe")
    epochs: int = setting(3, "how often each record comes", "TOFU: 5")
    batch: int = setting(8, "records that are computed at once", "common use")
    accumulate: int = setting(1, "such batches a step", "common use")
    max_tokens: int = setting(512, "tokens of a record that are used", "common use")
    seed: int = setting(0, "seed of the order and of the adapter's start", "Lethe")
    checkpoint_every: int = setting(
        100, "steps between checkpoints, each with two moments a trained weight", "Lethe"
    )
    rank: int = setting(16, "rank of each matrix's adapter", "LoRA, section 7: 8 to 64")
    alpha: int = setting(32, "the adapter is alpha / rank times B A", "common use: twice the rank")
    targets: tuple[str, ...] = setting(
        (),
        "ends of the names of the adapted matrices; none: all of the blocks",
        "Lethe",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        counts = ("epochs", "batch", "accumulate", "max_tokens", "checkpoint_every")
        require_positive(self, *counts, "rank", "alpha")
        if self.form not in (FULL, LORA):
            raise RequestError(f"form must be {LORA} or {FULL}.")


@dataclass(frozen=True)
class Trained:
    """A finished training.

    digest: SHA-256 of the trained weights and the optimiser. head: SHA-256 of the trace's chain.
    """

    folder: Path
    digest: str
    head: str
    details: dict[str, Any]


def train(
    lm: LanguageModel,
    records: Sequence[Record],
    folder: Path,
    config: TrainingConfig | None = None,
    progress: Progress | None = None,
    *,
    key: bytes | None = None,
) -> Trained:
    """Train `lm` in place and leave everything in `folder`, which must not exist yet.

    key: names the records in the trace; drawn if not given. A LoRA is taken out of `lm` at the
    end, full weights stay in it, as they do after an error: load the model anew then.
    Raises RequestError before anything is written, NotReached when training broke down or there
    is no room; `resume` then goes on from the last checkpoint.
    """
    config = config or TrainingConfig()
    key = key or secrets.token_bytes(32)
    named = {identifier(key, record.id): record for record in records}
    if not named:
        raise RequestError("Give at least one record to train on.")
    rows = token_rows(lm, named, config.max_tokens)
    header = {
        "settings": public_config(config),
        "model": state_digest(lm.model),
        "tokenizer": _tokenizer_digest(lm),
        "environment": environment(lm.device),
    }
    with _trained(lm, config):
        pass  # refuses what cannot be trained before anything is written
    trace = create(folder, key, header, schedule(list(named), config), records)
    return run(lm, trace, rows, progress)


def resume(lm: LanguageModel, folder: Path, progress: Progress | None = None) -> Trained:
    """Go on with a training that stopped, to the same bits; `lm` is the model it began with.

    Raises RequestError, before anything is changed, when the folder was changed, or the model or
    the environment is another.
    """
    trace = open_trace(folder)
    require_model(trace, lm)
    require_environment(trace.header["environment"], environment(lm.device))
    rows = token_rows(lm, records_of(trace), config_of(trace).max_tokens)
    return run(lm, trace, rows, progress)


def run(
    lm: LanguageModel, trace: Trace, rows: Mapping[str, list[int]], progress: Progress | None
) -> Trained:
    """Make the steps that are left and write the model or the adapter."""
    report, started, config = progress or silent, time.monotonic(), config_of(trace)
    total, loss = len(trace.steps), None
    with _trained(lm, config) as (model, parameters):
        trainer = Trainer(model, parameters, _pad_id(lm), config)
        kept = checkpoints(trace)
        if kept:
            trainer.load_state(read_state(trace, kept[-1]))
        begun = trainer.number
        for step in trace.steps[begun:]:
            loss = trainer.step(step, rows)
            if step.number % config.checkpoint_every == 0 or step.number == total:
                kept.append(keep_state(trace, step.number, trainer.state()))
            report("train", step.number, total)
        _write(lm, trace, trainer)
    details = {
        "form": config.form,
        "records": len(rows),
        "steps": total,
        "steps_made": total - begun,
        "loss": loss,
        "seconds": round(time.monotonic() - started, 2),
    }
    return Trained(trace.folder, kept[-1].digest, trace.heads[-1], details)


def schedule(names: Sequence[str], config: TrainingConfig) -> list[Step]:
    """Return all steps: in each epoch every record once, in an order drawn from the seed alone."""
    generator = torch.Generator().manual_seed(config.seed)
    order = [
        names[index]
        for _ in range(config.epochs)
        for index in torch.randperm(len(names), generator=generator).tolist()
    ]
    batches = _parts(order, config.batch)
    groups = _parts(batches, config.accumulate)
    return [
        Step(
            number,
            (config.seed * 1_000_003 + number) % 2**63,
            config.rate(number, len(groups)),
            tuple(tuple(batch) for batch in group),
        )
        for number, group in enumerate(groups, start=1)
    ]


def token_rows(lm: LanguageModel, records: Mapping[str, Record], most: int) -> dict[str, list[int]]:
    """Return the token ids of each record by its name in the trace."""
    return {name: tokens(lm, record.text, most) for name, record in records.items()}


def config_of(trace: Trace) -> TrainingConfig:
    """Return the settings that a trace was written with."""
    stored = trace.header["settings"]
    values = {one.name: stored[one.name] for one in fields(TrainingConfig)}
    lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    return TrainingConfig(**{**values, **lists})


def require_model(trace: Trace, lm: LanguageModel) -> None:
    """Raise RequestError unless `lm` is the model that the training began with."""
    if trace.header["model"] != state_digest(lm.model):
        raise RequestError("The training began with another model. Load that model.")
    if trace.header["tokenizer"] != _tokenizer_digest(lm):
        raise RequestError("The training began with another tokenizer. Load the model's own.")


@contextmanager
def _trained(
    lm: LanguageModel, config: TrainingConfig
) -> Iterator[tuple[Any, list[tuple[str, Parameter]]]]:
    """Give the model to run and the weights to train, by name."""
    if any(weight.is_meta for weight in lm.model.parameters()):
        raise RequestError("Some weights are not in memory. Use devices that hold the whole model.")
    if config.form == FULL:
        yield lm.model, _in_float32(list(lm.model.named_parameters()))
        return
    places = matrices(lm, config.targets)
    adapter = trainable(places, config.rank, torch.Generator().manual_seed(config.seed))
    with acting(places, adapter, config.alpha / config.rank):
        yield lm.model, list(adapter.items())


def _write(lm: LanguageModel, trace: Trace, trainer: Trainer) -> None:
    """Leave the trained model, or the adapter in PEFT's format, unless it is there already."""
    config = config_of(trace)
    target = trace.folder / (MODEL if config.form == FULL else ADAPTER)
    if target.exists():
        return
    try:
        if config.form == FULL:
            save(lm, target)
        else:
            _write_adapter(lm, config, trainer, target)
    except (OSError, SafetensorError) as error:
        raise NotReached(
            "The result cannot be written. Is the disk full? Make room, then go on with --resume."
        ) from error


def _write_adapter(
    lm: LanguageModel, config: TrainingConfig, trainer: Trainer, target: Path
) -> None:
    trained = zip(trainer.names, trainer.weights, strict=True)
    adapter = {name: weight.detach().cpu() for name, weight in trained}
    transposed = matrices(lm, config.targets)[0].transposed
    with tempfile.TemporaryDirectory(prefix=".adapter-", dir=target.parent) as work:
        inside = Path(work) / ADAPTER
        save_peft(adapter, inside, config.rank, config.alpha, transposed=transposed)
        sync(*inside.iterdir(), inside)
        inside.rename(target)
    sync(target.parent)


def _in_float32(parameters: list[tuple[str, Parameter]]) -> list[tuple[str, Parameter]]:
    if any(weight.dtype != torch.float32 for _, weight in parameters):
        raise RequestError(
            'Small steps vanish in 16 bits. Load the model with dtype="float32", or train a LoRA.'
        )
    return parameters


def _parts(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _pad_id(lm: LanguageModel) -> int:
    return int(lm.tokenizer.pad_token_id or 0)


def _tokenizer_digest(lm: LanguageModel) -> str:
    return hashlib.sha256(lm.tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
