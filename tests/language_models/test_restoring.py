"""The batched runs against whole forward passes, one run and one noise sample at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from language_models.architecture import parts
from language_models.families import FAMILIES
from language_models.moments import hooked
from language_models.restoring import EMBEDDING, Restored, Runs, Statement
from language_models.tracing import TraceCase, blurred_runs
from tests.language_models.factories import tiny_model

CASES = [
    TraceCase("Malee Tanaka", "Records show that {} was born in"),
    TraceCase("Anna Sato", "Q: Where was {} born? A: In", "Kyoto"),
]


def _wanted(number: int, one: Statement) -> list[Restored]:
    last, middle = (one.where.end - 1,), (one.where.start, one.where.start + 1)
    end = (len(one.where.ids) - 1,)
    return [
        Restored(number, last, "block", (EMBEDDING,)),
        Restored(number, middle, "block", (1,)),
        Restored(number, end, "block", (0,)),
        Restored(number, end, "mlp", (0, 1)),
        Restored(number, middle, "attention", (1, 2)),
        Restored(number, last, "block", (0,), "mlp"),
        Restored(number, middle, "block", (0,), "attention"),
    ]


def _plain(lm: Any, one: Statement, run: Restored | None) -> float:
    """One run in the plainest way: hooks on the whole model, each noise sample alone."""
    model = parts(lm.model)
    ids = torch.tensor([one.ids])
    modules: dict[tuple[str, int], Any] = {("block", EMBEDDING): model.embed}
    for layer, block in enumerate(model.blocks):
        modules["block", layer] = block
        modules["mlp", layer] = model.mlp(layer)
        modules["attention", layer] = model.attention(layer)

    def output(value: Any) -> torch.Tensor:
        return value[0] if isinstance(value, tuple) else value

    def forward(noise: torch.Tensor | None, change: Any) -> tuple[float, dict[Any, torch.Tensor]]:
        seen: dict[Any, torch.Tensor] = {}

        def hook(key: Any) -> Any:
            def inner(_module: Any, _args: Any, value: Any) -> Any:
                state = output(value).clone()
                if key == ("block", EMBEDDING) and noise is not None:
                    state[0, one.where.start : one.where.end] += noise.to(state)
                state = change(key, state)
                seen[key] = state
                return (state, *value[1:]) if isinstance(value, tuple) else state

            return inner

        with hooked(
            *(lambda m=m, key=key: m.register_forward_hook(hook(key)) for key, m in modules.items())
        ):
            logits = lm.model(input_ids=ids, use_cache=False).logits[0]
        rows = logits[len(one.where.ids) - 1 :].float().log_softmax(-1)
        logs = [rows[step, token] for step, token in enumerate(one.answer)]
        return float(torch.stack(logs).mean().exp()), seen

    high, clean = forward(None, lambda _key, state: state)
    if run is None:
        return high
    found = []
    for noise in one.noise:
        _, blurred = forward(noise, lambda _key, state: state)

        def change(key: Any, state: torch.Tensor, blurred: Any = blurred) -> torch.Tensor:
            kind, layer = key
            at = list(run.positions)
            if kind == run.kind and layer in run.layers:
                state[0, at] = clean[key][0, at]
            elif kind == run.severed and layer > run.layers[0]:
                state[0, at] = blurred[key][0, at]
            return state

        found.append(forward(noise, change)[0])
    return sum(found) / len(found)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_runs_equal_whole_passes_one_by_one(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("language_models.tracing.NOISE_SAMPLES", 2)
    lm = tiny_model(family)
    with torch.inference_mode():
        runs, prepared = blurred_runs(lm, CASES, seed=0)
        wanted = [run for number, one in enumerate(prepared) for run in _wanted(number, one)]
        found = runs.chances(wanted)
        plain = [_plain(lm, prepared[run.statement], run) for run in wanted]
        high = [_plain(lm, one, None) for one in prepared]

    assert found == pytest.approx(plain, rel=2e-3, abs=1e-7)
    assert runs.high == pytest.approx(high, rel=2e-3, abs=1e-7)
    assert len({round(value, 9) for value in found}) > len(found) / 2


def test_runs_up_to_a_layer_are_those_with_all_layers_below_restored() -> None:
    with torch.inference_mode():
        runs, prepared = blurred_runs(tiny_model(), CASES, seed=0)
        at = [(number, (one.where.end - 1,)) for number, one in enumerate(prepared)]
        rows = runs.up_to([Restored(number, tokens, "mlp") for number, tokens in at])
        layers = [tuple(range(layer + 1)) for layer in range(3)]
        each = runs.chances(
            [Restored(number, tokens, "mlp", upto) for number, tokens in at for upto in layers]
        )

    assert [value for row in rows for value in row] == pytest.approx(each, rel=1e-4)


def test_runs_do_not_depend_on_how_many_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.inference_mode():
        runs, prepared = blurred_runs(tiny_model(), CASES, seed=0)
        wanted = [run for number, one in enumerate(prepared) for run in _wanted(number, one)]
        together = runs.chances(wanted)
        monkeypatch.setattr("language_models.restoring.ROWS_PER_PASS", 1)
        monkeypatch.setattr("language_models.restoring.LOGITS_PER_PASS", 700)
        alone = Runs(tiny_model(), prepared).chances(wanted)

    assert alone == pytest.approx(together, rel=1e-4)
