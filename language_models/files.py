"""The files of a model folder: which names and settings are let in, hashes, durable writing."""

from __future__ import annotations

import hashlib
import json
import os
import re
from typing import TYPE_CHECKING, Any

from language_models.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

# What is loaded. Anything that is neither this nor a text to read is refused by name.
LOADED = re.compile(
    r"config\.json|generation_config\.json|manifest\.json"
    r"|tokenizer\.json|tokenizer_config\.json|special_tokens_map\.json|vocab\.json|merges\.txt"
    r"|added_tokens\.json|chat_template\.jinja"
    r"|model\.safetensors|model-\d{5}-of-\d{5}\.safetensors|model\.safetensors\.index\.json"
)
READING = re.compile(r"[A-Za-z0-9_.-]+\.md|LICENSE(\.txt)?|NOTICE(\.txt)?|\.gitattributes")

# Settings that make a loader fetch or run something that is not in the folder. An attention
# implementation may name a kernel repository, a quantisation may name a plug-in. A chat template
# is let in: it runs in transformers' sandbox, and only when somebody formats a chat.
UNSAFE = re.compile(
    r"auto_map|trust_remote_code|custom_pipelines|_?attn_implementation\w*"
    r"|_?experts_implementation\w*|custom_generate"
)


def check_names(folder: Path) -> set[str]:
    """Return the names of the files to load; raise CheckpointError on any other kind of entry."""
    if not folder.is_dir():
        raise CheckpointError("The model folder does not exist. Check the path.")
    if folder.is_symlink():
        raise CheckpointError("The model folder is a link. Give the folder itself.")
    names: set[str] = set()
    for entry in sorted(folder.iterdir()):
        if entry.is_symlink():
            raise CheckpointError(f"{entry.name} is a link. Copy the file itself into the folder.")
        if LOADED.fullmatch(entry.name) and entry.is_file():
            names.add(entry.name)
        elif not (READING.fullmatch(entry.name) and entry.is_file()):
            raise CheckpointError(
                f"{entry.name} does not belong in a model folder. Keep safetensors, config and"
                " tokenizer files only; convert .bin, .pt and .pkl to safetensors."
            )
    return names


def refuse_unsafe_keys(name: str, value: Any) -> None:
    """Raise CheckpointError when a setting at any depth could fetch or run code."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "quantization_config":
                raise CheckpointError(
                    f"{name} holds {key!r}: the weights are quantised, and cannot be edited. Save"
                    " them dequantised in bfloat16 (gpt-oss: load with"
                    " Mxfp4Config(dequantize=True), then save_pretrained) and open that folder."
                )
            if UNSAFE.fullmatch(key):
                raise CheckpointError(
                    f"{name} holds the setting {key!r}, which can load code from elsewhere."
                    " Remove it."
                )
            refuse_unsafe_keys(name, inner)
    elif isinstance(value, list):
        for inner in value:
            refuse_unsafe_keys(name, inner)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object, or raise CheckpointError."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path.name} is not valid JSON. Restore the file.") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path.name} must hold a JSON object.")
    return value


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object in one fixed form, so that equal content gives equal bytes."""
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal text."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def manifest_digest(files: dict[str, str]) -> str:
    """Return the SHA-256 of the canonical JSON of a manifest's files."""
    canonical = json.dumps(files, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def model_digest(folder: Path) -> str:
    """Return what a saved model folder is named by, read from its files as they are now."""
    names = sorted(entry.name for entry in folder.iterdir() if entry.name != "manifest.json")
    return manifest_digest({name: sha256_of(folder / name) for name in names})


def sync(*paths: Path) -> None:
    """Bring files, or the list of names of folders, to the disk."""
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
