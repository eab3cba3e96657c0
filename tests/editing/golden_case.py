"""The golden model, requests and figures of tests/editing/golden, as our own types."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from safetensors.torch import load_file

from editing import EditRequest
from language_models import LanguageModel
from language_models.moments import moment_of

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = Path(__file__).parent / "golden"
GOLDEN = json.loads((FOLDER / "golden.json").read_text(encoding="utf-8"))
REQUESTS = [EditRequest(**row) for row in GOLDEN["requests"]]


@cache
def values() -> dict[str, Tensor]:
    return load_file(FOLDER / "values.safetensors")


def golden_model(dtype: torch.dtype = torch.float32) -> LanguageModel:
    torch.set_num_threads(1)
    model = transformers.GPT2LMHeadModel.from_pretrained(
        FOLDER, local_files_only=True, dtype=dtype, attn_implementation="eager"
    )
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(FOLDER, local_files_only=True)
    return LanguageModel(model.eval(), tokenizer)


def golden_settings(name: str, contexts: list[str]) -> dict[str, Any]:
    """The settings of a golden run under our names; compat, so nothing else is added."""
    run = GOLDEN["configs"][name]
    return {
        "compat": True,
        "role": "subject_last",
        "layer": 2,
        "steps": run["v_num_grad_steps"],
        "learning_rate": run["v_lr"],
        "clamp": run["clamp_norm_factor"],
        "stop_loss": 0.05,
        "kl_weight": run["kl_factor"],
        "norm_weight": run["v_weight_decay"],
        "ridge": 0.0,
        "lead_ins": tuple(text.removesuffix("{}") for text in contexts[1:]),
        "moments": tuple(
            (layer, moment_of(values()[f"statistics.layer{layer}.C"].double(), 1))
            for layer in (1, 2)
        ),
        "unreached": "mark",
    }


def relative(found: Tensor, wanted: Tensor) -> float:
    """‖found - wanted‖ / ‖wanted‖."""
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


def change(result: Any, layer: int) -> Tensor:
    """The planned change of a layer's c_proj, in the checkpoint's orientation (d_in, d_out)."""
    entry = result.delta.entries[f"transformer.h.{layer}.mlp.c_proj.weight"]
    return entry.left @ entry.right
