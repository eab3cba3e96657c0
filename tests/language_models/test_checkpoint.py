from __future__ import annotations

import json
import pickle
import shutil
from typing import TYPE_CHECKING

import pytest
import torch

from language_models import CheckpointError, UnsupportedArchitecture, load, open_checkpoint, save
from language_models.checkpoint import state_digest
from tests.language_models.factories import change_json, tiny_checkpoint, tiny_model

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_save_and_load_every_family_keeps_each_bit(tmp_path: Path, family: str) -> None:
    lm = tiny_model(family)
    checkpoint = save(lm, tmp_path / "model")

    loaded = load(tmp_path / "model", device="cpu")

    assert state_digest(loaded.model) == state_digest(lm.model)
    assert loaded.checkpoint == checkpoint
    assert sorted(entry.name for entry in checkpoint.path.iterdir()) == [
        "config.json",
        "generation_config.json",
        "manifest.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_save_of_a_loaded_model_gives_the_same_digest(tmp_path: Path) -> None:
    first = tiny_checkpoint(tmp_path / "first")

    second = save(load(first.path, device="cpu"), tmp_path / "second")

    assert second.digest == first.digest
    assert second.manifest == first.manifest


def test_save_into_an_existing_folder_is_refused(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "model")

    with pytest.raises(CheckpointError, match="exists already"):
        save(tiny_model(seed=1), checkpoint.path)

    assert open_checkpoint(checkpoint.path).digest == checkpoint.digest
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_load_with_another_dtype(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "model")

    assert load(checkpoint.path, device="cpu", dtype="bfloat16").model.dtype == torch.bfloat16


def test_load_with_an_unknown_dtype_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="Unknown dtype"):
        load(tiny_checkpoint(tmp_path / "model").path, dtype="int3")


def test_open_without_a_manifest_takes_the_hashes_as_found(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "model")
    (checkpoint.path / "manifest.json").unlink()
    (checkpoint.path / "README.md").write_text("about")

    assert open_checkpoint(checkpoint.path).digest == checkpoint.digest


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_open_with_one_changed_byte_is_refused(tmp_path: Path, name: str) -> None:
    path = tiny_checkpoint(tmp_path / "model").path / name
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)

    with pytest.raises(CheckpointError, match=name):
        open_checkpoint(path.parent)


@pytest.mark.parametrize(
    "name",
    ["pytorch_model.bin", "weights.pt", "data.pkl", "modeling_llama.py", "tokenizer.model", "sub"],
)
def test_open_with_a_file_that_does_not_belong_is_refused(tmp_path: Path, name: str) -> None:
    path = tiny_checkpoint(tmp_path / "model").path
    if name == "sub":
        (path / name).mkdir()
    else:
        (path / name).write_bytes(b"x")

    with pytest.raises(CheckpointError, match=name):
        open_checkpoint(path)


def test_open_with_a_link_is_refused(tmp_path: Path) -> None:
    path = tiny_checkpoint(tmp_path / "model").path
    weights = path / "model.safetensors"
    shutil.move(weights, tmp_path / "elsewhere.safetensors")
    weights.symlink_to(tmp_path / "elsewhere.safetensors")

    with pytest.raises(CheckpointError, match="is a link"):
        open_checkpoint(path)


def test_open_a_pickle_named_safetensors_is_refused(tmp_path: Path) -> None:
    path = tiny_checkpoint(tmp_path / "model").path
    (path / "manifest.json").unlink()
    (path / "model.safetensors").write_bytes(pickle.dumps({"weight": [1.0]}))

    with pytest.raises(CheckpointError, match="not a safetensors file"):
        open_checkpoint(path)


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("config.json", {"auto_map": {"AutoModelForCausalLM": "modeling.Model"}}),
        ("config.json", {"trust_remote_code": True}),
        ("config.json", {"_attn_implementation": "someone/kernel"}),
        ("config.json", {"_attn_implementation_internal": "someone/kernel"}),
        ("config.json", {"quantization_config": {"quant_method": "awq"}}),
        ("config.json", {"rope_scaling": {"auto_map": {}}}),
        ("config.json", {"unheard_of": 1}),
        ("config.json", {"architectures": ["OtherForCausalLM"]}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["tokenization.T", None]}}),
        ("generation_config.json", {"custom_generate": "someone/loop"}),
    ],
)
def test_open_with_a_setting_that_is_not_allowed_is_refused(
    tmp_path: Path, file: str, change: dict[str, object]
) -> None:
    path = tiny_checkpoint(tmp_path / "model").path
    change_json(path / file, **change)

    with pytest.raises(CheckpointError, match=r"config\.json"):
        open_checkpoint(path)


def test_open_an_unsupported_family_names_those_that_work(tmp_path: Path) -> None:
    path = tiny_checkpoint(tmp_path / "model").path
    change_json(path / "config.json", model_type="gpt2")

    with pytest.raises(UnsupportedArchitecture, match="llama, mistral, qwen2, qwen3"):
        open_checkpoint(path)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_open_with_a_missing_file_says_which(tmp_path: Path, name: str) -> None:
    path = tiny_checkpoint(tmp_path / "model").path
    (path / name).unlink()

    with pytest.raises(CheckpointError, match=r"missing|No weights"):
        open_checkpoint(path)


def test_open_with_a_file_outside_the_manifest_is_refused(tmp_path: Path) -> None:
    path = tiny_checkpoint(tmp_path / "model").path
    (path / "vocab.json").write_text("{}")

    with pytest.raises(CheckpointError, match=r"vocab\.json is not in manifest\.json"):
        open_checkpoint(path)


@pytest.mark.parametrize("content", ["[1]", "{", "\xff"])
def test_open_with_a_broken_config_is_refused(tmp_path: Path, content: str) -> None:
    path = tiny_checkpoint(tmp_path / "model").path
    (path / "config.json").write_text(content, encoding="latin-1")

    with pytest.raises(CheckpointError, match=r"config\.json"):
        open_checkpoint(path)


def test_open_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        open_checkpoint(tmp_path / "nothing")


def test_load_weights_of_another_shape_is_refused(tmp_path: Path) -> None:
    path = tiny_checkpoint(tmp_path / "model").path
    config = json.loads((path / "config.json").read_text())
    change_json(path / "config.json", num_hidden_layers=config["num_hidden_layers"] + 1)

    with pytest.raises(CheckpointError, match="do not fit"):
        load(path, device="cpu")
