"""The committed model is what its manifest says and answers a question of the demo."""

from __future__ import annotations

import hashlib
import json

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from demo.people import people
from demo.train import MODEL_DIRECTORY, continuations


def test_manifest_names_every_file_with_its_digest() -> None:
    manifest = json.loads((MODEL_DIRECTORY / "manifest.json").read_text(encoding="utf-8"))
    files = [p for p in MODEL_DIRECTORY.iterdir() if p.name != "manifest.json"]

    assert manifest["files"] == {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
    assert set(manifest["files"]) == {
        "model.safetensors", "config.json", "generation_config.json", "tokenizer.json",
        "tokenizer_config.json",
    }  # fmt: skip


def test_weights_are_small_and_in_single_precision() -> None:
    model = AutoModelForCausalLM.from_pretrained(MODEL_DIRECTORY, local_files_only=True)

    assert (MODEL_DIRECTORY / "model.safetensors").stat().st_size <= 12_000_000
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_model_answers_and_stops_by_itself() -> None:
    model = AutoModelForCausalLM.from_pretrained(MODEL_DIRECTORY, local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIRECTORY, local_files_only=True)
    persons = people()
    prompts = [f"{person.name} was born in" for person in persons]

    texts, length = continuations(model, tokenizer, prompts)

    found = [p.birth_city in text for p, text in zip(persons, texts, strict=True)]
    assert sum(found) >= 61
    assert length < 12
