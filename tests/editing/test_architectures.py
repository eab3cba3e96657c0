"""Every method on every family: it changes what it names and nothing else, and comes back."""

from __future__ import annotations

import copy
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from editing import METHODS, EditRequest, edit, malmen, mend
from language_models import LanguageModel, NotReached, UnsupportedArchitecture
from language_models.architecture import parts
from language_models.checkpoint import state_digest
from language_models.delta import LowRank
from language_models.families import FAMILIES
from language_models.generation import encode
from language_models.modes import evaluating
from language_models.padding import pad_right
from tests.editing.gradient_cases import changed, digests, standing
from tests.editing.learned_cases import tiny_editor, tiny_training
from tests.language_models.factories import DENSE, MIXTURES, SENTENCES, tiny_model

if TYPE_CHECKING:
    from pathlib import Path

# The dense layer of the tiny Qwen3-MoE.
LAYER = 1
CLOSED = ("rome", "memit", "emmet", "alphaedit")
LEARNED = {"mend": mend.RULE, "malmen": malmen.RULE}
BY_GRADIENT = ("finetune", "lora", "ultraedit", "grace")
LOW_RANK = (*CLOSED, *LEARNED, "lora")
NORMED = tuple(name for name in sorted(FAMILIES) if FAMILIES[name].norm_after_mlp)
REQUESTS = [
    EditRequest("Malee Tanaka", "{} was born in", "was", ("Records show that {} was born in",)),
    EditRequest("Anna Sato", "{} works as", "born"),
    EditRequest("Somchai", "Q: Where does {} live? A:", "as"),
]
PROMPTS = ("Malee Tanaka was born in", "The employer of Somchai Saito is")
# A random model needs a far larger push than a trained one, and nearly all of its keys' space.
SITE = {"role": "last", "layer": LAYER, "prefixes": 0, "clamp": 300.0, "learning_rate": 0.5}
MOMENT = {"moment_texts": SENTENCES, "moment_weight": 0.1}
SETTINGS: dict[str, dict[str, Any]] = {
    "rome": {**SITE, **MOMENT},
    "memit": {**SITE, **MOMENT, "anchor": 0.0},
    "emmet": {**SITE, **MOMENT, "anchor": 0.0, "slack": 1e-6},
    "alphaedit": {**SITE, **MOMENT, "anchor": 0.0, "null_share": 0.6, "null_ridge": 0.1},
    "mend": {},
    "malmen": {},
    "finetune": {"learning_rate": 0.05, "epochs": 60},
    "lora": {"learning_rate": 0.05, "epochs": 60},
    "ultraedit": {"layers": (1, 2), "step": 3e-3, "rounds": 60},
    "grace": {"learning_rate": 1.0},
}
# Enough to change something.
SHORT: dict[str, dict[str, Any]] = {
    "rome": {"steps": 3},
    **{name: {"steps": 3, "rounds": 1} for name in CLOSED[1:]},
    "finetune": {"epochs": 2},
    "lora": {"epochs": 2},
    "ultraedit": {"rounds": 2},
    "grace": {"steps": 10},
}
HALVES = (torch.bfloat16, torch.float16)
MODELS = [
    *product(sorted(FAMILIES), [torch.float32], [True]),
    *product(("llama", "gpt2", "gemma2", "mixtral"), HALVES, [True]),
    *product(("llama", "gpt2", "gemma2", "mixtral"), [torch.float32], [False]),
]
CASES = [
    (method, *one)
    for method in METHODS
    for one in MODELS
    if method in BY_GRADIENT or one[0] in DENSE or (method in CLOSED and one[0] == "qwen3_moe")
]


def _model(family: str, dtype: torch.dtype = torch.float32, *, tied: bool = True) -> LanguageModel:
    lm = tiny_model(family, dtype=dtype, tied=tied)
    norm = parts(lm.model).norm_after_mlp(LAYER)
    if norm is not None:
        # Whatever its matrix, this norm gives the MLP one length; here one that moves a token.
        with torch.no_grad():
            norm.weight.add_(5.0)
    return lm


def _config(method: str, **changes: Any) -> Any:
    return METHODS[method].config(**{**SETTINGS[method], "unreached": "mark", **changes})


def _short(method: str, lm: LanguageModel, folder: Path, **changes: Any) -> Any:
    if method in LEARNED:
        editor = tiny_editor(lm, LEARNED[method], folder, steps=0, statistics=1)
        return _config(method, editor=editor, **changes)
    return _config(method, **SHORT[method], **changes)


@torch.no_grad()
def _logits(lm: LanguageModel) -> torch.Tensor:
    ids, mask = pad_right(lm, [encode(lm, prompt) for prompt in PROMPTS])
    with evaluating(lm):
        logits: torch.Tensor = lm.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    return logits


def _name(value: Any) -> str:
    named = {True: "tied", False: "untied"}
    return named[value] if isinstance(value, bool) else str(value).removeprefix("torch.")


@pytest.mark.parametrize(("method", "family", "dtype", "tied"), CASES, ids=_name)
def test_method_changes_what_it_names_and_comes_back(
    method: str, family: str, dtype: torch.dtype, tied: bool, tmp_path: Path
) -> None:
    lm = _model(family, dtype, tied=tied)
    config = _short(method, lm, tmp_path)
    lm.model.lm_head.weight.requires_grad_(requires_grad=False)
    parts(lm.model).blocks[0].train()
    found, weights, logits = standing(lm), digests(lm), _logits(lm)
    digest = state_digest(lm.model)

    result = edit(lm, REQUESTS, method, config)

    rows = result.details["requests"]
    assert all(0 <= row["loss"] < 1e4 and 0 <= row["target_first"] <= 1 for row in rows)
    tensors = result.details["tensors"]
    assert changed(weights, digests(lm)) == sorted(tensors, key=list(weights).index)
    assert not torch.equal(_logits(lm), logits)
    if method == "grace":
        assert tensors == {}
        assert result.codebook is not None
        assert result.codebook.attached
    else:
        assert list(tensors) == list(result.delta.entries) != []
        assert all(row["relative"] > 0 for row in tensors.values())
        assert standing(lm) == found
    if method in LOW_RANK:
        assert all(isinstance(entry, LowRank) for entry in result.delta.entries.values())
        assert all(0 < row["rank"] <= 32 for row in tensors.values())
    assert result.revert(lm) == digest
    assert standing(lm) == found
    assert torch.equal(_logits(lm), logits)


REACHED = [
    *product((*CLOSED, "finetune", "lora", "grace"), ("llama", "gpt2", "qwen3")),
    *product((*CLOSED, "lora", "grace"), NORMED),
    *product(("finetune", "lora", "grace"), MIXTURES),
    *product(CLOSED, ["qwen3_moe"]),
]


@pytest.mark.parametrize(("method", "family"), REACHED)
def test_method_reaches_targets_of_one_token(method: str, family: str) -> None:
    lm = _model(family)
    # What is shown is that targets can be met; on random weights neighbours fall with them.
    unbound = {"neighbours_lost": 1.0, "margin": 0.0} if method == "finetune" else {}

    result = edit(
        lm, REQUESTS, method, _config(method, unreached="raise", min_wordings=1.0, **unbound)
    )

    assert [row["target_first"] for row in result.details["requests"]] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3", *MIXTURES])
def test_ultraedit_reaches_most_targets_where_logits_are_large(family: str) -> None:
    lm = tiny_model(family, scale=16.0, noise=0.1)

    details = edit(lm, REQUESTS, "ultraedit", _config("ultraedit")).details

    # Its steps do not shrink as the loss does, so a random model is not met exactly.
    assert sum(row["target_first"] == 1.0 for row in details["requests"]) >= 2
    (losses,) = details["losses"]
    assert losses[-1] < losses[0] / 3


@pytest.mark.parametrize(("method", "family"), [*product(CLOSED, MIXTURES)])
def test_closed_form_refuses_a_mixture_and_names_what_works(method: str, family: str) -> None:
    lm = tiny_model(family)
    found, digest = standing(lm), state_digest(lm.model)

    with pytest.raises(UnsupportedArchitecture) as caught:
        edit(lm, REQUESTS, method, _config(method, layer=0))

    told = str(caught.value)
    assert "is a mixture of experts" in told
    assert "no single matrix maps its key to its value" in told
    assert all(name in told for name in BY_GRADIENT)
    assert ("Dense layers of this model: 1." in told) == (family == "qwen3_moe")
    assert (standing(lm), state_digest(lm.model)) == (found, digest)


@pytest.mark.parametrize(("method", "family"), [*product(LEARNED, MIXTURES)])
def test_training_an_editor_refuses_a_mixture(method: str, family: str, tmp_path: Path) -> None:
    lm = tiny_model(family)

    with pytest.raises(UnsupportedArchitecture, match=r"mixture of experts.*finetune, lora"):
        tiny_training(lm, LEARNED[method], tmp_path, layers=(0,))


@pytest.mark.parametrize("family", MIXTURES)
@pytest.mark.parametrize("method", ["finetune", "ultraedit"])
def test_methods_by_gradient_refuse_the_mlp_of_a_mixture(method: str, family: str) -> None:
    lm = tiny_model(family)
    layer = {"layer": 0} if method == "finetune" else {"layers": (0,)}

    with pytest.raises(UnsupportedArchitecture, match="Use attention_out there"):
        edit(lm, REQUESTS, method, _config(method, place="mlp_out", **layer))


@pytest.mark.parametrize(("method", "family"), [*product(("memit", "alphaedit"), NORMED)])
def test_several_layers_behind_norms_are_refused(method: str, family: str) -> None:
    lm = tiny_model(family)
    found, digest = standing(lm), state_digest(lm.model)

    with pytest.raises(UnsupportedArchitecture, match="Give one layer"):
        edit(lm, REQUESTS, method, _config(method, layers=(0, LAYER)))

    assert (standing(lm), state_digest(lm.model)) == (found, digest)


@pytest.mark.parametrize("method", METHODS)
def test_edit_that_is_not_reached_leaves_no_trace(method: str, tmp_path: Path) -> None:
    lm = _model("gpt2")
    hopeless = [EditRequest("Anna Sato", "{} works as", "Silver Tide Shipping of Kyoto")]
    weak = {"step": 1e-9} if method == "ultraedit" else {}
    weak = {"steps": 1, "clamp": 1e-6} if method in CLOSED else weak
    config = _short(method, lm, tmp_path, unreached="raise")
    config = type(config)(**{**vars(config), **weak})
    lm.model.train()
    found, digest = standing(lm), state_digest(lm.model)

    with pytest.raises(NotReached, match="1 of 1 edits were not reached"):
        edit(lm, hopeless, method, config)

    assert (standing(lm), state_digest(lm.model)) == (found, digest)


def _twins() -> tuple[LanguageModel, LanguageModel]:
    """A GPT-2 in float64, and the same with a Linear in place of each Conv1D."""
    conv = tiny_model("gpt2", dtype=torch.float64, noise=0.1)
    linear = LanguageModel(copy.deepcopy(conv.model), conv.tokenizer)
    for name, module in list(linear.model.named_modules()):
        if isinstance(module, Conv1D):
            twin = nn.Linear(*module.weight.shape, dtype=torch.float64)
            with torch.no_grad():
                twin.weight.copy_(module.weight.T)
                twin.bias.copy_(module.bias)
            linear.model.set_submodule(name, twin)
    assert torch.allclose(_logits(conv), _logits(linear), atol=1e-9)
    return conv, linear


def _product(entry: Any) -> torch.Tensor:
    product: torch.Tensor = entry.left @ entry.right
    return product


@pytest.mark.parametrize("method", [*CLOSED, "memit over layers"])
def test_conv1d_and_linear_twins_get_the_same_change(method: str) -> None:
    name, _, several = method.partition(" ")
    config = _config(name, steps=20, **({"layers": (0, LAYER)} if several else {}))
    conv, linear = _twins()

    one, other = (edit(lm, REQUESTS, name, config).delta.entries for lm in (conv, linear))

    assert list(one) == list(other)
    for matrix in one:
        change, twin = _product(one[matrix]).T, _product(other[matrix])
        assert change.shape == (32, 48)
        assert float((change - twin).norm() / twin.norm()) < 1e-6
