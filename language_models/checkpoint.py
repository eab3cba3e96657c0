"""Open and save model folders: safetensors only, every file known by its SHA-256, no remote code.

A model folder comes from outside, so nothing in it may run: pickles, Python files, links and
settings that make a loader fetch or run code are refused before transformers sees the folder.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

# Read by huggingface_hub when it is imported: a model is a folder here, never a download.
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from language_models.architecture import class_name
from language_models.errors import CheckpointError
from language_models.files import (
    check_names,
    manifest_digest,
    read_json,
    refuse_unsafe_keys,
    sha256_of,
    sync,
    write_json,
)

MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"
REQUIRED = ("config.json", "tokenizer.json", "tokenizer_config.json")

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

# Keys of older releases that transformers still reads but no longer writes.
LEGACY_KEYS = frozenset({"rope_scaling", "rope_theta", "torch_dtype", "use_mrope"})


@dataclass(frozen=True)
class Checkpoint:
    """A verified model folder; `digest` names its content."""

    path: Path
    manifest: dict[str, str]
    digest: str


@dataclass(frozen=True)
class LanguageModel:
    """A model in memory with its tokenizer; `checkpoint` is None while it was never saved."""

    model: Any
    tokenizer: Any
    checkpoint: Checkpoint | None = None

    @property
    def device(self) -> torch.device:
        """The device of the embedding, where token ids must be."""
        device: torch.device = self.model.get_input_embeddings().weight.device
        return device


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Verify a model folder and return it, without reading the weights into memory.

    With a manifest.json, the files must be exactly those listed, with the same SHA-256; without
    one, the hashes are taken as found. Raises CheckpointError or UnsupportedArchitecture.
    """
    folder = Path(path)
    names = check_names(folder)
    for name in REQUIRED:
        if name not in names:
            raise CheckpointError(f"{name} is missing. Save the model with its tokenizer.")
    if not any(name.endswith(".safetensors") for name in names):
        raise CheckpointError(f"No weights found. Convert the weights to {WEIGHTS} first.")
    for name in sorted(names):
        if name.endswith(".json") and name != "tokenizer.json":
            refuse_unsafe_keys(name, read_json(folder / name))
    _check_config(read_json(folder / "config.json"))
    files = {name: sha256_of(folder / name) for name in sorted(names - {MANIFEST})}
    if MANIFEST in names:
        _compare(files, read_json(folder / MANIFEST))
    for name in files:
        if name.endswith(".safetensors"):
            _check_weights(folder / name)
    return Checkpoint(folder, files, manifest_digest(files))


def load(path: str | Path, device: str = "auto", dtype: str = "auto") -> LanguageModel:
    """Load a verified model folder.

    device: "auto" takes a GPU where there is one. dtype: "auto" keeps the stored one, else
    "float32", "bfloat16" or "float16". Raises CheckpointError or UnsupportedArchitecture.
    """
    checkpoint = open_checkpoint(path)
    if dtype != "auto" and dtype not in DTYPES:
        raise CheckpointError(f"Unknown dtype {dtype!r}. Use auto, {', '.join(DTYPES)}.")
    where = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    config = read_json(checkpoint.path / "config.json")
    family = getattr(transformers, class_name(config.get("model_type")))
    model, found = _quietly(
        family.from_pretrained,
        str(checkpoint.path),
        local_files_only=True,
        use_safetensors=True,
        output_loading_info=True,
        dtype=DTYPES.get(dtype, "auto"),
        # On processors the plain form is twice as fast as sdpa for short padded prompts.
        attn_implementation="eager" if where == "cpu" else "sdpa",
    )
    wrong = [kind for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") if found[kind]]
    if wrong:
        # transformers would fill what is missing with random numbers and go on.
        raise CheckpointError(
            f"The weights do not fit config.json ({', '.join(wrong)}). Use files that were saved"
            " together."
        )
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(
        str(checkpoint.path), local_files_only=True
    )
    return LanguageModel(model.to(where).eval(), tokenizer, checkpoint)


def save(lm: LanguageModel, directory: str | Path) -> Checkpoint:
    """Write a model folder with its manifest, whole or not at all; the folder must not exist yet.

    Equal weights, settings and tokenizer give equal files, so the digest names the content.
    """
    target = Path(directory)
    if target.exists():
        raise CheckpointError(f"The folder {target.name} exists already. Choose a new name.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".saving-", dir=target.parent) as work:
        folder = Path(work) / "model"
        folder.mkdir()
        _write(lm, folder)
        files = {entry.name: sha256_of(entry) for entry in sorted(folder.iterdir())}
        write_json(folder / MANIFEST, {"files": files})
        sync(*folder.iterdir(), folder)
        folder.rename(target)
    sync(target.parent)
    return Checkpoint(target, files, manifest_digest(files))


def saved(lm: LanguageModel, directory: str | Path) -> LanguageModel:
    """Save and return the same model in memory as belonging to its new folder."""
    return replace(lm, checkpoint=save(lm, directory))


def state_digest(model: torch.nn.Module) -> str:
    """Return the SHA-256 over sorted (name, dtype, shape, bytes) of all tensors of a model."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(bytes.fromhex(tensor_digest(tensor)))
    return digest.hexdigest()


def tensor_digest(tensor: torch.Tensor) -> str:
    """Return the SHA-256 over dtype, shape and bytes of one tensor."""
    digest = hashlib.sha256(f"{tensor.dtype}{list(tensor.shape)}".encode())
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _write(lm: LanguageModel, folder: Path) -> None:
    state = dict(lm.model.state_dict())
    if lm.model.config.tie_word_embeddings:
        del state["lm_head.weight"]
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(state.items())}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    settings = lm.model.config.to_diff_dict()
    # The path a model was loaded from is neither content nor anybody's business.
    settings.pop("_name_or_path", None)
    settings["architectures"] = [class_name(lm.model.config.model_type)]
    settings["dtype"] = str(lm.model.dtype).removeprefix("torch.")
    write_json(folder / "config.json", settings)
    generation = lm.model.generation_config.to_diff_dict()
    generation.pop("_from_model_config", None)
    write_json(folder / "generation_config.json", generation)
    lm.tokenizer.save_pretrained(str(folder))
    described = read_json(folder / "tokenizer_config.json")
    described.pop("name_or_path", None)
    # Depends on how the tokenizer came into memory, not on what it does.
    described.pop("is_local", None)
    described.pop("local_files_only", None)
    write_json(folder / "tokenizer_config.json", described)


def _check_config(config: dict[str, Any]) -> None:
    family = class_name(config.get("model_type"))
    # The configuration class alone: the model's own code takes seconds to import.
    described = getattr(transformers, family.removesuffix("ForCausalLM") + "Config")
    known = set(described().to_dict()) | LEGACY_KEYS
    for key in sorted(config):
        if key not in known:
            raise CheckpointError(
                f"config.json holds the key {key!r}, which {family} does not know. Remove it."
            )
    if config.get("architectures") not in (None, [family]):
        raise CheckpointError(f"config.json must name the architecture {family} alone.")


def _compare(files: dict[str, str], manifest: dict[str, Any]) -> None:
    listed = manifest.get("files")
    if not isinstance(listed, dict):
        raise CheckpointError(f'{MANIFEST} must hold {{"files": {{name: sha256}}}}.')
    for name in sorted(listed.keys() | files.keys()):
        if name not in files:
            raise CheckpointError(f"{name} is in {MANIFEST} but missing. Restore the folder.")
        if name not in listed:
            raise CheckpointError(f"{name} is not in {MANIFEST}. Remove it or list it.")
        if listed[name] != files[name]:
            raise CheckpointError(
                f"{name} is not the file that {MANIFEST} lists: its SHA-256 differs. Restore it."
            )


def _check_weights(path: Path) -> None:
    try:
        with safe_open(path, framework="pt") as weights:
            weights.keys()
    except SafetensorError as error:
        raise CheckpointError(
            f"{path.name} is not a safetensors file. Convert the weights to safetensors."
        ) from error


def _quietly(function: Any, *arguments: Any, **options: Any) -> Any:
    """Call a loader of transformers without its progress bar; the setting is put back."""
    bars = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        return function(*arguments, **options)
    finally:
        if bars:
            transformers.utils.logging.enable_progress_bar()
