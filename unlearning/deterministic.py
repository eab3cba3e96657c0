"""Training steps that give the same bits whenever they are made again on the same machine.

What a step depends on is written in its `Step` before it is made: which records stand in which
slot, the seed and the learning rate. An id without a row leaves its slot empty: it adds no token,
moves no other record, and the loss is the mean over the tokens that are there. So a run with
empty slots is the run that never had those records in them.

Only algorithms that torch calls deterministic are let in, dropout is off, nothing is computed in
a number format but the weights' own, and no two records share a row of the batch.
"""

from __future__ import annotations

import hashlib
import math
import os
import platform
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

# cuBLAS reads it when it is first used; without it, its sums come in any order.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import torch
import transformers
from torch.nn import functional as F

from language_models.checkpoint import tensor_digest
from language_models.errors import NotReached, RequestError
from language_models.methods import require_positive, setting
from language_models.placement import input_device, is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor
    from torch.nn import Parameter

IGNORED = -100
NUMBER = "steps"
CONSTANT, COSINE = "constant", "cosine"


@dataclass(frozen=True)
class Step:
    """What is written ahead of a step.

    number: counted from 1. slots: per micro-batch the ids of the records, in order.
    """

    number: int
    seed: int
    learning_rate: float
    slots: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Optimisation:
    """Settings of AdamW and of its learning rate, none of which depends on the records."""

    learning_rate: float = setting(1e-4, "AdamW's highest learning rate", "common use for LoRA")
    weight_decay: float = setting(0.0, "AdamW's weight decay", "common use for fine-tuning")
    betas: tuple[float, float] = setting((0.9, 0.999), "decay of AdamW's moments", "AdamW, §2")
    epsilon: float = setting(1e-8, "what AdamW adds to the root of the second moment", "AdamW, §2")
    max_gradient: float = setting(1.0, "norm the gradient is clipped to; 0: never", "common use")
    warmup: int = setting(0, "steps in which the learning rate rises from 0", "Lethe")
    decay: str = setting(CONSTANT, f"{CONSTANT}, or {COSINE} to a tenth at the last step", "Lethe")

    def __post_init__(self) -> None:
        require_positive(self, "learning_rate", "epsilon")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise RequestError("weight_decay must be 0 or above.")
        if not (math.isfinite(self.max_gradient) and self.max_gradient >= 0):
            raise RequestError("max_gradient must be 0 or above.")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise RequestError("betas must be two numbers from 0 to below 1.")
        # AdamW's first step divides by 1 - β1, in the weights' own number format.
        if self.learning_rate / (1 - self.betas[0]) > torch.finfo(torch.float32).max:
            raise RequestError("learning_rate is too large to be computed with. Lower it.")
        if self.warmup < 0:
            raise RequestError("warmup must be 0 or above.")
        if self.decay not in (CONSTANT, COSINE):
            raise RequestError(f"decay must be {CONSTANT} or {COSINE}.")

    def rate(self, number: int, total: int) -> float:
        """Return the learning rate of step `number` of `total`, both counted from 1."""
        if number <= self.warmup:
            return self.learning_rate * number / self.warmup
        if self.decay == CONSTANT:
            return self.learning_rate
        done = (number - self.warmup) / max(1, total - self.warmup)
        return self.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))


class Trainer:
    """The weights that are trained, their AdamW, and the one way in which a step changes them.

    parameters: name and parameter of each trained weight; all others stay as they are.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        parameters: Sequence[tuple[str, Parameter]],
        pad_id: int,
        optimisation: Optimisation,
    ) -> None:
        if not parameters:
            raise RequestError("No weight is chosen to be trained.")
        self.model: Any = model
        self.names = [name for name, _ in parameters]
        self.weights = [weight for _, weight in parameters]
        self.pad_id, self.optimisation = pad_id, optimisation
        self.number = 0
        self.adamw = torch.optim.AdamW(
            self.weights,
            lr=optimisation.learning_rate,
            betas=optimisation.betas,
            eps=optimisation.epsilon,
            weight_decay=optimisation.weight_decay,
        )

    def step(self, step: Step, rows: Mapping[str, list[int]]) -> float | None:
        """Make one step; return the mean loss per token in nats, or None where no token was.

        rows: token ids by record id. The first token of a row is given, all others are learnt; an
        id without a row leaves its slot empty. A step without any token changes nothing but
        counts.
        Raises NotReached when the loss or gradient is not finite or memory is out, RequestError
        when a kernel is not deterministic or the step is not the next one; the weights and the
        optimiser are then as before the step.
        """
        if step.number != self.number + 1:
            raise RequestError(f"Step {self.number + 1} comes next, not step {step.number}.")
        present = [[rows[one] for one in slot if one in rows] for slot in step.slots]
        present = [batch for batch in present if batch]
        tokens = sum(len(row) - 1 for batch in present for row in batch)
        loss = None
        if tokens:
            with self._learning(step.seed):
                loss = self._gradients(present, tokens)
                self._move(step.learning_rate, loss)
        self.number = step.number
        return loss

    def state(self) -> dict[str, Tensor]:
        """Return copies on the CPU of the trained weights, AdamW's moments and the step count."""
        state = {NUMBER: torch.tensor(self.number)}
        for name, weight in zip(self.names, self.weights, strict=True):
            state[f"weight.{name}"] = weight
            for part, value in self.adamw.state.get(weight, {}).items():
                state[f"{part}.{name}"] = value
        return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Bring weights, moments and step count back to what `state` returned.

        Raises RequestError, before anything is changed, when the state is of other weights.
        """
        moments: dict[int, dict[str, Tensor]] = {}
        parts = ("step", "exp_avg", "exp_avg_sq")
        known = {f"{part}.{name}": (index, part)
                 for index, name in enumerate(self.names) for part in parts}  # fmt: skip
        weights = {f"weight.{name}": weight
                   for name, weight in zip(self.names, self.weights, strict=True)}  # fmt: skip
        if not weights.keys() | {NUMBER} <= state.keys() <= weights.keys() | known | {NUMBER}:
            raise RequestError("The kept state is of other weights. Use the model it belongs to.")
        for name, weight in weights.items():
            if state[name].shape != weight.shape or state[name].dtype != weight.dtype:
                raise RequestError("The kept state is of weights of another shape or type.")
        for name, (index, part) in known.items():
            if name in state:
                moments.setdefault(index, {})[part] = state[name].clone()
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(state[name])
        groups = self.adamw.state_dict()["param_groups"]
        self.adamw.load_state_dict({"state": moments, "param_groups": groups})
        self.number = int(state[NUMBER])

    def _gradients(self, batches: list[list[list[int]]], tokens: int) -> float:
        """Leave the gradient of the mean token loss in the weights; return the loss."""
        total = 0.0
        for batch in batches:
            ids, mask = self._padded(batch)
            logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
            labels = ids.masked_fill(mask == 0, IGNORED)[:, 1:].flatten().to(logits.device)
            # Flat, because the loss over (b, v, t) has no deterministic form on a GPU.
            scores = logits[:, :-1].flatten(0, 1).float()
            loss = F.cross_entropy(scores, labels, ignore_index=IGNORED, reduction="sum") / tokens
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        return total

    def _move(self, learning_rate: float, loss: float) -> None:
        most = self.optimisation.max_gradient or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self.weights, most)
        if not (math.isfinite(loss) and bool(torch.isfinite(norm))):
            raise NotReached(
                "Training broke down: the loss or its gradient is not finite. Lower the learning"
                " rate."
            )
        for group in self.adamw.param_groups:
            group["lr"] = learning_rate
        self.adamw.step()

    def _padded(self, batch: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Return ids and mask (b, t), padded at the end."""
        device = input_device(self.model.get_input_embeddings())
        width = max(len(row) for row in batch)
        ids = [row + [self.pad_id] * (width - len(row)) for row in batch]
        mask = [[1] * len(row) + [0] * (width - len(row)) for row in batch]
        return torch.tensor(ids, device=device), torch.tensor(mask, device=device)

    def _gpus(self) -> list[int]:
        return sorted({weight.device.index for weight in self.weights if weight.is_cuda})

    @contextmanager
    def _learning(self, seed: int) -> Iterator[None]:
        """Let gradients reach the trained weights alone, dropout off; put all back after."""
        modes = [(module, module.training) for module in self.model.modules()]
        needed = [(weight, weight.requires_grad) for weight in self.model.parameters()]
        for weight, _ in needed:
            weight.requires_grad_(requires_grad=False)
        for weight in self.weights:
            weight.requires_grad_()
        self.model.eval()
        try:
            with deterministic(), torch.random.fork_rng(self._gpus()):
                torch.manual_seed(seed)
                yield
        finally:
            self.adamw.zero_grad(set_to_none=True)
            for module, training in modes:
                module.training = training
            for weight, before in needed:
                weight.requires_grad_(requires_grad=before)


@contextmanager
def deterministic() -> Iterator[None]:
    """Let only deterministic algorithms of torch run inside; put the setting back after.

    Raises RequestError for a kernel that has no deterministic form, NotReached without memory.
    """
    before = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("error")
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise NotReached(
                "The device's memory is too small for a step. Make the micro-batch or the longest"
                " text smaller."
            ) from error
        if "deterministic" not in str(error):
            raise
        raise RequestError(
            "A kernel that this model needs has no deterministic form here, so equal bits cannot be"
            " promised. Train on a processor, or load the model with another attention."
        ) from error
    finally:
        torch.set_deterministic_debug_mode(before)


def environment(device: torch.device) -> dict[str, Any]:
    """Return what the last bits of a step depend on beside its inputs, as JSON values."""
    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "device": device.type,
        "name": _name(device),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "precision": torch.get_float32_matmul_precision(),
        "cublas": os.environ["CUBLAS_WORKSPACE_CONFIG"] if device.type == "cuda" else "",
    }


def require_environment(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise RequestError, which names what differs, unless both environments are the same."""
    other = sorted(key for key in recorded.keys() | now.keys() if recorded.get(key) != now.get(key))
    if other:
        told = "; ".join(f"{key} {recorded.get(key)}, now {now.get(key)}" for key in other)
        raise RequestError(
            f"The training was made in another environment ({told}), so equal bits cannot be"
            " promised here (class A). Use that environment again, or choose to train again here"
            " without the records, which is exact in distribution (class A′; --in-distribution)."
        )


def digest(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over sorted (name, dtype, shape, bytes) of all tensors."""
    whole = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        whole.update(name.encode())
        whole.update(bytes.fromhex(tensor_digest(tensor)))
    return whole.hexdigest()


def _name(device: torch.device) -> str:
    """Return the name of the chip; other chips add in another order."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
