"""Training of an editor that stopped half-way: one file, replaced whole at each check.

It holds the networks, the best so far and Adam's moments, so that training goes on in the same
bits, and what the training belongs to, so that it goes on with nothing else.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from language_models.errors import RequestError
from language_models.files import sync
from language_models.methods import public_config

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from editing.learned.training import Training

FORMAT = "lethe-editor-training-1"


def unfinished(folder: Path) -> Path:
    """Return the file that stands beside an editor's folder while it is trained."""
    return folder.with_name(f"{folder.name}.unfinished")


def save_state(training: Training, path: Path) -> None:
    """Write all that training needs to go on, whole or not at all."""
    tensors = {
        **_prefixed("editor", training.editor.state_dict()),
        **_prefixed("best", training.best),
    }
    for index, moments in training.adam.state_dict()["state"].items():
        tensors |= _prefixed(f"adam.{index}", moments)
    told = {"belongs": _belongs(training), "done": training.done, "curve": training.curve}
    work = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
            work,
            metadata={"format": FORMAT, "told": json.dumps(told)},
        )
        sync(work)
        work.replace(path)
    finally:
        work.unlink(missing_ok=True)
    sync(path.parent)


def load_state(training: Training, path: Path) -> None:
    """Bring training to where the file was written.

    Raises RequestError when there is no such file, when it is damaged, or when it belongs to
    another model, other data or other settings.
    """
    told, tensors = _read(path)
    for what, now in _belongs(training).items():
        if told["belongs"].get(what) != now:
            raise RequestError(
                f"The unfinished training is of another {what}. Give the same command as before,"
                f" or remove {path.name} and start without --resume."
            )
    device = training.lm.device
    training.editor.load_state_dict(_under("editor", tensors))
    training.best = {name: tensor.to(device) for name, tensor in _under("best", tensors).items()}
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in _under("adam", tensors).items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = tensor
    groups = training.adam.state_dict()["param_groups"]
    training.adam.load_state_dict({"state": state, "param_groups": groups})
    training.done, training.curve = told["done"], told["curve"]


def _belongs(training: Training) -> dict[str, Any]:
    return {
        "method": training.rule.method,
        "model": training.model["state"],
        "data": training.data.digest,
        "settings": public_config(training.config),
    }


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise RequestError(
            "There is no unfinished training here. Start it without --resume."
        ) from error
    except (OSError, SafetensorError) as error:
        raise _damaged(path) from error
    if metadata.get("format") != FORMAT:
        raise _damaged(path)
    told: dict[str, Any] = json.loads(metadata["told"])
    return told, tensors


def _damaged(path: Path) -> RequestError:
    return RequestError(f"{path.name} is damaged. Remove it and start without --resume.")


def _prefixed(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    start = f"{prefix}."
    return {
        name.removeprefix(start): tensor
        for name, tensor in tensors.items()
        if name.startswith(start)
    }
