from __future__ import annotations

import json
import pickle
import shutil
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import Gemma3Config, Gemma3ForCausalLM, Gemma3ForConditionalGeneration

from language_models import (
    CheckpointError,
    LanguageModel,
    UnsupportedArchitecture,
    load,
    open_checkpoint,
    save,
)
from language_models.architecture import FAMILIES, parts
from language_models.checkpoint import INDEX, WEIGHTS, state_digest
from tests.language_models.factories import (
    change_json,
    tiny_checkpoint,
    tiny_config,
    tiny_model,
    tiny_tokenizer,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_save_and_load_every_family_keeps_each_bit(tmp_path: Path, family: str, tied: bool) -> None:
    lm = tiny_model(family, tied=tied, noise=0.1)
    checkpoint = save(lm, tmp_path / "model")

    loaded = load(tmp_path / "model", device="cpu")

    assert state_digest(loaded.model) == state_digest(lm.model)
    assert parts(loaded.model).head is not parts(loaded.model).embed
    assert (parts(loaded.model).head.weight is parts(loaded.model).embed.weight) == tied
    assert loaded.checkpoint == checkpoint
    assert save(loaded, tmp_path / "again").digest == checkpoint.digest
    assert sorted(entry.name for entry in checkpoint.path.iterdir()) == [
        "config.json",
        "generation_config.json",
        "manifest.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


@pytest.mark.parametrize(("tied", "shard"), [(True, "5GB"), (False, "30KB")])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_load_what_transformers_wrote_and_save_it_under_the_same_digest(
    tmp_path: Path, family: str, tied: bool, shard: str
) -> None:
    lm = tiny_model(family, tied=tied, noise=0.1)
    lm.tokenizer.chat_template = "{{ messages[0]['content'] }}"
    lm.model.save_pretrained(tmp_path / "theirs", max_shard_size=shard)
    lm.tokenizer.save_pretrained(tmp_path / "theirs")

    loaded = load(tmp_path / "theirs", device="cpu")

    ours = save(lm, tmp_path / "ours")
    assert ((tmp_path / "theirs" / INDEX).exists()) == (shard == "30KB")
    assert state_digest(loaded.model) == state_digest(lm.model)
    assert save(loaded, tmp_path / "again").digest == ours.digest
    with safe_open(ours.path / WEIGHTS, framework="pt") as one:
        assert set(one.keys()) == _names(tmp_path / "theirs")


def test_load_gpt2_as_published_and_save_it_under_the_same_digest(tmp_path: Path) -> None:
    lm = tiny_model("gpt2", noise=0.1)
    ours = save(lm, tmp_path / "ours")
    path = save(lm, tmp_path / "published").path
    (path / "manifest.json").unlink()
    weights = load_file(path / WEIGHTS)
    # The published folder names the weights without the backbone's own name.
    short = {name.removeprefix("transformer."): weight for name, weight in weights.items()}
    save_file(short, path / WEIGHTS, metadata={"format": "pt"})

    loaded = load(path, device="cpu")

    assert state_digest(loaded.model) == state_digest(lm.model)
    assert save(loaded, tmp_path / "again").digest == ours.digest


def _names(folder: Path) -> set[str]:
    found: set[str] = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as weights:
            found |= set(weights.keys())
    return found


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_save_and_load_keep_the_number_format(
    tmp_path: Path, family: str, dtype: torch.dtype
) -> None:
    lm = tiny_model(family, dtype=dtype)

    loaded = load(save(lm, tmp_path / "model").path, device="cpu")

    assert loaded.model.dtype == dtype
    # transformers brings gpt-oss's norms into float32 beside float16; no value changes.
    assert state_digest(loaded.model.to(dtype)) == state_digest(lm.model)


# Keys of published folders, as written by the releases of transformers of their time.
PUBLISHED = {
    "gpt2": {"n_ctx": 256, "task_specific_params": {"text-generation": {"max_length": 50}}},
    "gptj": {"rotary": True, "tokenizer_class": "GPT2Tokenizer", "gradient_checkpointing": False},
    "gpt_neox": {"rotary_pct": 0.25, "rotary_emb_base": 10000, "torch_dtype": "float32"},
    "llama": {"rope_theta": 10000.0, "rope_scaling": None, "torch_dtype": "float32"},
    "mistral": {"rope_theta": 10000.0},
    "qwen2": {"rope_theta": 10000.0, "use_mrope": False},
    "qwen3": {"rope_theta": 10000.0, "rope_scaling": None},
    "gemma": {"rope_theta": 10000.0, "hidden_activation": None},
    "gemma2": {"rope_theta": 10000.0, "cache_implementation": "hybrid", "hidden_act": "gelu"},
    "gemma3_text": {"rope_local_base_freq": 10000, "sliding_window_pattern": 6},
    "phi3": {"rope_scaling": None, "rope_theta": 10000.0, "attention_bias": False},
    "olmo2": {"rope_theta": 10000.0, "rope_scaling": None},
    "mixtral": {"rope_theta": 10000.0, "torch_dtype": "float32"},
    "qwen3_moe": {"num_experts": 4, "rope_theta": 10000.0},
    "gpt_oss": {"experts_per_token": 2, "initial_context_length": 4096, "rope_theta": 150000},
}


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_load_with_the_keys_of_published_folders(tmp_path: Path, family: str) -> None:
    lm = tiny_model(family)
    path = save(lm, tmp_path / "model").path
    config = json.loads((path / "config.json").read_text())
    for key in ("rope_parameters", "num_local_experts") if family == "qwen3_moe" else ():
        del config[key]
    (path / "config.json").write_text(json.dumps(config))
    change_json(path / "config.json", **PUBLISHED[family])

    loaded = load(path, device="cpu")

    ids = torch.tensor([[1, 40, 80, 120]])
    assert torch.equal(loaded.model(ids).logits, lm.model(ids).logits)
    assert open_checkpoint(save(loaded, tmp_path / "again").path)


def test_open_a_model_of_pictures_says_how_to_save_its_text_model(tmp_path: Path) -> None:
    text = tiny_config("gemma3_text", len(tiny_tokenizer()), {})
    eyes = dict.fromkeys(("hidden_size", "intermediate_size", "image_size", "patch_size"), 16)
    eyes |= {"num_hidden_layers": 1, "num_attention_heads": 2}
    config = Gemma3Config(text_config=text.to_dict(), vision_config=eyes, mm_tokens_per_image=1)
    whole = Gemma3ForConditionalGeneration(config).eval()
    for name in ("whole", "text"):
        tiny_tokenizer().save_pretrained(tmp_path / name)
    whole.save_pretrained(tmp_path / "whole")

    with pytest.raises(UnsupportedArchitecture, match="pictures and text") as refused:
        open_checkpoint(tmp_path / "whole")
    lines = str(refused.value).splitlines()[1:-1]
    exec("\n".join(lines), {"folder": tmp_path / "whole", "new_folder": tmp_path / "text"})  # noqa: S102

    ids = torch.tensor([[1, 40, 80, 120]])
    expected = whole(input_ids=ids, token_type_ids=torch.zeros_like(ids)).logits
    loaded = load(tmp_path / "text", device="cpu")
    torch.testing.assert_close(loaded.model(ids).logits, expected, rtol=1e-5, atol=1e-6)
    # A model that was read under other names is saved under its family's own.
    mapped = Gemma3ForCausalLM.from_pretrained(
        tmp_path / "whole", key_mapping={"^language_model.model": "model"}
    )
    again = save(LanguageModel(mapped, loaded.tokenizer), tmp_path / "again")
    assert state_digest(load(again.path, device="cpu").model) == state_digest(loaded.model)


def test_save_a_model_whose_tied_weights_differ_is_refused(tmp_path: Path) -> None:
    lm = tiny_model(tied=False)
    lm.model.config.tie_word_embeddings = True

    with pytest.raises(CheckpointError, match="Set tie_word_embeddings to False"):
        save(lm, tmp_path / "model")

    assert list(tmp_path.iterdir()) == []


def test_open_with_an_index_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    path = tiny_checkpoint(tmp_path / "model").path
    (path / "manifest.json").unlink()
    (path / INDEX).write_text(json.dumps({"weight_map": {"a": "../other.safetensors"}}))

    with pytest.raises(CheckpointError, match="not in the folder"):
        open_checkpoint(path)


def test_open_quantised_weights_says_to_dequantise_them(tmp_path: Path) -> None:
    path = tiny_checkpoint(tmp_path / "model", "gpt_oss").path
    change_json(path / "config.json", quantization_config={"quant_method": "mxfp4"})

    with pytest.raises(CheckpointError, match=r"dequantised.*Mxfp4Config\(dequantize=True\)"):
        open_checkpoint(path)


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
    change_json(path / "config.json", model_type="bloom")

    with pytest.raises(UnsupportedArchitecture, match="gpt2, gpt_neox, gpt_oss, gptj, llama"):
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
