from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from language_models import RequestError, UnsupportedArchitecture
from language_models.architecture import parts
from language_models.generation import encode
from language_models.moments import (
    Moment,
    hooked,
    keys,
    moment_error,
    sample_texts,
    second_moment,
    second_moments,
)
from tests.language_models.factories import DENSE, MIXTURES, SENTENCES, tiny_model

if TYPE_CHECKING:
    from pathlib import Path

    from language_models import LanguageModel


def _double(family: str = "llama") -> LanguageModel:
    lm = tiny_model(family)
    lm.model.double()
    return lm


def _plain(lm: LanguageModel, layer: int, texts: tuple[str, ...] = SENTENCES) -> torch.Tensor:
    """XᵀX / n with the keys of each text read alone."""
    seen: list[torch.Tensor] = []
    module = parts(lm.model).mlp_out(layer).module
    with (
        torch.no_grad(),
        hooked(lambda: module.register_forward_pre_hook(lambda _m, i: seen.append(i[0][0]))),
    ):
        for text in texts:
            lm.model(input_ids=torch.tensor([encode(lm, text)]))
    X = torch.cat(seen).double()
    return X.T @ X / len(X)


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("family", DENSE)
def test_second_moments_are_the_mean_of_outer_products_of_all_keys(family: str) -> None:
    lm = _double(family)

    found = second_moments(lm, SENTENCES, [2, 0], batch_size=2)

    assert list(found) == [0, 2]
    assert found[0].count == sum(len(encode(lm, text)) for text in SENTENCES)
    for layer, moment in found.items():
        assert _distance(moment.matrix, _plain(lm, layer)) < 1e-12
        assert moment.matrix.dtype == torch.float64


def test_second_moment_is_one_of_second_moments_and_names_its_content() -> None:
    lm = tiny_model()

    one = second_moment(lm, SENTENCES, 1, batch_size=2)

    assert one.digest == second_moments(lm, SENTENCES, [1, 2], batch_size=2)[1].digest
    assert one.digest != second_moment(lm, SENTENCES[:2], 1, batch_size=2).digest


def test_second_moment_does_not_depend_on_order_batches_or_the_tokenizers_padding() -> None:
    lm = _double()
    expected = second_moment(lm, SENTENCES, 0, batch_size=1).matrix

    lm.tokenizer.padding_side = "left"
    other = second_moment(lm, iter(SENTENCES[::-1]), 0, batch_size=3).matrix

    assert _distance(other, expected) < 1e-12


def test_keys_are_the_same_with_padding_on_either_side() -> None:
    lm = tiny_model()
    ids = encode(lm, SENTENCES[0])
    left = torch.tensor([[0, 0, 0, *ids]])
    mask = torch.tensor([[0, 0, 0] + [1] * len(ids)])

    with torch.no_grad():
        padded = keys(lm, left, mask, 1)[0, 3:]
        alone = keys(lm, left[:, 3:], mask[:, 3:], 1)[0]

    assert _distance(padded, alone) < 1e-5


def test_second_moment_reads_texts_as_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = tiny_model()
    monkeypatch.setattr("language_models.moments.SORTED_BATCHES", 2)
    handed: list[int] = []

    def texts() -> object:
        for number in range(10):
            handed.append(number)
            yield SENTENCES[number % 3]

    ahead: list[int] = []
    second_moments(
        lm,
        texts(),
        [0],
        batch_size=1,
        progress=lambda _s, done, _t: ahead.append(len(handed) - done),
    )  # type: ignore[arg-type]

    assert len(ahead) == 10
    assert max(ahead) < 2


def test_second_moment_cuts_texts_at_the_window_of_the_model() -> None:
    lm = tiny_model(max_position_embeddings=8)
    cut = [lm.tokenizer.decode(encode(lm, text)[1:8]) for text in SENTENCES]

    found = second_moment(lm, SENTENCES, 1)

    assert found.count == 8 * len(SENTENCES)
    assert _distance(found.matrix, second_moment(lm, cut, 1).matrix) < 1e-6
    assert second_moments(lm, SENTENCES, [1], max_tokens=5)[1].count == 5 * len(SENTENCES)


def test_second_moments_of_a_pass_do_not_depend_on_how_many_tokens_it_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lm = _double()
    expected = second_moment(lm, SENTENCES, 2).matrix
    monkeypatch.setattr("language_models.moments.TOKENS_PER_PASS", 30)

    assert _distance(second_moment(lm, SENTENCES, 2).matrix, expected) < 1e-12


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_second_moment_of_half_precision_weights_is_summed_in_float64(dtype: torch.dtype) -> None:
    lm = tiny_model(scale=1.0)
    expected = second_moment(lm, SENTENCES, 1).matrix
    lm.model.to(dtype)

    found = second_moment(lm, SENTENCES, 1)

    assert found.matrix.dtype == torch.float64
    assert _distance(found.matrix, expected) < 0.05


def test_second_moment_in_training_mode_is_without_dropout(tmp_path: Path) -> None:
    lm = tiny_model("gpt2")
    expected = second_moment(lm, SENTENCES, 1)
    lm.model.train()

    stored = second_moments(lm, SENTENCES, [1], cache=tmp_path)

    assert second_moment(lm, SENTENCES, 1).digest == expected.digest
    assert stored[1].digest == expected.digest
    assert all(module.training for module in lm.model.modules())


def test_second_moment_of_overflowing_keys_is_refused() -> None:
    lm = tiny_model()
    with torch.no_grad():
        parts(lm.model).mlp(1).up_proj.weight[0].fill_(float("inf"))

    with pytest.raises(RequestError, match="overflow"):
        second_moment(lm, SENTENCES, 1)


@pytest.mark.parametrize("family", sorted(MIXTURES))
def test_second_moment_of_a_mixture_is_refused_with_the_reason(family: str) -> None:
    with pytest.raises(UnsupportedArchitecture, match="mixture of experts"):
        second_moment(tiny_model(family), SENTENCES, 0)


def test_second_moment_of_nothing_or_of_a_wrong_layer_is_refused() -> None:
    with pytest.raises(RequestError, match="need texts"):
        second_moment(tiny_model(), [], 0)
    with pytest.raises(RequestError, match="layers 0 to 2"):
        second_moment(tiny_model(), SENTENCES, 3)


def test_moment_error_is_zero_for_itself_and_known_for_a_scaled_one() -> None:
    C = torch.diag(torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64))
    reference, doubled = Moment(C, 1, ""), Moment(2 * C, 1, "")

    same = moment_error(reference, reference)
    half = moment_error(doubled, reference, torch.eye(3))

    assert (same.frobenius, same.solve) == (0.0, 0.0)
    assert half.frobenius == pytest.approx(1.0)
    # (2C)⁻¹k is half of C⁻¹k.
    assert half.solve == pytest.approx(0.5)


def test_moment_error_falls_with_the_number_of_texts() -> None:
    lm = tiny_model()
    texts = [f"{SENTENCES[n % 3][: 20 + n]} {n}" for n in range(60)]
    reference = second_moment(lm, texts, 1)

    few, many = (
        moment_error(second_moment(lm, sample_texts(texts, n, seed=0), 1), reference)
        for n in (4, 40)
    )

    assert many.frobenius < few.frobenius
    assert many.solve < few.solve


def test_sample_texts_is_seeded_and_takes_from_the_whole_stream() -> None:
    texts = [str(n) for n in range(400)]

    found = sample_texts(iter(texts), 100, seed=3)

    assert found == sample_texts(texts, 100, seed=3)
    assert found != sample_texts(texts, 100, seed=4)
    assert len(set(found)) == 100
    assert 150 < sum(map(int, found)) / 100 < 250
    assert sample_texts(texts, 1000, seed=3) == texts


def test_hooked_removes_its_hooks_after_an_error() -> None:
    module = torch.nn.Linear(2, 2)

    with (
        pytest.raises(KeyError),
        hooked(lambda: module.register_forward_hook(lambda *_: None)),
    ):
        raise KeyError

    assert not module._forward_hooks
