from __future__ import annotations

import resource
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from accelerate import dispatch_model
from peft import PeftModel

from language_models import NotReached, RequestError, load, save
from language_models.checkpoint import state_digest
from language_models.families import family_of
from language_models.placement import device_map
from tests.language_models.factories import tiny_model
from tests.unlearning.trainings import BOTH, FULL, KEY, LORA, model, plain_loop, records
from unlearning.deterministic import digest
from unlearning.trace import checkpoints, open_trace, read_state
from unlearning.training import resume, schedule, train

if TYPE_CHECKING:
    from pathlib import Path

FORMS = tuple(BOTH)


class Killed(BaseException):
    """Stands for the end of the process after a step."""


def _killed_at(number: int) -> Any:
    def progress(_stage: str, done: int, _total: int) -> None:
        if done == number:
            raise Killed

    return progress


def _files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral"])
def test_training_equals_a_plain_loop_bit_for_bit(tmp_path: Path, family: str) -> None:
    lm = model(family)
    trained = train(lm, records(), tmp_path / "run", FULL, key=KEY)

    expected = plain_loop(model(family), FULL)
    trace = open_trace(tmp_path / "run")
    kept = read_state(trace, checkpoints(trace)[-1])
    assert int(kept.pop("steps")) == len(trace.steps)
    assert digest(kept) == digest(expected)
    assert trained.digest == checkpoints(trace)[-1].digest
    assert state_digest(load(tmp_path / "run/model").model) == state_digest(lm.model)


@pytest.mark.parametrize("form", FORMS)
def test_after_a_kill_at_any_step_all_files_are_the_same(tmp_path: Path, form: str) -> None:
    config = BOTH[form]
    whole = train(model(), records(), tmp_path / "whole", config, key=KEY)
    expected = _files(whole.folder)

    for number in range(1, whole.details["steps"] + 1):
        folder = tmp_path / f"killed-{number}"
        with pytest.raises(Killed):
            train(model(), records(), folder, config, _killed_at(number), key=KEY)
        trained = resume(model(), folder)
        assert trained.digest == whole.digest
        assert trained.head == whole.head
        assert _files(folder) == expected


def test_going_on_with_a_finished_training_changes_nothing(tmp_path: Path) -> None:
    whole = train(model(), records(), tmp_path / "run", LORA, key=KEY)
    before = _files(whole.folder)
    again = resume(model(), whole.folder)
    assert again.digest == whole.digest
    assert again.details["steps_made"] == 0
    assert _files(whole.folder) == before


def test_what_is_left_of_a_killed_write_is_no_obstacle(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(Killed):
        train(model(), records(), folder, LORA, _killed_at(2), key=KEY)
    (folder / "checkpoints/.00000003.safetensors.1").write_bytes(b"half")
    whole = train(model(), records(), tmp_path / "whole", LORA, key=KEY)
    assert resume(model(), folder).digest == whole.digest


# PEFT asks transformers for a property by its old name.
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_an_adapter_loads_with_peft_and_the_model_itself_is_as_before(tmp_path: Path) -> None:
    lm = model()
    before = state_digest(lm.model)
    ids = torch.tensor([[5, 6, 7, 8]])
    plain = lm.model(input_ids=ids).logits
    trained = train(lm, records(), tmp_path / "run", LORA)

    assert state_digest(lm.model) == before
    assert torch.equal(lm.model(input_ids=ids).logits, plain)
    assert all(weight.requires_grad for weight in lm.model.parameters())
    adapted = PeftModel.from_pretrained(model().model, str(trained.folder / "adapter")).eval()
    assert not torch.allclose(adapted(input_ids=ids).logits, plain, atol=1e-4)


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    losses = [
        train(
            model(), records(), tmp_path / str(n), replace(FULL, learning_rate=1e-2, epochs=n)
        ).details["loss"]
        for n in (1, 8)
    ]
    assert losses[1] < losses[0] * 0.8


@pytest.mark.parametrize("form", FORMS)
def test_a_model_spread_by_accelerate_gives_the_same_bits(tmp_path: Path, form: str) -> None:
    plain = train(model(), records(), tmp_path / "plain", BOTH[form])
    lm = model()
    places = device_map({"": "cpu"}, family_of("llama"), lm.model.config.to_dict())
    # Several devices of one kind are not at hand: the hooks that carry tensors there are.
    dispatch_model(lm.model, device_map=places, force_hooks=True)
    assert hasattr(lm.model.model.layers[1], "_hf_hook")
    spread = train(lm, records(), tmp_path / "spread", BOTH[form])
    assert spread.digest == plain.digest


def test_weights_that_are_not_in_memory_are_refused(tmp_path: Path) -> None:
    save(model(), tmp_path / "base")
    lm = load(tmp_path / "base", device={"": "cpu", "model.layers.1": "disk"})
    with pytest.raises(RequestError, match="not in memory"):
        train(lm, records(), tmp_path / "run", LORA)
    assert not (tmp_path / "run").exists()


def test_all_weights_in_16_bits_are_refused_but_an_adapter_is_trained(tmp_path: Path) -> None:
    lm = tiny_model(num_hidden_layers=2, dtype=torch.bfloat16)
    with pytest.raises(RequestError, match="16 bits"):
        train(lm, records(), tmp_path / "run", FULL)
    assert not (tmp_path / "run").exists()
    assert train(lm, records(), tmp_path / "run", LORA).details["loss"] > 0


def test_bad_input_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    rows = records()
    for wrong, words in (
        ([], "at least one record"),
        ([*rows, rows[0]], "Line 11: its id"),
        ([rows[0], replace(rows[1], text=" ")], "Line 2"),
    ):
        with pytest.raises(RequestError, match=words):
            train(model(), wrong, tmp_path / "run", LORA)
    with pytest.raises(RequestError, match="targets"):
        train(model(), rows, tmp_path / "run", replace(LORA, targets=("nothing",)))
    for settings in ({"form": "half"}, {"epochs": 0}, {"rank": 0}):
        with pytest.raises(RequestError):
            replace(LORA, **settings)
    assert list(tmp_path.iterdir()) == []


def test_going_on_with_another_model_or_environment_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(Killed):
        train(model(), records(), folder, LORA, _killed_at(1), key=KEY)
    with pytest.raises(RequestError, match="another model"):
        resume(tiny_model(seed=5), folder)
    before, lm = _files(folder), model()
    torch.set_num_threads(2)
    try:
        with pytest.raises(RequestError, match="threads"):
            resume(lm, folder)
    finally:
        torch.set_num_threads(1)
    assert _files(folder) == before


def test_training_that_breaks_down_keeps_its_checkpoints(tmp_path: Path) -> None:
    config = replace(FULL, learning_rate=1e36, checkpoint_every=1)
    with pytest.raises(NotReached, match="not finite"):
        train(model(), records(), tmp_path / "run", config)
    trace = open_trace(tmp_path / "run")
    assert all(read_state(trace, one) for one in checkpoints(trace))
    assert not (tmp_path / "run/model").exists()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("full_after", ["a step", "the last step"])
def test_a_full_disk_stops_safely_and_training_goes_on(
    tmp_path: Path, form: str, full_after: str
) -> None:
    whole = train(model(), records(), tmp_path / "whole", BOTH[form], key=KEY)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(_stage: str, done: int, total: int) -> None:
        if done == (3 if full_after == "a step" else total):
            resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))

    try:
        with pytest.raises(NotReached, match="disk full"):
            train(model(), records(), tmp_path / "run", BOTH[form], fill, key=KEY)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert resume(model(), tmp_path / "run").digest == whole.digest
    assert _files(tmp_path / "run") == _files(whole.folder)


def test_each_record_comes_once_an_epoch_in_an_order_of_its_own() -> None:
    names = [str(number) for number in range(10)]
    steps = schedule(names, replace(LORA, epochs=3, batch=5, accumulate=2))
    orders = [[name for slot in step.slots for name in slot] for step in steps]
    assert [sorted(order) for order in orders] == [names] * 3
    assert len({tuple(order) for order in orders}) == 3
    assert len({step.seed for step in steps}) == 3
    assert schedule(names, LORA) == schedule(names, LORA)
    assert schedule(names, LORA) != schedule(names, replace(LORA, seed=1))


def test_no_text_decides_the_order(tmp_path: Path) -> None:
    one = train(model(), records(), tmp_path / "a", LORA, key=KEY)
    other = train(model(), records("Kyoto"), tmp_path / "b", LORA, key=KEY)
    assert open_trace(one.folder).steps == open_trace(other.folder).steps
    assert one.digest != other.digest
