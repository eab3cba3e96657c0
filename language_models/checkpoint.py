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
from typing import TYPE_CHECKING, Any

# Read by huggingface_hub when it is imported: a model is a folder here, never a download.
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from language_models.errors import CheckpointError
from language_models.families import class_name, family_of
from language_models.files import (
    check_names,
    manifest_digest,
    read_json,
    refuse_unsafe_keys,
    sha256_of,
    sync,
    write_json,
)
from language_models.heap import keep_freed
from language_models.placement import computes_on, device_map, input_device, whole_state

if TYPE_CHECKING:
    from collections.abc import Mapping

MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
# Their keys are words of people's texts, not settings.
VOCABULARIES = ("tokenizer.json", "vocab.json", "added_tokens.json")
REQUIRED = ("config.json", "tokenizer.json", "tokenizer_config.json")

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

# Keys of older releases that transformers still reads but no longer writes, and keys of published
# folders that nothing reads.
LEGACY_KEYS = frozenset(
    {"rope_scaling", "rope_theta", "torch_dtype", "use_mrope"}
    | {"partial_rotary_factor", "rotary_pct", "rotary_emb_base"}  # GPT-NeoX, Phi-3
    | {"rope_local_base_freq", "sliding_window_pattern", "cache_implementation"}  # Gemma 2, 3
    | {"hidden_act", "hidden_activation", "sliding_window_size"}  # Gemma 1, 2
    | {"n_ctx", "task_specific_params", "gradient_checkpointing", "rotary", "tokenizer_class"}
    | {"attention_bias", "mlp_bias", "lm_head_bias", "interpolate_factor", "full_attn_mod"}  # Phi-3
    | {"experts_per_token", "initial_context_length"}  # gpt-oss
)


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
        return input_device(self.model.get_input_embeddings())


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
        if name.endswith(".json") and name not in VOCABULARIES:
            refuse_unsafe_keys(name, read_json(folder / name))
    _check_config(read_json(folder / "config.json"))
    if INDEX in names:
        _check_index(read_json(folder / INDEX), names)
    files = {name: sha256_of(folder / name) for name in sorted(names - {MANIFEST})}
    if MANIFEST in names:
        _compare(files, read_json(folder / MANIFEST))
    for name in files:
        if name.endswith(".safetensors"):
            _check_weights(folder / name)
    return Checkpoint(folder, files, manifest_digest(files))


def load(
    path: str | Path, device: str | Mapping[str, str | int] = "auto", dtype: str = "auto"
) -> LanguageModel:
    """Load a verified model folder. No code of the folder runs.

    device: "auto" takes a GPU where there is one, else the processor. "split" spreads a model
    that is larger than one GPU over all of them by Accelerate's device map; what fits none stays
    in memory or in the folder and is brought in for each use. A map {"model.layers.3": "cuda:1",
    "": 0} does so by hand; the longest name decides, "" is the rest. A layer whose weights stay
    elsewhere ("disk", "cpu" beside GPUs) generates and traces but cannot be edited. Tests run
    maps of "cpu" and "disk" on a processor; maps over several GPUs were never run by them.
    dtype: "auto" keeps the stored one, else "float32", "bfloat16" or "float16".
    Raises CheckpointError or UnsupportedArchitecture.
    """
    checkpoint = open_checkpoint(path)
    if dtype != "auto" and dtype not in DTYPES:
        raise CheckpointError(f"Unknown dtype {dtype!r}. Use auto, {', '.join(DTYPES)}.")
    where = computes_on(device)
    described = read_json(checkpoint.path / "config.json")
    if where == "cpu":
        keep_freed()
    family = family_of(described.get("model_type"))
    model_class = getattr(transformers, family.model_class)
    places = device_map(device, family, described)
    options = {
        "dtype": DTYPES.get(dtype, "auto"),
        "attn_implementation": attention(model_class, where),
        "device_map": places,
    }
    model, found = _read(model_class, checkpoint.path, options)
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
    # Accelerate has placed a split model already, and sets where each part gets its input.
    placed = model.to(where if device == "auto" else device) if places is None else model
    return LanguageModel(placed.eval(), tokenizer, checkpoint)


def _read(model_class: Any, folder: Path, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the model and what transformers found missing or left over in its files."""
    try:
        return _quietly(  # type: ignore[no-any-return]
            model_class.from_pretrained,
            str(folder),
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
    except ValueError as error:
        if options["device_map"] is None:
            raise
        # The folder stores the experts of a mixture one by one, the memory holds them together.
        raise CheckpointError(
            "This model cannot be split so: a mixture of experts cannot stay in its folder's files,"
            " and each other device of a map must exist. Give all layers a device, or use a"
            " machine with more memory."
        ) from error


def attention(model_class: Any, where: str) -> str:
    """Return the attention a class computes with on a type of device.

    On processors the plain form is twice as fast as sdpa for short padded prompts; Gemma 2, GPT-J
    and gpt-oss have no sdpa, for soft caps, and sinks.
    """
    return "eager" if where == "cpu" or not model_class._supports_sdpa else "sdpa"


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
    for name, tensor in sorted(whole_state(model).items()):
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
    tensors = _stored_tensors(lm.model)
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


def _stored_tensors(model: Any) -> dict[str, torch.Tensor]:
    """Return the tensors of a model by the names that its family's published folders have.

    The memory holds the experts of a mixture in one tensor, and GPT-NeoX's head by another name.
    """
    state = {name: tensor.detach().cpu() for name, tensor in whole_state(model).items()}
    if model.config.tie_word_embeddings:
        head = state.pop(_name_of(model, model.get_output_embeddings()))
        if not torch.equal(head, state[_name_of(model, model.get_input_embeddings())]):
            raise CheckpointError(
                "The embedding and the head differ, but the config ties them: one would be lost."
                " Set tie_word_embeddings to False in the model's config."
            )
    # Imported here, as it loads what reading a folder does without.
    from transformers.core_model_loading import revert_weight_conversion

    # How the folder that a model came from was written is not content: the family alone decides.
    came = model.__dict__.pop("_weight_conversions", None)
    try:
        stored = revert_weight_conversion(model, state)
    finally:
        if came is not None:
            model._weight_conversions = came
    # A part of a larger tensor would bring the whole of it into the file.
    return {
        name: tensor.contiguous() if _alone(tensor) else tensor.clone()
        for name, tensor in sorted(stored.items())
    }


def _alone(tensor: torch.Tensor) -> bool:
    return tensor.untyped_storage().nbytes() == tensor.nbytes


def _name_of(model: Any, part: torch.nn.Module) -> str:
    return next(f"{name}.weight" for name, module in model.named_modules() if module is part)


def _check_config(config: dict[str, Any]) -> None:
    family = class_name(config.get("model_type"))
    # The configuration class alone: the model's own code takes seconds to import.
    described = getattr(transformers, family_of(config.get("model_type")).config_class)
    known = described().to_dict().keys() | described.attribute_map.keys() | LEGACY_KEYS
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


def _check_index(index: dict[str, Any], names: set[str]) -> None:
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict):
        raise CheckpointError(f"{INDEX} must hold a weight_map. Restore the file.")
    # A path in the index would be read, wherever it leads.
    if not {str(name) for name in weight_map.values()} <= names:
        raise CheckpointError(
            f"{INDEX} names a file that is not in the folder. Restore the folder."
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
