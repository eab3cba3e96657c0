"""Split models, as far as a machine without a GPU can show: on the processor and in files.

Between two uses Accelerate shows a weight in files as an empty (meta) tensor. Maps over several
GPUs take the same way through the code and are not run here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from language_models import CheckpointError, RequestError, generate, load, save
from language_models.architecture import FAMILIES, family_of, parts
from language_models.checkpoint import state_digest
from language_models.delta import WeightDelta
from language_models.placement import computes_on, device_map
from language_models.replay import replay
from tests.language_models.factories import DENSE, tiny_model

if TYPE_CHECKING:
    from pathlib import Path

PROMPTS = ["Malee", "Records show that Malee Tanaka was born in"]
ROWS = [[1, 40, 80, 120, 60, 90], [1, 70, 33]]


def _split(folder: Path, family: str, kept: str, **sizes):
    """The same model whole and with layer 1, or all but layer 1, left in the folder."""
    whole = tiny_model(family, noise=0.1, **sizes)
    save(whole, folder)
    layer = f"{family_of(family).blocks}.1"
    places = {"": "cpu", layer: "disk"} if kept == "away" else {"": "disk", layer: "cpu"}
    return whole, load(folder, device=places)


@pytest.mark.parametrize(
    ("family", "kept", "tied"),
    [(family, "away", True) for family in DENSE]
    + [(family, "here", tied) for family in ("gpt2", "gpt_neox") for tied in (True, False)],
)
def test_split_model_computes_and_saves_what_the_whole_one_does(
    tmp_path: Path, family: str, kept: str, tied: bool
) -> None:
    whole, split = _split(tmp_path / "model", family, kept, tie_word_embeddings=tied)

    assert split.device == torch.device("cpu")
    assert any(weight.is_meta for weight in split.model.parameters())
    assert generate(split, PROMPTS, max_new_tokens=4) == generate(whole, PROMPTS, max_new_tokens=4)
    assert state_digest(split.model) == state_digest(whole.model)
    assert save(split, tmp_path / "again").digest == split.checkpoint.digest


@pytest.mark.parametrize(
    ("family", "kept"), [(family, "away") for family in DENSE] + [("gpt2", "here")]
)
def test_replay_of_a_split_model_equals_that_of_the_whole(
    tmp_path: Path, family: str, kept: str
) -> None:
    whole, split = _split(tmp_path / "model", family, kept)
    first, second = (torch.zeros(2, 32, requires_grad=True) for _ in range(2))
    at = torch.tensor([0, 1]), torch.tensor([2, 0])

    for lm, delta in ((whole, first), (split, second)):
        found = replay(lm, ROWS, [2, 1], 0).select(torch.tensor([1, 0]))
        found.logits(delta, at[0], at[1]).logsumexp(-1).sum().backward()

    torch.testing.assert_close(second.grad, first.grad, rtol=1e-5, atol=1e-7)
    assert float(first.grad.norm()) > 0


def test_split_model_is_changed_where_its_layer_is_present(tmp_path: Path) -> None:
    whole, split = _split(tmp_path / "model", "llama", "here")
    before = state_digest(split.model)
    random = torch.Generator().manual_seed(0)
    left, right = (torch.randn(size, generator=random).double() for size in ((32, 1), (1, 48)))

    for lm in (whole, split):
        projection = parts(lm.model).mlp_out(1)
        factors = {projection.name: projection.stored(left, right)}
        delta = WeightDelta.from_factors(lm, factors)
        delta.write(lm)

    assert generate(split, PROMPTS, max_new_tokens=4) == generate(whole, PROMPTS, max_new_tokens=4)
    assert save(split, tmp_path / "a").digest == save(whole, tmp_path / "b").digest
    delta.revert(split)
    assert state_digest(split.model) == before


def test_layer_that_is_kept_in_files_is_not_edited(tmp_path: Path) -> None:
    _, split = _split(tmp_path / "model", "llama", "away")
    projection = parts(split.model).mlp_out(1)

    assert (projection.d_out, projection.d_in) == (32, 48)
    with pytest.raises(RequestError, match="device map that has this layer on a device"):
        _ = projection.matrix


def test_load_split_of_a_model_that_fits_is_the_same_model(tmp_path: Path) -> None:
    checkpoint = save(tiny_model(), tmp_path / "model")

    split = load(checkpoint.path, device="split")

    assert state_digest(split.model) == state_digest(load(checkpoint.path, device="cpu").model)


def test_load_with_a_map_that_leaves_something_out_is_refused(tmp_path: Path) -> None:
    checkpoint = save(tiny_model(), tmp_path / "model")

    with pytest.raises(CheckpointError, match=r"no place for model\.embed_tokens"):
        load(checkpoint.path, device={"model.layers": "cpu"})


def test_load_of_a_mixture_partly_in_files_is_refused(tmp_path: Path) -> None:
    checkpoint = save(tiny_model("mixtral"), tmp_path / "model")

    with pytest.raises(CheckpointError, match="mixture of experts cannot stay"):
        load(checkpoint.path, device={"": "cpu", "model.layers.1": "disk"})


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_device_map_by_hand_names_each_block_and_what_is_beside_them(
    tmp_path: Path, family: str
) -> None:
    lm = tiny_model(family)
    blocks = family_of(family).blocks
    wanted = {"": 0, f"{blocks}.1": "cuda:1", "lm_head": "cpu"}

    found = device_map(wanted, family_of(family), lm.model.config.to_dict())

    assert isinstance(found, dict)
    assert [found[f"{blocks}.{layer}"] for layer in range(3)] == [0, "cuda:1", 0]
    assert found["lm_head"] == "cpu"
    names = [name for name, _ in (*lm.model.named_parameters(), *lm.model.named_buffers())]
    assert all(any(name.startswith(f"{part}.") for part in found) for name in names)
    assert computes_on(wanted) == "cuda"
    assert computes_on({"": "cpu"}) == computes_on({"": "disk"}) == "cpu"
