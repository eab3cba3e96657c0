from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from editing import edit
from editing.finetune import FinetuneConfig
from editing.gradient_factors import Scored, target_losses
from editing.lora import LoraConfig, save_adapter
from editing.training_rows import end_mark, target_rows
from language_models import RequestError
from language_models.architecture import parts
from language_models.checkpoint import state_digest
from language_models.delta import LowRank
from language_models.families import FAMILIES
from language_models.generation import encode
from tests.editing.gradient_cases import OTHER, REQUEST, changed, digests, model, standing
from tests.language_models.factories import MIXTURES

if TYPE_CHECKING:
    from pathlib import Path

MARK = {"unreached": "mark", "min_wordings": 0.0}


def _config(**changes: Any) -> LoraConfig:
    # A random model hardly tells its neighbours apart.
    return LoraConfig(
        **{"learning_rate": 0.02, "epochs": 100, "neighbour_weight": 0.0, "rank": 4, **changes}
    )


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_lora_changes_its_matrices_by_low_rank_in_every_family(family: str) -> None:
    lm = model(family)
    before, digest, found = digests(lm), state_digest(lm.model), standing(lm)

    result = edit(lm, [REQUEST, OTHER], "lora", _config(epochs=40, **MARK))

    names = result.details["adapter"]["matrices"]
    assert set(changed(before, digests(lm))) == set(names)
    assert all(isinstance(one, LowRank) and one.change.rank == 4
               for one in result.delta.entries.values())  # fmt: skip
    assert result.details["losses"][-1] < 0.5 * result.details["losses"][0]
    assert any("o_proj" in name for name in names) == (family in MIXTURES)
    assert standing(lm) == found
    assert result.revert(lm) == digest


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "mixtral"])
def test_the_adapter_trained_is_the_change_written(family: str) -> None:
    # The second epoch begins with the loss that one step has led to, seen through the adapter.
    settings = {"alpha": 12, "learning_rate": 0.1, **MARK}
    kept = edit(model(family), [REQUEST], "lora", _config(epochs=3, **settings))

    result = edit(model(family), [REQUEST], "lora", _config(epochs=2, **settings))

    # Unlike the result's own loss, training counts the end mark too.
    lm = model(family)
    result.delta.write(lm)
    rows = target_rows(lm, [REQUEST], end=end_mark(lm))
    losses, _ = target_losses(lm, [Scored(row.ids, row.start) for row in rows])
    assert float(losses.detach().mean()) == pytest.approx(kept.details["losses"][2], rel=1e-3)


# PEFT asks transformers for a property by its old name.
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral"])
def test_saved_adapter_gives_in_peft_the_outputs_of_the_merged_weights(
    family: str, tmp_path: Path
) -> None:
    lm, base = model(family), model(family)
    result = edit(lm, [REQUEST], "lora", _config())

    save_adapter(result, tmp_path / "adapter")

    ids = torch.tensor([encode(lm, "Malee Tanaka was born in")])
    adapted = PeftModel.from_pretrained(base.model, str(tmp_path / "adapter")).eval()
    with torch.no_grad():
        merged, apart = lm.model(ids).logits, adapted(ids).logits
    assert torch.allclose(merged, apart, atol=1e-4)
    assert not torch.allclose(merged, model(family).model(ids).logits, atol=1e-2)
    assert state_digest(adapted.unload()) == state_digest(model(family).model)


def test_saved_adapter_holds_the_factors_that_were_trained(tmp_path: Path) -> None:
    lm = model()
    result = edit(lm, [REQUEST], "lora", _config(alpha=8))

    save_adapter(result, tmp_path / "adapter")

    stored = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    name = parts(lm.model).mlp_out(2).name.removesuffix(".weight")
    A = stored[f"base_model.model.{name}.lora_A.weight"].double()
    B = stored[f"base_model.model.{name}.lora_B.weight"].double()
    entry = result.delta.entries[f"{name}.weight"]
    assert isinstance(entry, LowRank)
    assert torch.equal(2.0 * B @ A, entry.left @ entry.right)


def test_adapter_is_written_once_and_of_lora_alone(tmp_path: Path) -> None:
    result = edit(model(), [REQUEST], "lora", _config())
    with pytest.raises(RequestError, match="exists already"):
        save_adapter(result, tmp_path)
    marked = FinetuneConfig(epochs=1, unreached="mark")
    other = edit(model(), [REQUEST], "finetune", marked)

    with pytest.raises(RequestError, match="LoRA"):
        save_adapter(other, tmp_path / "adapter")


def test_targets_choose_the_matrices_by_their_names() -> None:
    lm = model()

    result = edit(lm, [REQUEST], "lora", _config(targets=("q_proj", "v_proj"), layers=(1, 2)))

    assert result.details["adapter"]["matrices"] == [
        f"model.layers.{layer}.self_attn.{name}"
        for layer in (1, 2)
        for name in ("q_proj.weight", "v_proj.weight")
    ]


def test_details_name_neither_person_nor_value() -> None:
    details = json.dumps(edit(model(), [OTHER], "lora", _config()).details)

    assert not any(word in details for word in ("Anna", "Sato", "clerk", "works as"))


@pytest.mark.parametrize("changes", [{"rank": 0}, {"alpha": 0}, {"epochs": 0}])
def test_config_that_makes_no_sense_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        LoraConfig(**changes)


def test_targets_that_no_matrix_has_are_refused() -> None:
    with pytest.raises(RequestError, match="targets"):
        edit(model(), [REQUEST], "lora", _config(targets=("w1",)))
