from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.nn import functional as F

from editing import EditRequest
from editing.located import Located, locate_edits
from editing.rome import RomeConfig
from editing.value import optimise_values
from language_models.architecture import parts
from language_models.checkpoint import state_digest
from language_models.moments import hooked
from language_models.progress import silent
from tests.language_models.factories import tiny_model

if TYPE_CHECKING:
    from language_models.checkpoint import LanguageModel

LAYER = 1
REQUESTS = [
    EditRequest("Malee Tanaka", "{} was born in", "was", ("Records show that {} was born in",)),
    EditRequest("Anna Sato", "{} works as", "born in Kyoto"),
    EditRequest("Somchai", "Q: Where does {} live? A:", "the employer", ("{} lives in",)),
]


def _located(lm: LanguageModel, requests: list[EditRequest], **changes: Any) -> Located:
    settings = {"role": "last", "layer": LAYER, "clamp": 300.0, "steps": 12, "prefixes": 0}
    return locate_edits(lm, requests, RomeConfig(**{**settings, **changes}), silent)


def _values(lm: LanguageModel, requests: list[EditRequest], **changes: Any) -> list[torch.Tensor]:
    located = _located(lm, requests, **changes)
    found = optimise_values(lm, located.contexts, located.config, LAYER, silent)
    return [value.delta for value in found]


@pytest.mark.parametrize("rows_per_pass", [1, 4, 96])
def test_values_do_not_depend_on_which_facts_are_optimised_together(rows_per_pass: int) -> None:
    lm = tiny_model()

    together = _values(lm, REQUESTS, rows_per_pass=rows_per_pass)

    for request, delta in zip(REQUESTS, together, strict=True):
        (alone,) = _values(lm, [request])
        assert torch.allclose(delta, alone, atol=1e-4 * float(alone.norm()))


def _plain(lm: LanguageModel, located: Located, updates: int) -> torch.Tensor:
    """ROME, eq. 4, as it is written: whole forwards with a hook, torch's Adam, one fact."""
    (found,), config = located.contexts, located.config
    module = parts(lm.model).mlp_out(LAYER).module
    delta = torch.zeros(parts(lm.model).mlp_out(LAYER).d_out, requires_grad=True)
    norms: list[torch.Tensor] = []

    def logits(row: tuple[int, ...], at: int, shift: torch.Tensor) -> torch.Tensor:
        def add(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
            norms.append(output[0, at].detach())
            changed = output.clone()
            changed[0, at] += shift
            return changed

        with hooked(lambda: module.register_forward_hook(add)):
            return lm.model(input_ids=torch.tensor([row])).logits[0].log_softmax(dim=-1)

    row, at = found.essence
    start = logits(row, at, torch.zeros_like(delta))[at].detach()
    norms.clear()
    for row, where in zip(found.rows, found.positions, strict=True):
        logits(row, where, torch.zeros_like(delta))
    v0 = torch.stack(norms).mean(dim=0).norm()
    adam = torch.optim.Adam([delta], lr=config.learning_rate)
    for _ in range(updates):
        loss = torch.zeros(())
        for row, first, where, count in zip(
            found.rows, found.starts, found.positions, found.counts, strict=True
        ):
            chances = logits(row[:-1], where, delta)[first - 1 :]
            loss = loss - count * chances.gather(1, torch.tensor(row[first:])[:, None]).mean()
        drift = F.kl_div(start, logits(*found.essence, delta)[at], log_target=True, reduction="sum")
        total = loss / sum(found.counts) + config.kl_weight * drift
        total = total + config.norm_weight * delta.norm() / v0**2
        adam.zero_grad()
        total.backward()
        adam.step()
        with torch.no_grad():
            delta *= (config.clamp * v0 / delta.norm().clamp(min=1e-12)).clamp(max=1.0)
    return delta.detach()


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
@pytest.mark.parametrize(
    "changes",
    [{}, {"kl_weight": 5.0}, {"norm_weight": 3.0}, {"clamp": 0.5}, {"role": "subject_last"}],
)
def test_values_equal_those_of_whole_forwards(family: str, changes: dict[str, Any]) -> None:
    lm = tiny_model(family)
    settings = {"steps": 4, "stop_loss": 1e-9, "kl_weight": 0.5, "norm_weight": 0.5, **changes}
    request = EditRequest("Anna Sato", "{} works as", "born in Kyoto", ("Job of {}:",))
    located = _located(lm, [request], **settings)

    (value,) = optimise_values(lm, located.contexts, located.config, LAYER, silent)

    plain = _plain(lm, located, 4)
    assert float((value.delta - plain).norm() / plain.norm()) < 2e-3
    assert value.details["steps"] == 4


def test_context_that_occurs_twice_counts_twice() -> None:
    lm = tiny_model()
    request = EditRequest("Anna Sato", "{} works as", "born in Kyoto")
    located = _located(
        lm, [request], lead_ins=("A. ", "Born. ", "A. ", "A. "), steps=3, stop_loss=1e-9
    )
    assert located.contexts[0].counts == (1, 3, 1)

    (value,) = optimise_values(lm, located.contexts, located.config, LAYER, silent)

    plain = _plain(lm, located, 3)
    assert float((value.delta - plain).norm() / plain.norm()) < 2e-3


def test_values_stop_each_by_its_own_loss() -> None:
    lm = tiny_model()
    short = [REQUESTS[0], EditRequest("Anna Sato", "{} works as", "born")]
    located = _located(lm, short, steps=200, stop_loss=4.0, learning_rate=0.1, kl_weight=0.0)

    found = optimise_values(lm, located.contexts, located.config, LAYER, silent)

    steps = [value.details["steps"] for value in found]
    assert all(value.details["value_loss"] < 4.0 for value in found)
    assert len(set(steps)) > 1
    assert max(steps) < 200


def test_values_are_clamped_to_the_norm_of_the_present_output() -> None:
    lm = tiny_model()
    located = _located(lm, REQUESTS, clamp=0.25, learning_rate=5.0, stop_loss=1e-9)

    found = optimise_values(lm, located.contexts, located.config, LAYER, silent)

    assert all(value.details["value_norm"] <= 0.25 * (1 + 1e-5) for value in found)


def test_values_leave_weights_gradients_and_hooks_as_they_were() -> None:
    lm = tiny_model()
    lm.model.requires_grad_(requires_grad=True)
    before = state_digest(lm.model)

    _values(lm, REQUESTS)

    assert state_digest(lm.model) == before
    assert all(weight.requires_grad and weight.grad is None for weight in lm.model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in lm.model.modules())


def test_value_wordings_bound_the_contexts_that_are_optimised() -> None:
    lm = tiny_model()
    request = EditRequest("Anna", "{} is", "was", ("Now {} is", "So {} is", "As {} is", "If {} is"))

    located = _located(lm, [request], value_wordings=2)
    (value,) = optimise_values(lm, located.contexts, located.config, LAYER, silent)

    assert value.details["contexts"] == 2
    assert len(located.contexts[0].rows) == 5
