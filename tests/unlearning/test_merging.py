from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING

import pytest
import torch
from peft import PeftModel

from language_models import RequestError
from language_models.adapters import acting, names_of
from language_models.checkpoint import state_digest
from tests.language_models.factories import SENTENCES, tiny_model
from tests.unlearning.sharded_case import adapters, case_model, case_records, trained, without

if TYPE_CHECKING:
    from pathlib import Path

RECORDS = case_records()


def test_merged_weights_are_the_base_and_the_sum_of_the_adapters_in_force(tmp_path: Path) -> None:
    lm = tiny_model(scale=1.0, num_hidden_layers=1)
    made = adapters(tmp_path, lm, shards=3)
    made.train(RECORDS)
    made.forget(["subject-1"])
    before, digest = copy.deepcopy(lm.model.state_dict()), state_digest(lm.model)
    experts = made.experts()

    delta = made.merged()
    delta.apply(lm)

    for one in experts.places:
        first, second = names_of(one)
        total = before[one.name].double()
        for adapter in experts.adapters:
            total = total + experts.scale * (adapter[second].double() @ adapter[first].double())
        assert torch.equal(lm.model.state_dict()[one.name], total.float())
    assert delta.revert(lm) == digest


def test_merging_after_forgetting_equals_merging_without_and_subtraction_does_not(
    tmp_path: Path,
) -> None:
    made = trained(tmp_path / "a", RECORDS, shards=3)
    whole = made.experts()
    made.forget(["subject-1"])
    other = trained(tmp_path / "b", without(RECORDS, "subject-1"), shards=3)
    after, reference = made.merged(), other.merged()
    assert {name: one.after for name, one in after.entries.items()} == {
        name: one.after for name, one in reference.entries.items()
    }

    # Taking the old adapter off merged weights and putting the new one on is not the same.
    base = dict(case_model().model.named_parameters())
    wrong = 0
    for one in whole.places:
        first, second = names_of(one)
        parts = [
            [experts.scale * (adapter[second] @ adapter[first]) for adapter in experts.adapters]
            for experts in (whole, made.experts())
        ]
        weight = base[one.name].detach() + sum(parts[0])
        for old, new in zip(*parts, strict=True):
            weight = weight - old + new
        exact = base[one.name].detach().double()
        for part in made.experts().adapters:
            exact = exact + whole.scale * (part[second].double() @ part[first].double())
        wrong += int((weight != exact.float()).sum())
    assert wrong > 0


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_peft_loads_an_exported_adapter_with_the_same_answers(tmp_path: Path, family: str) -> None:
    made = adapters(tmp_path / "a", case_model(family))
    made.train(RECORDS)
    folders = made.export(tmp_path / "out")
    ids = case_model(family).tokenizer(list(SENTENCES[:1]), return_tensors="pt")["input_ids"]

    for folder, adapter in zip(folders, made.adapters().values(), strict=True):
        with torch.no_grad(), acting(made.experts().places, adapter, made.experts().scale):
            expected = case_model(family).model(input_ids=ids).logits
        base = copy.deepcopy(case_model(family).model)
        with torch.no_grad():
            found = PeftModel.from_pretrained(base, str(folder))(input_ids=ids).logits
        assert torch.allclose(found, expected, atol=1e-5)
    with pytest.raises(RequestError, match="exists"):
        made.export(tmp_path / "out")


def test_an_exported_adapter_names_its_matrices_in_one_order(tmp_path: Path) -> None:
    made = trained(tmp_path / "a", RECORDS)

    for folder in made.export(tmp_path / "out"):
        told = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        assert told["target_modules"] == sorted(told["target_modules"])
        assert len(told["target_modules"]) > 1
