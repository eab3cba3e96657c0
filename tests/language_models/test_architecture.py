"""Every family: the parts are where the table says, seen alike whatever the module stores."""

from __future__ import annotations

import pytest
import torch
from transformers.pytorch_utils import Conv1D

from language_models import RequestError, UnsupportedArchitecture
from language_models.architecture import FAMILIES, family_of, parts
from language_models.checkpoint import attention
from language_models.moments import hooked
from tests.language_models.factories import DENSE, MIXTURES, tiny_model

IDS = torch.tensor([[1, 40, 80, 120, 60, 90]])


def _second_input_and_output(lm, layer: int):
    seen = []
    module = parts(lm.model).mlp_out(layer).module
    with hooked(lambda: module.register_forward_hook(lambda _m, i, o: seen.append((i[0], o)))):
        lm.model(IDS)
    return seen[0]


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_parts_of_every_family_are_there(family: str) -> None:
    lm = tiny_model(family)
    found = parts(lm.model)

    assert len(found.blocks) == lm.model.config.num_hidden_layers
    for layer in range(len(found.blocks)):
        assert sum(weight.numel() for weight in found.mlp(layer).parameters()) > 0
        assert sum(weight.numel() for weight in found.attention(layer).parameters()) > 0
        assert (found.norm_after_mlp(layer) is not None) == (
            family in ("gemma2", "gemma3_text", "olmo2")
        )
    assert found.head.weight.shape == found.embed.weight.shape
    assert found.final_norm.weight.shape == (lm.model.config.hidden_size,)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_logits_of_the_last_blocks_state_are_the_models_own(family: str, tied: bool) -> None:
    lm = tiny_model(family, tied=tied, noise=0.1)
    if hasattr(lm.model.config, "final_logit_softcapping"):
        lm.model.config.final_logit_softcapping = 2.0
    found = parts(lm.model)
    states = []

    def keep(_module, _inputs, output) -> None:
        states.append(output[0] if isinstance(output, tuple) else output)

    with torch.no_grad(), hooked(lambda: found.blocks[-1].register_forward_hook(keep)):
        expected = lm.model(IDS).logits
        actual = found.logits(found.final_norm(states[0]))

    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("family", [*DENSE, "qwen3_moe"])
def test_projection_maps_its_input_to_its_output(family: str) -> None:
    lm = tiny_model(family, noise=0.1)
    projection = parts(lm.model).mlp_out(1)

    key, value = _second_input_and_output(lm, 1)

    assert projection.matrix.shape == (projection.d_out, projection.d_in) == (32, 48)
    bias = projection.module.bias
    expected = key @ projection.matrix.T + (0 if bias is None else bias)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)
    assert lm.model.get_parameter(projection.name) is projection.parameter


@pytest.mark.parametrize("family", [*DENSE, "qwen3_moe"])
def test_projection_stores_a_change_the_way_its_module_does(family: str) -> None:
    lm = tiny_model(family, noise=0.1)
    projection = parts(lm.model).mlp_out(1)
    key, value = _second_input_and_output(lm, 1)
    random = torch.Generator().manual_seed(0)
    left, right = (torch.randn(size, generator=random) for size in ((32, 2), (2, 48)))

    stored_left, stored_right = projection.stored(left, right)
    with torch.no_grad():
        projection.parameter.add_(stored_left @ stored_right)

    moved = _second_input_and_output(lm, 1)[1] - value
    torch.testing.assert_close(moved, key @ (left @ right).T, rtol=1e-4, atol=1e-4)


def test_orientation_is_read_from_the_type_where_shapes_say_nothing() -> None:
    conv, linear = (tiny_model(name, intermediate_size=32) for name in ("gpt2", "llama"))
    first, second = parts(conv.model).mlp_out(1), parts(linear.model).mlp_out(1)

    assert isinstance(first.module, Conv1D)
    assert first.parameter.shape == second.parameter.shape == (32, 32)
    assert torch.equal(first.matrix, first.parameter.T)
    assert torch.equal(second.matrix, second.parameter)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_attention_on_a_gpu_is_one_that_the_family_has(family: str) -> None:
    lm = tiny_model(family)
    chosen = attention(type(lm.model), "cuda")

    # transformers refuses an attention that a class does not have.
    lm.model.set_attn_implementation(chosen)

    assert chosen == ("eager" if family in ("gemma2", "gptj", "gpt_oss") else "sdpa")
    assert attention(type(lm.model), "cpu") == "eager"


def test_head_with_a_bias_keeps_it() -> None:
    lm = tiny_model("gptj", noise=0.5)
    found = parts(lm.model)

    assert torch.equal(found.logits(torch.zeros(1, 32))[0], found.head.bias)
    assert found.head.bias.any()


@pytest.mark.parametrize("family", MIXTURES)
def test_mixture_layer_is_refused_with_the_methods_that_work(family: str) -> None:
    found = parts(tiny_model(family).model)

    with pytest.raises(
        UnsupportedArchitecture, match=r"mixture.*finetune, lora, ultraedit or grace"
    ) as error:
        found.mlp_out(0)

    assert ("Dense layers of this model: 1." in str(error.value)) == (family == "qwen3_moe")
    assert found.is_dense(1) == (family == "qwen3_moe")


@pytest.mark.parametrize("layer", [-1, 3])
def test_layer_that_the_model_does_not_have_is_refused(layer: int) -> None:
    with pytest.raises(RequestError, match="layers 0 to 2"):
        parts(tiny_model().model).mlp_out(layer)


def test_projection_at_a_path_that_is_no_matrix_is_refused() -> None:
    with pytest.raises(UnsupportedArchitecture, match="neither Linear nor Conv1D"):
        parts(tiny_model().model).projection(0, "input_layernorm")


def test_model_that_looks_ahead_is_refused() -> None:
    lm = tiny_model("gemma3_text")
    lm.model.config.use_bidirectional_attention = True

    with pytest.raises(UnsupportedArchitecture, match="left to right"):
        parts(lm.model)


@pytest.mark.parametrize("model_type", ["bert", None, 3, "gemma3"])
def test_family_that_is_not_known_is_refused_with_what_to_do(model_type: object) -> None:
    expected = "Gemma3ForCausalLM" if model_type == "gemma3" else "gemma, gemma2, gemma3_text"

    with pytest.raises(UnsupportedArchitecture, match=expected):
        family_of(model_type)
