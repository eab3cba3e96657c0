"""Run EasyEdit's methods on our facts and time its edit calls; not a line of its code is here.

With the peer's own Python and PYTHONPATH = its checkout; it never runs in our environment:

    PYTHONPATH=CHECKOUT PEER/python benchmarks/peer_easyedit.py --model DIR --facts FACTS.json
        --method rome --mode single --statistics C.safetensors --out RESULT.json

Only apply_*_to_model is timed. Statistics, the projection of AlphaEdit and the sampled contexts
are in the peer's caches before the clock starts.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import json
import os
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

Facts = list[dict[str, Any]]
Times = tuple[float, float]  # seconds by the clock, and of processor time over all threads

# Also right for Mistral and Qwen.
LLAMA = {
    "rewrite_module_tmp": "model.layers.{}.mlp.down_proj",
    "layer_module_tmp": "model.layers.{}",
    "mlp_module_tmp": "model.layers.{}.mlp",
    "attn_module_tmp": "model.layers.{}.self_attn",
    "ln_f_module": "model.norm",
    "lm_head_module": "lm_head",
}
MOMENTS = {"mom2_dataset": "none", "mom2_n_samples": 0, "mom2_dtype": "float32"}
VALUE = {
    "fact_token": "subject_last",
    "v_num_grad_steps": 25,
    "v_lr": 0.5,
    "v_weight_decay": 1e-3,
    "clamp_norm_factor": 15,
    "kl_factor": 0.0625,
    "mom2_adjustment": True,
    "stats_dir": "none",
    **MOMENTS,
}
ROME = {**VALUE, "layers": [2], "context_template_length_params": [[5, 10], [10, 10]]}
MEMIT = {**VALUE, "layers": [1, 2], "layer_selection": "all", "mom2_update_weight": 20}
EMMET = {**MEMIT, "layers": [2], "mom2_update_weight": 1}
ALPHA = {**MEMIT, "nullspace_threshold": 2e-2, "L2": 1.0}
FT = {
    "objective_optimization": "target_new",
    "layers": [4],
    "num_steps": 25,
    "lr": 5e-4,
    "weight_decay": 0,
    "kl_factor": 0,
    "norm_constraint": False,
}
LORA = {
    **FT,
    "layers": [],
    "num_steps": 60,
    "lr": 5e-3,
    "lora_type": "lora",
    "target_modules": ["q_proj", "v_proj"],
    "rank": 8,
    "lora_alpha": 32,
    "lora_dropout": 0.1,
}
# name: (EasyEdit's name, module under easyeditor.models, apply function, settings)
METHODS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "rome": ("ROME", "rome.rome_main", "apply_rome_to_model", ROME),
    "r-rome": ("R-ROME", "r_rome.r_rome_main", "apply_r_rome_to_model", ROME),
    "memit": ("MEMIT", "memit.memit_main", "apply_memit_to_model", MEMIT),
    "emmet": ("EMMET", "emmet.emmet_main", "apply_emmet_to_model", EMMET),
    "alphaedit": ("AlphaEdit", "alphaedit.AlphaEdit_main", "apply_AlphaEdit_to_model", ALPHA),
    "ftm": ("FT", "ft.ft_main", "apply_ft_to_model", FT),
    "lora": ("LoRA", "lora.lora_main", "apply_lora_to_model", LORA),
}
LOCATE = ("rome", "r-rome", "memit", "emmet", "alphaedit")


class Peer:
    """EasyEdit's method with its settings, on one model."""

    def __init__(self, options: argparse.Namespace, model_dir: Path) -> None:
        """`model_dir` is a path with the name in it by which EasyEdit picks its classes."""
        importlib.import_module("easyeditor")
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.manual_seed(options.seed)
        alg, module, function, given = METHODS[options.method]
        self.main = importlib.import_module(f"easyeditor.models.{module}")
        self.apply = getattr(self.main, function)
        self.method = options.method
        self.model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(model_dir)
        self.tokenizer.pad_token_id = self.tokenizer.eos_token_id
        self.tokenizer.padding_side = "right" if self.method in LOCATE else "left"
        self.settings = self._settings(alg, given, options, str(model_dir))
        if self.method in LOCATE:
            self._fill_caches(options.statistics)

    def _settings(
        self, alg: str, given: dict[str, Any], options: argparse.Namespace, name: str
    ) -> Any:
        """Return the settings in EasyEdit's class, filled with what that class asks for."""
        config = self.model.config
        modules = dict(LLAMA)
        if config.tie_word_embeddings:
            modules["lm_head_module"] = "model.embed_tokens"
        if self.method == "ftm":
            modules["rewrite_module_tmp"] += ".weight"
        kind = next(value for key, value in vars(self.main).items() if key.endswith("HyperParams"))
        fields = set(kind.__dataclass_fields__)
        known = {
            **modules,
            **given,
            "v_loss_layer": config.num_hidden_layers - 1,
            "batch_size": 64 if options.mode == "batch" else options.batch_size,
            "P_loc": "P.pt",
            "alg_name": alg,
            "model_name": name,
            "device": "cpu",
            **dict(options.set),
        }
        return kind(**{key: value for key, value in known.items() if key in fields})

    def _fill_caches(self, statistics: Path) -> None:
        """Put C (its inverse, its null space) and the sampled contexts where EasyEdit looks."""
        import torch
        from safetensors.torch import load_file

        stored = load_file(statistics)
        name = self.model.config._name_or_path.replace("/", "_")
        for layer in self.settings.layers:
            C = stored[f"layer{layer}.C"].float()
            key = (name, self.settings.rewrite_module_tmp.format(layer))
            if self.method in ("rome", "r-rome"):
                package = self.main.__name__.rpartition(".")[0]
                compute_u = importlib.import_module(f"{package}.compute_u")
                compute_u.inv_mom2_cache[key] = torch.inverse(C)
            else:
                self.main.COV_CACHE[key] = C
        if self.method == "alphaedit":
            args = (self.model, self.tokenizer)
            spaces = [
                self.main.get_project(*args, at, self.settings) for at in self.settings.layers
            ]
            torch.save(torch.stack(spaces), self.settings.P_loc)
        lengths = getattr(self.settings, "context_template_length_params", None)
        self.main.get_context_templates(self.model, self.tokenizer, *([lengths] if lengths else []))

    def edit(self, model: Any, facts: Facts, *, fresh: bool) -> tuple[Any, Times]:
        """Return the edited model and the call's times; `fresh` forgets earlier edits."""
        requests = [self._request(number, fact) for number, fact in enumerate(facts)]
        extra = {"reset_cache": fresh} if self.method == "alphaedit" else {}
        wall, cpu = time.perf_counter(), time.process_time()
        edited, _ = self.apply(model, self.tokenizer, requests, self.settings, **extra)
        return edited, (time.perf_counter() - wall, time.process_time() - cpu)

    def _request(self, number: int, fact: dict[str, Any]) -> dict[str, Any]:
        prompt = fact["prompt"]
        if self.method not in LOCATE:
            prompt = prompt.format(fact["subject"])
        return {
            "case_id": number,
            "prompt": prompt,
            "subject": fact["subject"],
            "target_new": fact["target"],
        }

    def answer(self, model: Any, prompts: list[str], tokens: int) -> list[str]:
        """Return the greedy continuations of the prompts, `tokens` new tokens at most."""
        import torch

        model.eval()
        model.config.use_cache = True
        tokenizer = copy.deepcopy(self.tokenizer)
        tokenizer.padding_side = "left"
        order = sorted(range(len(prompts)), key=lambda at: len(prompts[at]))
        answers = [""] * len(prompts)
        for start in range(0, len(order), 256):
            part = order[start : start + 256]
            inputs = tokenizer([prompts[at] for at in part], return_tensors="pt", padding=True)
            inputs = {name: inputs[name] for name in ("input_ids", "attention_mask")}
            with torch.inference_mode():
                rows = model.generate(
                    **inputs,
                    max_new_tokens=tokens,
                    do_sample=False,
                    pad_token_id=tokenizer.pad_token_id,
                )
            new = rows[:, inputs["input_ids"].shape[1] :]
            texts = tokenizer.batch_decode(new, skip_special_tokens=True)
            for at, text in zip(part, texts, strict=True):
                answers[at] = text
        return answers


def run(peer: Peer, facts: Facts, mode: str, tokens: int, size: int) -> dict[str, Any]:
    """Edit in the given mode; return the seconds of each edit call and the answers by fact.

    size: edits a batch in sequence.
    """
    times: list[Times] = []
    answers: list[list[str]] = []
    if mode == "single":
        for fact in facts:
            edited, took = peer.edit(copy.deepcopy(peer.model), [fact], fresh=True)
            times.append(took)
            answers.append(peer.answer(edited, fact.get("ask", []), tokens))
        return {**seconds(times), "answers": answers}
    model = peer.model
    step = len(facts) if mode == "batch" else size
    for start in range(0, len(facts), step):
        model, took = peer.edit(model, facts[start : start + step], fresh=start == 0)
        times.append(took)
    asked = [prompt for fact in facts for prompt in fact.get("ask", [])]
    found = iter(peer.answer(model, asked, tokens))
    answers = [[next(found) for _ in fact.get("ask", [])] for fact in facts]
    return {**seconds(times), "answers": answers}


def seconds(times: list[Times]) -> dict[str, list[float]]:
    """Return the two times of every edit call, in seconds."""
    return {"seconds": [wall for wall, _ in times], "cpu_seconds": [cpu for _, cpu in times]}


def setting(text: str) -> tuple[str, Any]:
    """Read key=value, the value as JSON where it is JSON."""
    key, _, value = text.partition("=")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def peak_rss_mb() -> float:
    """Return this program's own peak; getrusage would count that of the one that started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def arguments() -> argparse.Namespace:
    """Read the command line; paths become absolute, because the working directory changes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--facts", type=Path, required=True)
    parser.add_argument("--method", choices=METHODS, required=True)
    parser.add_argument("--mode", choices=("single", "sequence", "batch"), required=True)
    parser.add_argument("--batch-size", type=int, default=1, help="edits a batch in sequence")
    parser.add_argument("--statistics", type=Path, help="safetensors with layerN.C")
    parser.add_argument("--set", type=setting, action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--tokens", type=int, default=20, help="new tokens an answer")
    parser.add_argument("--threads", type=int, help="threads of torch (default: its own choice)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    for name in ("model", "facts", "statistics", "out"):
        if getattr(options, name):
            setattr(options, name, getattr(options, name).resolve())
    if options.method in LOCATE and not options.statistics:
        parser.error(f"{options.method} needs --statistics")
    return options


def main() -> None:
    """Run in a throw-away folder, because EasyEdit writes logs into the working directory."""
    options = arguments()
    os.environ["HF_HUB_OFFLINE"] = "1"
    facts: Facts = json.loads(options.facts.read_text(encoding="utf-8"))
    kind = json.loads((options.model / "config.json").read_text(encoding="utf-8"))["model_type"]
    with tempfile.TemporaryDirectory(prefix="peer-") as folder:
        os.chdir(folder)
        linked = Path(folder) / kind
        linked.symlink_to(options.model, target_is_directory=True)
        with (
            Path(os.devnull).open("w") as quiet,
            redirect_stdout(quiet),
            redirect_stderr(sys.stdout),
        ):
            if options.threads:
                importlib.import_module("torch").set_num_threads(options.threads)
            peer = Peer(options, linked)
            result = run(peer, facts, options.mode, options.tokens, options.batch_size)
        os.chdir(options.out.parent)
    total = sum(result["seconds"])
    result |= {
        "method": options.method,
        "mode": options.mode,
        "settings": dict(options.set),
        "edits": len(facts),
        "total_seconds": total,
        "edits_per_second": len(facts) / total,
        "peak_rss_mb": peak_rss_mb(),
        "load_average": os.getloadavg()[0],
    }
    options.out.write_text(json.dumps(result, ensure_ascii=False, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
