"""Call the references and keep what they compute; make_golden.py says in which order."""

from __future__ import annotations

import importlib
import os
import re
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from setting import (
    ALPHA,
    CONFIGS,
    EASYEDIT,
    EMMET,
    FT,
    HERE,
    LAYERS,
    MEMIT,
    MEMIT_CONTEXTS,
    MODULES,
    NAME,
    REQUESTS,
    REWRITE,
    ROME,
    ROME_CONTEXTS,
)
from transformers import AutoModelForCausalLM, AutoTokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator

Values = dict[str, torch.Tensor]
Facts = dict[str, Any]


def load(dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """Return (model, tokenizer) of this folder, padding on the right."""
    model = AutoModelForCausalLM.from_pretrained(HERE, dtype=dtype).eval()
    model.config._name_or_path = NAME
    tokenizer = AutoTokenizer.from_pretrained(HERE)
    tokenizer.padding_side = "right"
    return model, tokenizer


def enter(stage: str) -> None:
    """Copy the checkout of the variable STAGE_CHECKOUT, fit it to this machine, go there."""
    source = Path(os.environ[f"{stage.upper()}_CHECKOUT"])
    copy = Path(tempfile.mkdtemp(prefix=f"{stage}-"))
    for path in source.rglob("*"):
        target = copy / path.relative_to(source)
        if path.suffix == ".py":
            text = path.read_text(encoding="utf-8")
            if stage != "easyedit":
                text = text.replace('"cuda"', '"cpu"')
            if stage == "memit" and path.name == "compute_z.py":
                # since transformers 5 a block returns its output itself, not a tuple
                text = text.replace("cur_out[0][", "cur_out[").replace(".output[0][", ".output[")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        elif path.name == "globals.yml":
            target.write_bytes(path.read_bytes())
    os.chdir(copy)
    sys.path.insert(0, str(copy))


@contextmanager
def steps() -> Iterator[list[int]]:
    """Count the updates of every Adam made inside: one number for each optimisation."""
    counts: list[int] = []
    init, step = torch.optim.Adam.__init__, torch.optim.Adam.step

    def started(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        counts.append(0)

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        counts[-1] += 1
        return step(self, *args, **kwargs)

    torch.optim.Adam.__init__, torch.optim.Adam.step = started, counted
    try:
        yield counts
    finally:
        torch.optim.Adam.__init__, torch.optim.Adam.step = init, step


@contextmanager
def seen(module: Any, name: str) -> Iterator[list[torch.Tensor]]:
    """Keep every result of the module's function `name`."""
    results: list[torch.Tensor] = []
    original = getattr(module, name)

    def kept(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        results.append(result.detach().clone())
        return result

    setattr(module, name, kept)
    try:
        yield results
    finally:
        setattr(module, name, original)


def request(number: int, *, nested: bool) -> Facts:
    """Return request `number` in kmeng01's form (nested target) or in EasyEdit's."""
    chosen = REQUESTS[number]
    target = {"str": chosen["target"]} if nested else chosen["target"]
    return {**chosen, "case_id": number, "target_new": target}


def cov(layer: int) -> tuple[tuple[str, str], torch.Tensor]:
    """Return the caches' key of a layer and its C."""
    C = load_file(HERE / "statistics.part")[f"statistics.layer{layer}.C"]
    return (NAME, REWRITE.format(layer)), C


def add(model: Any, deltas: Values) -> None:
    """Add the deltas (of the weights' own shape) to the model in place."""
    with torch.no_grad():
        for name, delta in deltas.items():
            model.get_parameter(name).add_(delta.to(model.dtype))


def outer(pairs: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> Values:
    """Return the deltas of a reference's factors: vectors (ROME) or matrices (MEMIT)."""
    made = {}
    for name, (left, right) in pairs.items():
        made[name] = torch.outer(left, right) if left.ndim == 1 else left @ right.T
    return made


def layer_of(name: str) -> str:
    return "layer" + re.findall(r"\d+", name)[0]


def rome(package: str, *, nested: bool, config: str, dtype: torch.dtype) -> tuple[Values, Facts]:
    """Run ROME or R-ROME for each request on the original model."""
    parts = {
        part: importlib.import_module(f"{package}.{part}") for part in ("compute_u", "compute_v")
    }
    main = importlib.import_module(f"{package}.{package.rsplit('.', 1)[-1]}_main")
    main.CONTEXT_TEMPLATES_CACHE = list(ROME_CONTEXTS)
    key, C = cov(2)
    parts["compute_u"].inv_mom2_cache[key] = torch.inverse(C.to(dtype))
    hparams = settings(main, {**CONFIGS[config], **ROME}, nested=nested, name="ROME")
    run = main.execute_rome if hasattr(main, "execute_rome") else main.execute_r_rome
    model, tokenizer = load(dtype)
    values: Values = {}
    facts: Facts = {"subject_index": [], "optimiser_steps": []}
    for number in range(len(REQUESTS)):
        asked = request(number, nested=nested)
        with steps() as counts:
            factors = run(model, tokenizer, asked, hparams)
        ((left, right),) = factors.values()
        key_prompt, output = parts["compute_v"].get_module_input_output_at_word(
            model, tokenizer, 2, asked["prompt"], asked["subject"], REWRITE, "subject_last"
        )
        repr_tools = parts["compute_u"].repr_tools
        templates = [context.format(asked["prompt"]) for context in ROME_CONTEXTS]
        words = [asked["subject"]] * len(templates)
        index = repr_tools.get_words_idxs_in_templates(tokenizer, templates, words, "last")
        keys, outputs = repr_tools.get_reprs_at_word_tokens(
            model, tokenizer, templates, words, 2, REWRITE, "last", "both"
        )
        k, y = keys.mean(0), outputs.mean(0)
        solved_at = (k, y) if package.endswith("r_rome") else (key_prompt, output)
        facts["subject_index"].append([row[0] for row in index])
        facts["optimiser_steps"].append(counts[0])
        values |= {
            f"{number}.k": k,
            f"{number}.y": y,
            f"{number}.u": left,
            f"{number}.right": right,
            f"{number}.k_prompt": key_prompt,
            f"{number}.y_prompt": output,
            f"{number}.v_star": right * torch.dot(solved_at[0], left) + solved_at[1],
            f"{number}.delta": torch.outer(left, right),
        }
    return values, facts


def settings(main: Any, given: Facts, *, nested: bool, name: str) -> Any:
    """Return the hyperparameters in the reference's own class."""
    made = next(kind for key, kind in vars(main).items() if key.endswith("HyperParams"))
    extra = {} if nested else {**EASYEDIT, "alg_name": name}
    return made(**{**MODULES, **given, **extra})


def batched(
    main: Any, run: Any, hparams: Any, batches: list[list[int]], *, nested: bool, dtype: torch.dtype
) -> tuple[Values, Facts]:
    """Run a batch method over `batches` of requests, one after the other on the edited model."""
    main.CONTEXT_TEMPLATES_CACHE = [list(kind) for kind in MEMIT_CONTEXTS]
    for layer in LAYERS:
        key, C = cov(layer)
        main.COV_CACHE[key] = C.to(dtype)
    model, tokenizer = load(dtype)
    values: Values = {}
    facts: Facts = {"batches": batches, "optimiser_steps": []}
    for place, batch in enumerate(batches):
        asked = [request(number, nested=nested) for number in batch]
        with steps() as counts, seen(main, "compute_z") as zs, seen(main, "compute_ks") as ks:
            found = run(model, tokenizer, asked, hparams)
        first = next(iter(found.values()))
        deltas = outer(found) if isinstance(first, tuple) else found
        facts["optimiser_steps"].append(counts)
        values[f"batch{place}.z"] = torch.stack(zs)
        for layer, keys in zip(hparams.layers, ks, strict=False):
            values[f"batch{place}.layer{layer}.keys"] = keys
        for name, delta in deltas.items():
            values[f"batch{place}.{layer_of(name)}.delta"] = delta
        add(model, deltas)
    return values, facts


ONE_BATCH, TWO_BATCHES = [[0, 1, 2]], [[0, 1], [2]]


def memit(package: str, config: str, *, nested: bool, batches: Any, dtype: Any) -> Any:
    main = importlib.import_module(f"{package}.memit_main")
    hparams = settings(main, {**CONFIGS[config], **MEMIT}, nested=nested, name="MEMIT")
    return batched(main, main.execute_memit, hparams, batches, nested=nested, dtype=dtype)


def emmet(config: str, batches: Any) -> Any:
    main = importlib.import_module("easyeditor.models.emmet.emmet_main")
    hparams = settings(main, {**CONFIGS[config], **EMMET}, nested=False, name="EMMET")
    return batched(main, main.execute_emmet, hparams, batches, nested=False, dtype=torch.float32)


def alphaedit(config: str, batches: Any) -> Any:
    main = importlib.import_module("easyeditor.models.alphaedit.AlphaEdit_main")
    hparams = settings(main, {**CONFIGS[config], **ALPHA}, nested=False, name="AlphaEdit")
    stored = load_file(HERE / "statistics.part")
    main.P = torch.stack([stored[f"alphaedit.layer{layer}.P"] for layer in LAYERS])
    main.cache_c = torch.zeros_like(main.P)
    return batched(
        main, main.execute_AlphaEdit, hparams, batches, nested=False, dtype=torch.float32
    )


def ft_m() -> tuple[Values, Facts]:
    """Run EasyEdit's FT with objective target_new; it wants padding on the left."""
    main = importlib.import_module("easyeditor.models.ft.ft_main")
    template = {"rewrite_module_tmp": REWRITE + ".weight"}
    modules = {name: value for name, value in MODULES.items() if not name.startswith("mom2")}
    given = {**modules, **template, **FT, "alg_name": "FT"}
    hparams = main.FTHyperParams(
        **given, **{name: value for name, value in EASYEDIT.items() if name != "stats_dir"}
    )
    model, tokenizer = load()
    tokenizer.padding_side = "left"
    asked = [request(number, nested=False) for number in range(len(REQUESTS))]
    for fact in asked:
        fact["prompt"] = fact["prompt"].format(fact["subject"])
    with steps() as counts:
        found = main.execute_ft(model, tokenizer, asked, hparams)
    return {f"{layer_of(name)}.delta": d for name, d in found.items()}, {"optimiser_steps": counts}
