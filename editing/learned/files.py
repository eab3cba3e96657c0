"""A trained editor as a folder: editor.safetensors and editor.json, written whole or not at all.

editor.json tells the method, the settings, the weights that the editor was trained for, the data
by its SHA-256, the training curve, and the SHA-256 of the other file and of itself.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from editing.learned.network import Design, Editor, Matrix, described
from editing.learned.settings import how_to_train
from language_models.checkpoint import state_digest
from language_models.errors import RequestError
from language_models.files import sha256_of, sync, write_json

if TYPE_CHECKING:
    from language_models.checkpoint import LanguageModel

FORMAT = "lethe-editor-1"
WEIGHTS, DESCRIPTION = "editor.safetensors", "editor.json"


@dataclass(frozen=True)
class TrainedEditor:
    """An editor and what is told of it in editor.json."""

    editor: Editor
    description: dict[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        """The training's settings, with the layers that were chosen."""
        settings: dict[str, Any] = self.description["settings"]
        return settings

    @property
    def digest(self) -> str:
        """The SHA-256 of the weights' file; empty before it is saved."""
        digest: str = self.description.get("weights", "")
        return digest


def digests_of(lm: LanguageModel) -> dict[str, str | None]:
    """Return what names the weights that an editor belongs to: in memory, and their folder."""
    folder = None if lm.checkpoint is None else lm.checkpoint.digest
    return {"state": state_digest(lm.model), "folder": folder}


def save_editor(trained: TrainedEditor, folder: Path) -> TrainedEditor:
    """Write the folder, which must not exist yet, and return the editor as it is named there."""
    if folder.exists():
        raise RequestError(f"The folder {folder.name} exists already. Choose a new name.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".editor-", dir=folder.parent) as work:
        inside = Path(work) / "editor"
        inside.mkdir()
        tensors = {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in sorted(trained.editor.state_dict().items())
        }
        save_file(tensors, inside / WEIGHTS)
        told = {**trained.description, "format": FORMAT, "weights": sha256_of(inside / WEIGHTS)}
        told["sha256"] = _digest(told)
        write_json(inside / DESCRIPTION, told)
        sync(inside / WEIGHTS, inside / DESCRIPTION, inside)
        inside.rename(folder)
    sync(folder.parent)
    return replace(trained, description=told)


def load_editor(folder: Path, method: str, lm: LanguageModel) -> TrainedEditor:
    """Read an editor for this method and this model.

    Raises RequestError when it is missing, damaged, of another method or for other weights. A
    model that was loaded from the right folder and edited since is let through.
    """
    told = _description(folder, method)
    if told["method"] != method:
        raise RequestError(
            f"This editor was trained for {told['method']}. Use that method. {how_to_train(method)}"
        )
    if not _belongs(lm, told["model"]):
        raise RequestError(
            f"This editor was trained for another model. Use that model. {how_to_train(method)}"
        )
    return TrainedEditor(_editor(folder, method, told).to(lm.device), told)


def _belongs(lm: LanguageModel, trained_for: dict[str, str | None]) -> bool:
    folder = None if lm.checkpoint is None else lm.checkpoint.digest
    # The digest of all weights takes long on a large model, so it comes second.
    if folder is not None and folder == trained_for["folder"]:
        return True
    return state_digest(lm.model) == trained_for["state"]


def design_from(described_design: dict[str, Any]) -> Design:
    """Return the design that `described` has told of."""
    matrices = tuple(Matrix(*row) for row in described_design["matrices"])
    return Design(**{**described_design, "matrices": matrices})


def _description(folder: Path, method: str) -> dict[str, Any]:
    try:
        told = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(
            f"There is no trained editor in this folder. {how_to_train(method)}"
        ) from error
    except ValueError as error:
        raise _damaged(method) from error
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        raise _damaged(method)
    if told.get("sha256") != _digest(told):
        raise _damaged(method)
    return told


def _digest(told: dict[str, Any]) -> str:
    """Return the SHA-256 of a description without this digest itself."""
    rest = {key: value for key, value in told.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _editor(folder: Path, method: str, told: dict[str, Any]) -> Editor:
    path = folder / WEIGHTS
    try:
        if sha256_of(path) != told["weights"]:
            raise _damaged(method)
        editor = Editor(design_from(told["design"]), seed=0)
        editor.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError, TypeError, KeyError) as error:
        raise _damaged(method) from error
    if not all(bool(torch.isfinite(tensor).all()) for tensor in editor.state_dict().values()):
        raise _damaged(method)
    return editor


def _damaged(method: str) -> RequestError:
    return RequestError(f"The editor's files are damaged. Restore them. {how_to_train(method)}")


def description(
    method: str, editor: Editor, settings: dict[str, Any], model: dict[str, str | None], data: str
) -> dict[str, Any]:
    """Return what editor.json tells, before training has added its curve."""
    return {
        "method": method,
        "design": described(editor.design),
        "settings": settings,
        "model": model,
        "data": data,
        "curve": [],
    }
