from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from language_models import LanguageModel, NotReached, RequestError
from language_models.checkpoint import state_digest
from tests.unlearning.trainings import model, records
from unlearning.deterministic import (
    Optimisation,
    Step,
    Trainer,
    deterministic,
    digest,
    environment,
    require_environment,
)
from unlearning.records import tokens

SETTINGS = Optimisation(learning_rate=1e-2, weight_decay=0.1)


def _rows(lm: LanguageModel) -> dict[str, list[int]]:
    return {record.id: tokens(lm, record.text, 512) for record in records()}


def _trainer(lm: LanguageModel, optimisation: Optimisation = SETTINGS, pad_id: int = 0) -> Trainer:
    return Trainer(lm.model, list(lm.model.named_parameters()), pad_id, optimisation)


def _step(number: int, *slots: tuple[str, ...], rate: float = 1e-2) -> Step:
    return Step(number, 7 + number, rate, slots)


def test_an_empty_slot_equals_a_slot_that_is_not_there() -> None:
    lm, other = model(), model()
    rows = _rows(lm)
    without = {name: row for name, row in rows.items() if not name.startswith("1")}

    emptied = _trainer(lm)
    emptied.step(_step(1, ("0-a", "1-b"), ("1-a",), ("2-a", "3-b")), without)
    plain = _trainer(other)
    plain.step(_step(1, ("0-a",), ("2-a", "3-b")), rows)

    assert digest(emptied.state()) == digest(plain.state())


def test_loss_and_change_do_not_depend_on_how_a_step_is_split() -> None:
    results = []
    for slots in (
        (("0-a", "1-b", "2-a"),),
        (("0-a",), ("1-b",), ("2-a",)),
        (("2-a", "1-b"), ("0-a",)),
    ):
        lm = model()
        lm.model.double()
        trainer = _trainer(lm)
        loss = trainer.step(_step(1, *slots), _rows(lm))
        results.append((loss, trainer.state()))

    for loss, state in results[1:]:
        assert loss == pytest.approx(results[0][0], rel=1e-6)
        for name, tensor in state.items():
            if name.startswith("exp_avg."):
                assert torch.allclose(tensor, results[0][1][name], rtol=1e-4, atol=1e-8), name


def test_loss_is_the_mean_over_the_tokens_that_are_there() -> None:
    lm = model()
    rows = _rows(lm)
    total = count = 0.0
    for name in ("0-a", "1-b"):
        logits = lm.model(input_ids=torch.tensor([rows[name]])).logits[0, :-1].detach()
        total += float(torch.nn.functional.cross_entropy(
            logits, torch.tensor(rows[name][1:]), reduction="sum"))  # fmt: skip
        count += len(rows[name]) - 1

    loss = _trainer(lm).step(
        _step(1, ("0-a", "4-a"), ("1-b",)), {n: rows[n] for n in ("0-a", "1-b")}
    )

    assert loss == pytest.approx(total / count, rel=1e-6)


def test_padding_changes_no_bit() -> None:
    digests = set()
    for pad_id in (0, 17):
        lm = model()
        trainer = _trainer(lm, pad_id=pad_id)
        trainer.step(_step(1, ("0-a", "1-b")), _rows(lm))
        digests.add(digest(trainer.state()))

    assert len(digests) == 1


def test_a_step_without_records_counts_but_changes_nothing() -> None:
    lm = model()
    trainer = _trainer(lm)
    rows = _rows(lm)
    trainer.step(_step(1, ("0-a",)), rows)
    before = trainer.state()

    assert trainer.step(_step(2, ("gone", ""), ()), rows) is None

    after = trainer.state()
    assert int(after.pop("steps")) == int(before.pop("steps")) + 1
    assert digest(after) == digest(before)


def test_a_step_out_of_turn_is_refused() -> None:
    trainer = _trainer(model())
    with pytest.raises(RequestError, match="Step 1 comes next"):
        trainer.step(_step(2, ("0-a",)), {})


def test_a_loss_that_is_not_finite_leaves_the_state_as_it_was() -> None:
    lm = model()
    trainer = _trainer(lm)
    rows = _rows(lm)
    trainer.step(_step(1, ("0-a",), rate=1e36), rows)
    before = digest(trainer.state())

    with pytest.raises(NotReached, match="not finite"):
        trainer.step(_step(2, ("0-a",)), rows)

    assert digest(trainer.state()) == before
    assert all(weight.grad is None for weight in lm.model.parameters())


@pytest.mark.parametrize(("rate", "beta"), [(3.5e37, 0.9), (1e300, 0.9), (1e38, 0.999)])
def test_a_learning_rate_beyond_the_number_format_is_refused(rate: float, beta: float) -> None:
    with pytest.raises(RequestError, match="too large"):
        Optimisation(learning_rate=rate, betas=(beta, 0.999))


def test_the_largest_learning_rate_breaks_training_down_and_nothing_else() -> None:
    lm = model()
    most = torch.finfo(torch.float32).max * (1 - 0.9) * 0.999
    trainer = Trainer(lm.model, list(lm.model.named_parameters()), 0, Optimisation())
    trainer.step(_step(1, ("0-a",), rate=most), _rows(lm))
    with pytest.raises(NotReached, match="not finite"):
        trainer.step(_step(2, ("0-a",)), _rows(lm))


def test_training_goes_on_from_a_kept_state_in_the_same_bits() -> None:
    lm = model()
    rows = _rows(lm)
    whole = _trainer(lm)
    steps = [_step(number, (f"{number}-a", "0-b")) for number in range(1, 5)]
    kept = {}
    for step in steps:
        kept[step.number] = whole.state()
        whole.step(step, rows)

    for number, state in kept.items():
        other = _trainer(model())
        other.load_state(state)
        before = digest(state)
        for step in steps[number - 1 :]:
            other.step(step, rows)
        assert digest(other.state()) == digest(whole.state())
        assert digest(state) == before, "the kept state itself was trained on"


def test_a_state_without_its_moments_does_not_lead_to_the_same_bits() -> None:
    lm = model()
    rows = _rows(lm)
    whole = _trainer(lm)
    whole.step(_step(1, ("0-a",)), rows)
    kept = whole.state()
    whole.step(_step(2, ("1-a",)), rows)

    other = _trainer(model())
    other.load_state({n: one for n, one in kept.items() if n.startswith(("weight.", "steps"))})
    other.step(_step(2, ("1-a",)), rows)

    assert digest(other.state()) != digest(whole.state())


def test_a_state_of_other_weights_is_refused_before_anything_changes() -> None:
    lm = model()
    trainer = _trainer(lm)
    state = trainer.state()
    before = state_digest(lm.model)
    name = next(one for one in state if one.startswith("weight."))

    for wrong in (
        {k: v for k, v in state.items() if k != name},
        {**state, "weight.more": torch.zeros(1)},
        {**state, name: torch.zeros(3)},
        {**state, name: state[name].double()},
    ):
        with pytest.raises(RequestError):
            trainer.load_state(wrong)
    assert state_digest(lm.model) == before


def test_dropout_is_off_and_all_modes_are_put_back() -> None:
    results = []
    for training in (True, False):
        lm = model("gpt2")
        lm.model.train(training)
        frozen = next(lm.model.parameters())
        frozen.requires_grad_(requires_grad=False)
        trainer = _trainer(lm)
        trainer.step(_step(1, ("0-a", "1-a")), _rows(lm))
        results.append(digest(trainer.state()))
        assert all(module.training is training for module in lm.model.modules())
        assert not frozen.requires_grad
        assert not torch.are_deterministic_algorithms_enabled()
    assert results[0] == results[1]
    assert model("gpt2").model.config.resid_pdrop > 0


def test_only_chosen_weights_change_and_no_other_gets_a_gradient() -> None:
    lm = model()
    before = {name: one.detach().clone() for name, one in lm.model.named_parameters()}
    chosen = [(n, one) for n, one in lm.model.named_parameters() if "down_proj" in n]
    trainer = Trainer(lm.model, chosen, 0, SETTINGS)

    trainer.step(_step(1, ("0-a",)), _rows(lm))

    changed = {n for n, one in lm.model.named_parameters() if not torch.equal(one, before[n])}
    assert changed == {name for name, _ in chosen}


def test_seeds_of_the_world_outside_are_not_touched() -> None:
    lm = model()
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    _trainer(lm).step(_step(1, ("0-a",)), _rows(lm))
    assert torch.equal(torch.rand(1), expected)


def test_a_kernel_that_is_not_deterministic_is_refused() -> None:
    with pytest.raises(RequestError, match="no deterministic form"), deterministic():
        torch.zeros(3).put_(torch.tensor([0]), torch.tensor([1.0]))
    assert not torch.are_deterministic_algorithms_enabled()


def test_other_errors_of_torch_are_let_through() -> None:
    with pytest.raises(RuntimeError, match="shape"), deterministic():
        torch.zeros(3, 4) @ torch.zeros(3, 4)


def test_an_environment_is_compared_key_by_key() -> None:
    now = environment(torch.device("cpu"))
    require_environment(now, dict(now))
    for key in now:
        with pytest.raises(RequestError, match=rf"{key} something else, now .*A′"):
            require_environment({**now, key: "something else"}, now)
    with pytest.raises(RequestError, match="threads"):
        require_environment({key: now[key] for key in now if key != "threads"}, now)


def test_learning_rate_rises_stays_or_falls() -> None:
    constant = Optimisation(learning_rate=1.0, warmup=2)
    assert [constant.rate(number, 4) for number in range(1, 5)] == [0.5, 1.0, 1.0, 1.0]
    cosine = replace(constant, decay="cosine")
    falling = [cosine.rate(number, 6) for number in range(2, 7)]
    assert falling[0] == 1.0
    assert falling[-1] == pytest.approx(0.1)
    assert falling == sorted(falling, reverse=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rate": 0.0},
        {"learning_rate": math.nan},
        {"epsilon": -1.0},
        {"weight_decay": -0.1},
        {"max_gradient": math.inf},
        {"betas": (0.9, 1.0)},
        {"warmup": -1},
        {"decay": "square"},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        Optimisation(**wrong)


def test_no_weight_to_train_is_refused() -> None:
    with pytest.raises(RequestError, match="No weight"):
        Trainer(model().model, [], 0, SETTINGS)
