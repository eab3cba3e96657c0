"""Run the published editing code on a tiny random GPT-2 and freeze what it computes.

By hand only, never by the tests: see README.md beside this file. Each reference runs in a process
of its own, because two of them have packages of the same name.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import torch
from references import (
    ONE_BATCH,
    TWO_BATCHES,
    Facts,
    Values,
    alphaedit,
    emmet,
    enter,
    ft_m,
    load,
    memit,
    rome,
)
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from setting import (
    ALPHA,
    CONFIGS,
    EMMET,
    FT,
    HERE,
    LAYERS,
    MEMIT,
    MEMIT_CONTEXTS,
    REQUESTS,
    REWRITE,
    ROME,
    ROME_CONTEXTS,
    SENTENCES,
)
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

COMMITS = {
    "kmeng01/rome": "0874014cd9837e4365f3e6f3c71400ef11509e04",
    "kmeng01/memit": "80426fd9316cf9a50c5ba15e0912f2c2c5bfe84b",
    "zjunlp/EasyEdit": "14cea8245f06715684592ab55184939b99d70784",
}


def make_model() -> None:
    """Write the tiny GPT-2 (random, no training) and its byte-level BPE into this folder."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    end = "<|endoftext|>"
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=[end], initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(SENTENCES * 3, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=end, eos_token=end, unk_token=end, pad_token=end
    )
    tokenizer.save_pretrained(HERE)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=128, n_embd=16, n_layer=4, n_head=4,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter += 0.02 * torch.randn_like(parameter)
            parameter *= 4
        # so that an edit in the middle reaches the last logits
        model.transformer.ln_f.weight *= 5
        for block in model.transformer.h:
            block.attn.c_attn.weight *= 2
            block.attn.c_proj.weight *= 2
    model.save_pretrained(HERE)


def statistics() -> Values:
    """Return C = KᵀK/n + 0.001 I of each layer's keys over random tokens, and P of AlphaEdit."""
    model, _ = load()
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(1, model.config.vocab_size, (40, 60), generator=generator)
    kept: dict[int, torch.Tensor] = {}
    for layer in LAYERS:

        def keep(_module: Any, inputs: Any, layer: int = layer) -> None:
            kept[layer] = inputs[0].flatten(0, 1).double()

        model.get_submodule(REWRITE.format(layer)).register_forward_pre_hook(keep)
    with torch.inference_mode():
        model(ids)
    found: Values = {}
    for layer, K in kept.items():
        C = (K.T @ K / len(K) + 1e-3 * torch.eye(K.shape[1], dtype=K.dtype)).float()
        U, S, _ = torch.linalg.svd(C)
        low = U[:, ALPHA["nullspace_threshold"] > S]
        found[f"statistics.layer{layer}.C"] = C
        found[f"alphaedit.layer{layer}.P"] = low @ low.T
        print(f"layer {layer}: {S.min():.3g}..{S.max():.3g}, {low.shape[1]} of {len(C)} in P")
    return found


def stage_rome() -> tuple[Values, Facts]:
    """All of kmeng01/rome, in float32 and, without the deltas, in float64."""
    return both("rome", lambda config, dtype: rome("rome", nested=True, config=config, dtype=dtype))


def stage_memit() -> tuple[Values, Facts]:
    """All of kmeng01/memit, the plain setting also in two batches."""

    def run(config: str, dtype: torch.dtype) -> Any:
        return memit("memit", config, nested=True, batches=ONE_BATCH, dtype=dtype)

    values, facts = both("memit", run)
    two = memit("memit", "plain", nested=True, batches=TWO_BATCHES, dtype=torch.float32)
    join(values, facts, "memit.plain.sequence", two)
    return values, facts


def both(method: str, run: Any) -> tuple[Values, Facts]:
    values: Values = {}
    facts: Facts = {}
    for config in CONFIGS:
        join(values, facts, f"{method}.{config}", run(config, torch.float32))
        torch.set_default_dtype(torch.float64)
        exact = run(config, torch.float64)
        torch.set_default_dtype(torch.float32)
        small = {name: value for name, value in exact[0].items() if not name.endswith("delta")}
        join(values, facts, f"{method}.{config}.float64", (small, exact[1]))
    return values, facts


def stage_easyedit() -> tuple[Values, Facts]:
    """EasyEdit's methods; its ROME and MEMIT only to see that they agree with kmeng01's."""
    importlib.import_module("easyeditor")
    values: Values = {}
    facts: Facts = {}
    models_of = "easyeditor.models"
    single = {"nested": False, "dtype": torch.float32}
    for config in ("plain", "decay"):
        join(
            values, facts, f"r_rome.{config}", rome(f"{models_of}.r_rome", config=config, **single)
        )
        join(values, facts, f"emmet.{config}", emmet(config, ONE_BATCH))
        join(values, facts, f"alphaedit.{config}", alphaedit(config, ONE_BATCH))
        ours, _ = rome(f"{models_of}.rome", config=config, **single)
        theirs, _ = memit(
            f"{models_of}.memit", config, nested=False, batches=ONE_BATCH, dtype=torch.float32
        )
        facts[f"agreement.rome.{config}"] = agreement(ours, f"rome.{config}")
        facts[f"agreement.memit.{config}"] = agreement(theirs, f"memit.{config}")
    join(values, facts, "emmet.plain.sequence", emmet("plain", TWO_BATCHES))
    join(values, facts, "alphaedit.plain.sequence", alphaedit("plain", TWO_BATCHES))
    join(values, facts, "ft_m", ft_m())
    return values, facts


def agreement(found: Values, prefix: str) -> float:
    """Return the largest relative difference to what kmeng01's code gave."""
    known = load_file(HERE / f"{prefix.split('.')[0]}.part")
    return max(
        float((value - known[f"{prefix}.{name}"]).norm() / known[f"{prefix}.{name}"].norm())
        for name, value in found.items()
    )


def join(values: Values, facts: Facts, prefix: str, found: tuple[Values, Facts]) -> None:
    values |= {f"{prefix}.{name}": value for name, value in found[0].items()}
    facts[prefix] = found[1]


STAGES = {"rome": stage_rome, "memit": stage_memit, "easyedit": stage_easyedit}


def run_stage(stage: str) -> None:
    """Run one reference and leave STAGE.part with its values and facts."""
    enter(stage)
    torch.manual_seed(0)
    with redirect_stdout(StringIO()):
        values, facts = STAGES[stage]()
    tensors = {name: value.detach().contiguous().clone() for name, value in values.items()}
    save_file(tensors, HERE / f"{stage}.part", {"facts": json.dumps(facts)})


def collect() -> None:
    """Make values.safetensors and golden.json of all parts and remove these."""
    values: Values = {}
    results: Facts = {}
    for part in ("statistics", *STAGES):
        path = HERE / f"{part}.part"
        with safe_open(path, "pt") as opened:
            results |= json.loads((opened.metadata() or {}).get("facts", "{}"))
        values |= load_file(path)
        path.unlink()
    exact = ".float64."
    values = {name: v if exact in name else v.float() for name, v in values.items()}
    save_file(dict(sorted(values.items())), HERE / "values.safetensors")
    golden = {
        "commits": COMMITS,
        "requests": REQUESTS,
        "contexts": {"rome": ROME_CONTEXTS, "memit": MEMIT_CONTEXTS},
        "configs": CONFIGS,
        "methods": {
            "rome": ROME, "r_rome": ROME, "memit": MEMIT, "emmet": EMMET, "alphaedit": ALPHA,
            "ft_m": FT,
        },
        "results": results,
    }  # fmt: skip
    text = json.dumps(golden, ensure_ascii=False, indent=1) + "\n"
    (HERE / "golden.json").write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage", choices=STAGES, help="one reference only")
    stage = parser.parse_args().stage
    if stage:
        run_stage(stage)
        return
    make_model()
    save_file(statistics(), HERE / "statistics.part")
    for name in STAGES:
        subprocess.run([sys.executable, __file__, "--stage", name], check=True)
    collect()


if __name__ == "__main__":
    main()
