from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch

from language_models import NotReached, RequestError, nll
from language_models.checkpoint import state_digest
from language_models.generation import sequence_nll
from tests.language_models.factories import SENTENCES, tiny_model
from unlearning import METHODS, unlearn
from unlearning.npo import NpoConfig, npo_loss

FORGET = [SENTENCES[0], SENTENCES[0] + " The end."]
RETAIN = list(SENTENCES[1:])
CONFIG = NpoConfig(steps=6, learning_rate=1e-2, forget_batch=2, retain_batch=2)

# locuslab/open-unlearning d3d7cf9, float64: the loss for
# logits[b,t,v] = scale*sin(0.37*(v+1)*(t+1)/3 + 1.1*b + phase), model scale 3 phase 0, reference
# scale 2.5 phase 0.4; B 2, T 7, V 128.
LABELS = torch.tensor([[-100, -100, 5, 17, 3, 99, 2], [-100, -100, -100, 8, 64, 2, -100]])
SUM_MODEL = [25.786020247413873, 18.708917564122505]
SUM_REFERENCE = [24.917039645451577, 19.018436359900523]
PUBLISHED = {
    1.0: 1.2100536581641947,
    0.1: 13.5938463065647,
    0.01: 138.35076886734367,
    0.0001: 13862.66389093243,
}


def _logits(scale: float, phase: float) -> torch.Tensor:
    b, t, v = (torch.arange(n, dtype=torch.float64) for n in (2, 7, 128))
    inner = 0.37 * (v + 1) * (t[:, None] + 1) / 3
    return scale * torch.sin(inner[None] + 1.1 * b[:, None, None] + phase)


def _sums(logits: torch.Tensor) -> torch.Tensor:
    ids, mask = LABELS.clamp(min=0), (LABELS != -100).long()
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none"
    )
    return (losses * mask[:, 1:]).sum(dim=1)


def test_sums_equal_the_published_ones() -> None:
    assert _sums(_logits(3, 0)).tolist() == pytest.approx(SUM_MODEL, rel=1e-12)
    assert _sums(_logits(2.5, 0.4)).tolist() == pytest.approx(SUM_REFERENCE, rel=1e-12)
    # The package's own sum works in float32.
    ids, mask = LABELS.clamp(min=0), (LABELS != -100).long()
    ours = sequence_nll(_logits(3, 0).float(), ids, mask)
    assert ours.tolist() == pytest.approx(SUM_MODEL, rel=1e-5)


@pytest.mark.parametrize("beta", PUBLISHED)
def test_loss_equals_the_published_one(beta: float) -> None:
    loss = npo_loss(_sums(_logits(3, 0)), _sums(_logits(2.5, 0.4)), beta)

    assert float(loss) == pytest.approx(PUBLISHED[beta], rel=1e-9)


@pytest.mark.parametrize("beta", [0.01, 0.1, 1.0])
def test_at_the_reference_the_gradient_is_gradient_ascent_on_the_sum(beta: float) -> None:
    logits = _logits(3, 0).requires_grad_()
    sums = _sums(logits)
    loss = npo_loss(sums, sums.detach(), beta)

    (ours,) = torch.autograd.grad(loss, logits, retain_graph=True)
    (ascent,) = torch.autograd.grad(-sums.mean(), logits)

    assert loss.item() == pytest.approx(2 * math.log(2) / beta, rel=1e-12)
    assert torch.allclose(ours, ascent, rtol=1e-12, atol=1e-15)


def test_with_small_beta_the_gradient_tends_to_gradient_ascent() -> None:
    logits = _logits(3, 0).requires_grad_()
    reference = _sums(_logits(2.5, 0.4))
    (ascent,) = torch.autograd.grad(-_sums(logits).mean(), logits)
    gaps = []
    for beta in (1e-1, 1e-2, 1e-4):
        (ours,) = torch.autograd.grad(npo_loss(_sums(logits), reference, beta), logits)
        gaps.append(float((ours - ascent).norm() / ascent.norm()))

    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 1e-4


def test_gradient_fades_when_a_text_has_become_unlikely() -> None:
    nlls = torch.tensor([10.0, 200.0], requires_grad=True)

    npo_loss(nlls, torch.tensor([10.0, 10.0]), 0.1).backward()  # type: ignore[no-untyped-call]

    assert nlls.grad is not None
    assert abs(float(nlls.grad[1])) < 1e-6 * abs(float(nlls.grad[0]))


def test_loss_is_finite_and_not_negative_for_extreme_values() -> None:
    loss = npo_loss(torch.tensor([1e4, 0.0]), torch.tensor([0.0, 1e4]), 0.1)

    assert torch.isfinite(loss)
    assert loss >= 0


def test_unlearn_makes_the_texts_less_likely_and_keeps_the_others() -> None:
    lm = tiny_model(scale=1.0)
    before = nll(lm, [*FORGET, *RETAIN])

    result = unlearn(lm, FORGET, RETAIN, config=CONFIG)

    after = nll(lm, [*FORGET, *RETAIN])
    assert (after[:2] > before[:2]).all()
    assert (after[2:] < before[2:] + 1).all()
    assert len(result.details["losses"]) == 6
    first = result.details["losses"][0]["forget"]
    assert first == pytest.approx(2 * math.log(2) / CONFIG.beta, rel=1e-4)
    assert result.details["losses"][-1]["forget"] < first


def test_unlearn_twice_gives_the_same_weights_and_reverts_bit_for_bit() -> None:
    first, second = tiny_model(scale=1.0), tiny_model(scale=1.0)
    before = state_digest(first.model)

    result = unlearn(first, FORGET, RETAIN, config=CONFIG)
    unlearn(second, FORGET, RETAIN, config=CONFIG)

    assert state_digest(first.model) == state_digest(second.model) != before
    assert result.delta.revert(first) == before


def test_unlearn_runs_its_whole_schedule_and_reports_it() -> None:
    seen: list[tuple[str, int, int]] = []

    unlearn(tiny_model(scale=1.0), FORGET, RETAIN, "npo", CONFIG, lambda *step: seen.append(step))

    assert seen == [("unlearn", step, 6) for step in range(1, 7)]


def test_unlearn_details_hold_no_text() -> None:
    details = unlearn(tiny_model(scale=1.0), FORGET, RETAIN, config=CONFIG).details

    assert "Malee" not in json.dumps(details)


def test_unlearn_that_breaks_down_leaves_the_weights_as_before() -> None:
    lm = tiny_model(scale=1.0)
    before = state_digest(lm.model)

    with pytest.raises(NotReached, match="broke down"):
        unlearn(lm, FORGET, RETAIN, config=NpoConfig(steps=20, learning_rate=1e30))

    assert state_digest(lm.model) == before


@pytest.mark.parametrize(
    ("forget", "retain", "method", "config"),
    [
        ([], RETAIN, "npo", None),
        (FORGET, [], "npo", None),
        (FORGET, [*RETAIN, FORGET[0]], "npo", None),
        (FORGET, RETAIN, "magic", None),
        (FORGET, RETAIN, "npo", METHODS),
        (FORGET, RETAIN, "npo", NpoConfig(max_tokens=1)),
    ],
)
def test_unlearn_that_cannot_be_carried_out_changes_nothing(
    forget: list[str], retain: list[str], method: str, config: Any
) -> None:
    lm = tiny_model(scale=1.0)
    before = state_digest(lm.model)

    with pytest.raises(RequestError):
        unlearn(lm, forget, retain, method, config)

    assert state_digest(lm.model) == before


def test_unlearn_in_sixteen_bits_is_refused() -> None:
    lm = tiny_model()
    lm.model.to(torch.bfloat16)

    with pytest.raises(RequestError, match="float32"):
        unlearn(lm, FORGET, RETAIN)


@pytest.mark.parametrize("name", ["beta", "learning_rate", "steps", "retain_weight"])
def test_config_that_makes_no_sense_is_refused(name: str) -> None:
    with pytest.raises(RequestError, match=name):
        NpoConfig(**{name: 0})
