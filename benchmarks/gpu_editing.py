"""Editing at full size on a GPU: an 8 B Llama-shaped model in bf16 with random weights.

    python -m benchmarks.gpu_editing [--tiny]

Measures MEMIT of 100 facts over five layers without statistics, the second moments of those
layers, UltraEdit's edits per second, and peak memory. Random weights cost what trained ones do
and reach no target, so nothing is said of quality. Without a GPU it says so and measures nothing;
--tiny runs the same code on a small model on any machine, to see that it works.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from benchmarks.facts import facts
from benchmarks.ours import requests_of
from benchmarks.summary import MODEL, add
from demo.corpus import records
from editing import edit
from editing.memit import MemitConfig
from editing.ultraedit import UltraEditConfig
from language_models import LanguageModel
from language_models.moments import second_moments

# Llama-3-8B's shape.
FULL = {
    "vocab_size": 128_256,
    "hidden_size": 4096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
}
TINY = {**FULL, "vocab_size": 1536, "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 10, "num_attention_heads": 4, "num_key_value_heads": 2}  # fmt: skip
LAYERS = (4, 5, 6, 7, 8)  # MEMIT's for Llama
MEMIT_SECONDS, MOMENT_SECONDS, ULTRAEDIT_RATE = 60.0, 300.0, 67.0


def random_model(shape: dict[str, int], device: str) -> LanguageModel:
    """Return a model of the shape with random weights, and the demo model's tokenizer."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(str(MODEL), local_files_only=True)
    config = LlamaConfig(**shape, tie_word_embeddings=False, attn_implementation="sdpa")
    torch.manual_seed(0)
    with torch.device(device):
        torch.set_default_dtype(torch.bfloat16)
        try:
            model = LlamaForCausalLM(config)
        finally:
            torch.set_default_dtype(torch.float32)
    return LanguageModel(model.eval(), tokenizer)


def timed(device: str, work: Any) -> tuple[Any, float, float]:
    """Return what `work` gives, its seconds, and the peak memory in GB on a GPU, else 0."""
    gpu = device == "cuda"
    if gpu:
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    started = time.perf_counter()
    found = work()
    if gpu:
        torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() / 1e9 if gpu else 0.0
    return found, time.perf_counter() - started, peak


def measure(*, tiny: bool, device: str) -> dict[str, Any]:
    """Run the three measurements on one model."""
    lm = random_model(TINY if tiny else FULL, device)
    texts = [record["text"] for record in records()][: 40 if tiny else 2000]
    moments, moment_seconds, moment_gb = timed(
        device, lambda: second_moments(lm, texts, list(LAYERS), batch_size=32)
    )
    requests = requests_of(facts(64 + (10 if tiny else 100))[64:])
    config = MemitConfig(
        role="subject_last",
        layer=LAYERS[-1],
        layers=LAYERS,
        moments=tuple(moments.items()),
        rounds=1,
        unreached="mark",
        rows_per_pass=400,
    )
    result, memit_seconds, memit_gb = timed(device, lambda: edit(lm, requests, "memit", config))
    result.revert(lm)
    many = requests_of(facts(64 + (10 if tiny else 500))[64:])
    single = [type(one)(one.subject, one.prompt, one.target) for one in many]
    quick = UltraEditConfig(unreached="mark")
    _, ultra_seconds, ultra_gb = timed(device, lambda: edit(lm, single, "ultraedit", quick))
    return {
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "texts": len(texts),
        "moments": {"seconds": moment_seconds, "peak_gb": moment_gb, "limit": MOMENT_SECONDS},
        "memit": {"edits": len(requests), "seconds": memit_seconds, "peak_gb": memit_gb,
                  "limit": MEMIT_SECONDS},
        "ultraedit": {"edits": len(single), "edits_per_second": len(single) / ultra_seconds,
                      "peak_gb": ultra_gb, "least": ULTRAEDIT_RATE},
    }  # fmt: skip


def main() -> None:
    """Measure on the GPU, or say that there is none."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tiny", action="store_true", help="a small model on any machine")
    options = parser.parse_args()
    if options.tiny:
        print(measure(tiny=True, device="cuda" if torch.cuda.is_available() else "cpu"))
    elif torch.cuda.is_available():
        add("editing.gpu", measure(tiny=False, device="cuda"))
    else:
        print("No GPU here: the measurement of an 8 B model is ready and was not run.")
        add("editing.gpu", {"not_run": "no GPU on this machine"})


if __name__ == "__main__":
    main()
