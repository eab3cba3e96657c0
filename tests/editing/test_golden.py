"""The published code's own figures (tests/editing/golden/README.md) against the compat mode."""

from __future__ import annotations

import pytest
import torch

from editing import METHODS, edit
from editing.alphaedit import AlphaEditConfig
from editing.closed_form import constrained, in_null_space, least_squares, rank_one
from editing.contexts import context_keys, contexts
from editing.emmet import EmmetConfig
from editing.memit import MemitConfig
from editing.memory import EditedKeys
from editing.rome import RomeConfig
from language_models.methods import published
from language_models.tracing import Site
from tests.editing.golden_case import (
    GOLDEN,
    REQUESTS,
    change,
    golden_model,
    golden_settings,
    relative,
    values,
)

CONTEXTS = GOLDEN["contexts"]["rome"]
MASS = [text for kind in GOLDEN["contexts"]["memit"] for text in kind]


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("name", ["plain", "stop", "decay"])
def test_rome_compat_equals_the_published_code(name: str, number: int) -> None:
    config = RomeConfig(**golden_settings(name, CONTEXTS))

    result = edit(golden_model(), [REQUESTS[number]], "rome", config)

    assert relative(change(result, 2), values()[f"rome.{name}.{number}.delta"]) < 1e-4
    steps = GOLDEN["results"][f"rome.{name}"]["optimiser_steps"][number]
    assert result.details["requests"][0]["steps"] == steps


@pytest.mark.parametrize("number", range(3))
def test_rome_compat_in_float64_gives_the_published_value(number: int) -> None:
    lm = golden_model(torch.float64)
    config = RomeConfig(**golden_settings("plain", CONTEXTS))

    entry = change(edit(lm, [REQUESTS[number]], "rome", config), 2)

    u = values()[f"rome.plain.float64.{number}.u"]
    right = values()[f"rome.plain.float64.{number}.right"]
    assert relative(entry, torch.outer(u, right)) < 1e-6


def test_rome_compat_of_two_facts_is_one_edit_after_the_other() -> None:
    config = RomeConfig(**golden_settings("plain", CONTEXTS))

    together = edit(golden_model(), REQUESTS[:2], "rome", config)

    lm = golden_model()
    found = [contexts(lm, request, config, Site("subject_last", 2)) for request in REQUESTS[:2]]
    # The keys lie below what is changed: both edits have them in common.
    K = torch.cat(context_keys(lm, found, 2)).T
    one, other = (change(edit(lm, [request], "rome", config), 2) for request in REQUESTS[:2])
    assert relative(change(together, 2), one + other) < 1e-4
    assert isinstance(together.memory, EditedKeys)
    assert relative(together.memory.sums[2], K @ K.T) < 1e-12


@pytest.mark.parametrize("number", range(3))
def test_r_rome_has_the_published_homogeneous_change(number: int) -> None:
    golden = {name: values()[f"r_rome.plain.{number}.{name}"].double() for name in
              ("k", "y", "v_star", "delta")}  # fmt: skip
    C = values()["statistics.layer2.C"].double()

    left, right = rank_one(golden["v_star"] - golden["y"], golden["k"][:, None], C)

    assert relative((left @ right).T, golden["delta"]) < 1e-4


@pytest.mark.parametrize("name", ["plain", "stop", "decay"])
def test_memit_compat_equals_the_published_code(name: str) -> None:
    lm = golden_model()
    config = MemitConfig(
        **golden_settings(name, MASS), layers=(1, 2), moment_weight=20.0, rounds=1, anchor=0.0
    )

    result = edit(lm, REQUESTS, "memit", config)

    for layer in (1, 2):
        wanted = values()[f"memit.{name}.batch0.layer{layer}.delta"]
        assert relative(change(result, layer), wanted) < 1e-3


@pytest.mark.parametrize("layer", [1, 2])
def test_memit_closed_form_gives_the_published_change_of_the_first_layer(layer: int) -> None:
    K = values()[f"memit.plain.batch0.layer{layer}.keys"].double().T
    C = values()[f"statistics.layer{layer}.C"].double()
    delta = values()[f"memit.plain.batch0.layer{layer}.delta"].double().T

    gain = least_squares(K, 20.0 * C)

    # Δ = R G for some R: the golden change lies in the span of the rows of the gain.
    R = torch.linalg.lstsq(gain.T, delta.T).solution.T
    assert relative(R @ gain, delta) < 1e-5


def test_emmet_compat_equals_the_published_code() -> None:
    config = EmmetConfig(
        **golden_settings("plain", MASS), moment_weight=1.0, rounds=1, anchor=0.0, slack=0.1
    )

    result = edit(golden_model(), REQUESTS, "emmet", config)

    assert relative(change(result, 2), values()["emmet.plain.batch0.layer2.delta"]) < 1e-3


@pytest.mark.parametrize("name", ["plain", "decay"])
def test_alphaedit_compat_equals_the_published_code(name: str) -> None:
    config = AlphaEditConfig(
        **golden_settings(name, MASS), layers=(1, 2), rounds=1, anchor=0.0,
        null_threshold=0.1, null_ridge=1.0,
    )  # fmt: skip

    result = edit(golden_model(), REQUESTS, "alphaedit", config)

    for layer in (1, 2):
        wanted = values()[f"alphaedit.{name}.batch0.layer{layer}.delta"]
        assert relative(change(result, layer), wanted) < 1e-3


def test_batches_one_after_another_equal_the_published_sequence() -> None:
    lm = golden_model()
    settings = golden_settings("plain", MASS)
    config = AlphaEditConfig(
        **settings, layers=(1, 2), rounds=1, anchor=0.0, null_threshold=0.1, null_ridge=1.0
    )
    first = edit(lm, REQUESTS[:2], "alphaedit", config)

    second = edit(lm, REQUESTS[2:], "alphaedit", config, memory=first.memory)

    for number, result in enumerate((first, second)):
        for layer in (1, 2):
            wanted = values()[f"alphaedit.plain.sequence.batch{number}.layer{layer}.delta"]
            assert relative(change(result, layer), wanted) < 5e-3


def test_constrained_and_null_space_forms_give_the_published_changes() -> None:
    K = values()["emmet.plain.batch0.layer2.keys"].double().T
    C = values()["statistics.layer2.C"].double()
    R = torch.linalg.lstsq(
        constrained(K, C, 0.1).T, values()["emmet.plain.batch0.layer2.delta"].double()
    ).solution.T
    assert relative((R @ constrained(K, C, 0.1)).T,
                    values()["emmet.plain.batch0.layer2.delta"]) < 1e-5  # fmt: skip

    K = values()["alphaedit.plain.batch0.layer1.keys"].double().T
    P = values()["alphaedit.layer1.P"]
    eigenvalues, vectors = torch.linalg.eigh(P.double())
    U = vectors[:, eigenvalues > 0.5]
    gain = in_null_space(K, torch.zeros(64, 64, dtype=torch.float64), U, 1.0)
    delta = values()["alphaedit.plain.batch0.layer1.delta"].double()
    R = torch.linalg.lstsq(gain.T, delta).solution.T
    assert relative((R @ gain).T, delta) < 1e-4


@pytest.mark.parametrize(
    ("method", "papers"),
    [
        ("rome", {"stop_loss": 0.05, "rounds": 1, "slack": 0.0}),
        ("memit", {"rounds": 1, "anchor": 0.0, "moment_weight": 15_000.0}),
        ("emmet", {"rounds": 1, "slack": 0.1}),
        ("alphaedit", {"rounds": 1, "null_threshold": 0.02, "null_ridge": 10.0}),
    ],
)
def test_published_defaults_are_those_of_the_papers_code(
    method: str, papers: dict[str, float]
) -> None:
    config = published(METHODS[method].config)

    assert config.compat
    assert {name: getattr(config, name) for name in papers} == papers
