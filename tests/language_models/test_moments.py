from __future__ import annotations

import pytest
import torch

from language_models import RequestError
from language_models.architecture import parts
from language_models.generation import encode
from language_models.moments import hooked, second_moment
from tests.language_models.factories import SENTENCES, tiny_model


def test_second_moment_is_the_mean_of_outer_products_of_all_keys() -> None:
    lm = tiny_model()
    seen: list[torch.Tensor] = []
    module = parts(lm.model).mlp_out(1)
    with (
        torch.no_grad(),
        hooked(lambda: module.register_forward_pre_hook(lambda _m, i: seen.append(i[0][0]))),
    ):
        for text in SENTENCES:
            lm.model(input_ids=torch.tensor([encode(lm, text)]))
    keys = torch.cat(seen).double()

    moment = second_moment(lm, SENTENCES, 1, batch_size=2)

    assert moment.count == len(keys)
    assert torch.allclose(moment.matrix, keys.T @ keys / len(keys), atol=1e-6, rtol=1e-5)
    assert moment.digest == second_moment(lm, SENTENCES, 1, batch_size=2).digest


def test_second_moment_does_not_depend_on_order_or_padding() -> None:
    lm = tiny_model()

    one = second_moment(lm, SENTENCES, 0, batch_size=1).matrix
    other = second_moment(lm, SENTENCES[::-1], 0, batch_size=3).matrix

    assert torch.allclose(one, other, atol=1e-6, rtol=1e-5)


def test_second_moment_of_nothing_or_of_a_wrong_layer_is_refused() -> None:
    with pytest.raises(RequestError, match="need texts"):
        second_moment(tiny_model(), [], 0)
    with pytest.raises(RequestError, match="layers 0 to 2"):
        second_moment(tiny_model(), SENTENCES, 3)


def test_hooked_removes_its_hooks_after_an_error() -> None:
    module = torch.nn.Linear(2, 2)

    with (
        pytest.raises(KeyError),
        hooked(lambda: module.register_forward_hook(lambda *_: None)),
    ):
        raise KeyError

    assert not module._forward_hooks
