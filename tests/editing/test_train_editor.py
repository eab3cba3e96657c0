from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from editing import edit, malmen, mend
from editing.learned.command import RULES, main
from editing.learned.data import read_training_data, split
from editing.learned.files import WEIGHTS
from editing.learned.state import load_state, save_state, unfinished
from editing.learned.training import Training, train
from editing.mend import MendConfig
from language_models import RequestError, UnsupportedArchitecture, load, save
from language_models.checkpoint import state_digest
from language_models.files import sha256_of
from language_models.methods import published
from language_models.settings import assigned
from tests.editing.learned_cases import REQUEST, SMALL, facts, tiny_training, write_facts
from tests.language_models.factories import tiny_model

if TYPE_CHECKING:
    from pathlib import Path

    from editing.learned.change import Rule
    from editing.learned.data import Example


def _arguments(folder: Path, method: str, *more: str, **settings: Any) -> list[str]:
    """The command line for a tiny model in `folder`, which is made at the first call."""
    if not (folder / "model").exists():
        save(tiny_model(), folder / "model")
        write_facts(folder)
    changes = {**SMALL, **settings, "layers": "1,2"}
    sets = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
    given = {"model": folder / "model", "data": folder / "facts.json", "out": folder / "editor"}
    places = [part for key, value in given.items() for part in (f"--{key}", str(value))]
    return ["--method", method, *places, "--device", "cpu", *sets, *more]


@pytest.mark.parametrize("method", ["mend", "malmen"])
def test_command_trains_an_editor_that_edits_and_reverts(
    method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A first step so small that the untrained editor changes nothing.
    settings = {"steps": 20, "check_every": 5, "step_rate": 0.5, "seed": 3}

    assert (
        main(_arguments(tmp_path, method, step=-1e-4 if method == "mend" else 1e-3, **settings))
        == 0
    )

    told = json.loads((tmp_path / "editor" / "editor.json").read_text(encoding="utf-8"))
    assert min(row["loss"] for row in told["curve"]) < 0.95 * told["curve"][0]["loss"]
    assert told["weights"] == sha256_of(tmp_path / "editor" / WEIGHTS)
    assert "at most" in capsys.readouterr().err
    assert not unfinished(tmp_path / "editor").exists()
    lm = load(tmp_path / "model", device="cpu")
    before = state_digest(lm.model)
    config = {"mend": mend.MendConfig, "malmen": malmen.MalmenConfig}[method]
    result = edit(lm, [REQUEST], method, config(editor=str(tmp_path / "editor"), unreached="mark"))
    assert state_digest(lm.model) != before
    assert result.delta.revert(lm) == before


@pytest.mark.parametrize("rule", [mend.RULE, malmen.RULE], ids=["mend", "malmen"])
def test_training_that_was_killed_goes_on_to_the_same_bits(rule: Rule, tmp_path: Path) -> None:
    lm, path = tiny_model(), tmp_path / "state"
    whole = train(tiny_training(lm, rule, tmp_path, accumulate=2))
    killed = tiny_training(lm, rule, tmp_path, accumulate=2)
    killed.begin()
    for _ in range(3):
        killed.step()
    killed.check()
    save_state(killed, path)
    killed.step()  # lost with the process

    again = tiny_training(lm, rule, tmp_path, accumulate=2)
    load_state(again, path)
    resumed = train(again)

    assert state_digest(resumed.editor) == state_digest(whole.editor)
    assert resumed.description == whole.description


def test_command_that_was_killed_is_gone_on_with_by_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(_arguments(tmp_path, "mend")) == 0
    expected = sha256_of(tmp_path / "editor" / WEIGHTS)
    (tmp_path / "editor").rename(tmp_path / "whole")
    step = Training.step

    def killed(training: Training) -> Any:
        if training.done == 4:
            raise KeyboardInterrupt
        return step(training)

    arguments = _arguments(tmp_path, "mend")
    monkeypatch.setattr(Training, "step", killed)
    with pytest.raises(KeyboardInterrupt):
        main(arguments)
    monkeypatch.undo()
    assert not (tmp_path / "editor").exists()

    assert main(_arguments(tmp_path, "mend", "--resume")) == 0

    assert sha256_of(tmp_path / "editor" / WEIGHTS) == expected


def test_training_leaves_the_model_as_it_was_found(tmp_path: Path) -> None:
    lm = tiny_model()
    lm.model.train()
    before = state_digest(lm.model)

    train(tiny_training(lm, mend.RULE, tmp_path, steps=2))

    assert state_digest(lm.model) == before
    assert all(module.training for module in lm.model.modules())
    assert all(w.requires_grad and w.grad is None for w in lm.model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in lm.model.modules())


def test_training_stops_when_the_held_out_loss_no_longer_falls(tmp_path: Path) -> None:
    # A step that grows wildly only makes the loss rise.
    settings = {"steps": 50, "check_every": 1, "patience": 2, "step": -5.0, "rate": 1e-12}
    training = tiny_training(tiny_model(), mend.RULE, tmp_path, step_rate=1e-12, **settings)

    trained = train(training)

    assert training.done < 50
    losses = [row["loss"] for row in trained.description["curve"]]
    assert len(losses) - 1 - losses.index(min(losses)) == 2


def test_gradient_of_a_step_is_clipped(tmp_path: Path) -> None:
    training = tiny_training(tiny_model(), mend.RULE, tmp_path, clip=1e-3)
    training.begin()
    training.step()

    norms = [w.grad.norm() for w in training.editor.parameters() if w.grad is not None]
    assert sum(float(norm) ** 2 for norm in norms) ** 0.5 <= 1.001e-3


def test_command_refuses_with_the_reason_and_makes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = _arguments(tmp_path, "mend")

    assert main([*arguments, "--resume"]) == 1
    assert "no unfinished training" in capsys.readouterr().err
    unfinished(tmp_path / "editor").write_bytes(b"half")
    assert main(arguments) == 1
    assert "--resume, or remove it" in capsys.readouterr().err
    assert main([*arguments, "--resume"]) == 1
    assert "damaged" in capsys.readouterr().err
    (tmp_path / "editor").mkdir()
    assert main(arguments) == 1
    assert "exists already" in capsys.readouterr().err
    assert list((tmp_path / "editor").iterdir()) == []


@pytest.mark.parametrize(
    ("what", "changes"),
    [("settings", {"rate": 0.5}), ("model", {"model": 1}), ("method", {"rule": malmen.RULE})],
)
def test_unfinished_training_of_something_else_is_refused(
    what: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    training = tiny_training(tiny_model(), mend.RULE, tmp_path)
    training.begin()
    save_state(training, tmp_path / "state")
    lm = tiny_model(seed=changes.pop("model", 0))
    other = tiny_training(lm, changes.pop("rule", mend.RULE), tmp_path, **changes)

    with pytest.raises(RequestError, match=f"another {what}"):
        load_state(other, tmp_path / "state")


@pytest.mark.parametrize(
    "text",
    ["rank", "magic=1", "rank=x", "rate=nan", "rank=0", "layers=a", "matrices=some", "held_out=1"],
)
def test_setting_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(RequestError):
        assigned(mend.MendTraining, [text])


def test_settings_are_read_as_the_type_of_their_default() -> None:
    config = assigned(malmen.MalmenTraining, ["layers=2,3", "rank=16", "step=2e-4"])

    assert (config.layers, config.rank, config.step) == ((2, 3), 16, 2e-4)


@pytest.mark.parametrize("rule", RULES.values(), ids=list(RULES))
def test_published_settings_are_accepted(rule: Rule) -> None:
    assert published(rule.settings).rank == 1920


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        [1],
        [{**facts()[0], "more": 1}],
        [{key: value for key, value in facts()[0].items() if key != "target"}],
        [{**facts()[0], "target": 3}],
        [{**facts()[0], "target": " Kyoto"}],
        [{**facts()[0], "subject": " "}],
        [{**facts()[0], "prompt": "was born in"}],
        [{**facts()[0], "paraphrases": ["{} and {}"]}],
        [{**facts()[0], "paraphrases": [""]}],
        [{**facts()[0], "unrelated": []}],
        [{**facts()[0], "unrelated": [1]}],
        [{key: value for key, value in facts()[0].items() if key != "subject"}],
    ],
)
def test_data_that_is_not_as_described_is_refused(content: Any, tmp_path: Path) -> None:
    with pytest.raises(RequestError) as caught:
        read_training_data(write_facts(tmp_path, content))

    assert "Malee" not in str(caught.value)


def test_data_that_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "facts.json").write_bytes(b"\xff")

    with pytest.raises(RequestError, match="not valid JSON"):
        read_training_data(tmp_path / "facts.json")
    with pytest.raises(RequestError, match="does not exist"):
        read_training_data(tmp_path / "none.json")


def test_data_with_and_without_a_subject_gives_the_same_prompts(tmp_path: Path) -> None:
    item = facts()[0]
    whole = {
        **item,
        "prompt": item["prompt"].replace("{}", item["subject"]),
        "paraphrases": [text.replace("{}", item["subject"]) for text in item["paraphrases"]],
    }
    del whole["subject"]

    first, second = read_training_data(write_facts(tmp_path, [item, whole])).examples

    assert first.wordings == second.wordings


def test_split_keeps_a_subject_on_one_side(tmp_path: Path) -> None:
    examples = read_training_data(write_facts(tmp_path)).examples

    seen, held = split(examples, 0.3, seed=0)

    assert len(seen) + len(held) == len(examples)
    assert held
    assert not {one.group for one in seen} & {one.group for one in held}
    with pytest.raises(RequestError, match="two subjects"):
        split(examples[:2], 0.3, seed=0)


def test_training_of_a_mixture_of_experts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedArchitecture, match="mixture"):
        tiny_training(tiny_model("mixtral"), mend.RULE, tmp_path)


def test_editor_without_a_training_row_tells_of_no_steps(tmp_path: Path) -> None:
    assert main(_arguments(tmp_path, "mend", steps=0)) == 0
    lm = load(tmp_path / "model", device="cpu")

    result = edit(
        lm, [REQUEST], "mend", MendConfig(editor=str(tmp_path / "editor"), unreached="mark")
    )

    assert result.details["editor"]["steps"] == 0


def test_batch_never_asks_for_two_targets_at_one_prompt(tmp_path: Path) -> None:
    training = tiny_training(tiny_model(), mend.RULE, tmp_path, edits=8)

    drawn = training.draw(training.seen, 8, torch.Generator().manual_seed(0))

    prompts = [wording for fact in drawn for wording in fact.wordings]
    assert len(drawn) == len({fact.group for fact in training.seen})
    assert len(prompts) == len(set(prompts))


def test_prompt_that_the_same_batch_rewrites_is_not_among_those_that_stay(tmp_path: Path) -> None:
    training = tiny_training(tiny_model(), mend.RULE, tmp_path, edits=8, step=-1.0)
    facts_drawn = training.draw(training.seen, 8, torch.Generator().manual_seed(0))
    wordings = [one for fact in facts_drawn for one in fact.wordings]
    training.answers |= dict.fromkeys(wordings, training.answers["The employer of Anna is"])
    crossed = [replace(fact, unrelated=tuple(wordings)) for fact in facts_drawn]

    def kept(batch: list[Example]) -> float:
        found = training._factors(batch)
        generator = torch.Generator().manual_seed(0)
        return training._losses(batch, found, generator, learning=False)[0].keep

    assert kept(crossed) == 0
    assert kept(facts_drawn) > 0
