from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from editing import EditRequest, edit, mend
from editing.gradient_factors import gradient_factors, target_losses, tried
from editing.learned.change import changes, projections_of
from editing.learned.files import load_editor
from editing.learned.network import Design, Editor, Matrix, Normaliser, ResidualLayer
from editing.mend import MendConfig
from language_models import NotReached, RequestError, UnsupportedArchitecture
from language_models.architecture import parts
from language_models.checkpoint import state_digest, tensor_digest
from tests.editing.learned_cases import (
    OTHER,
    REQUEST,
    double_model,
    random_editor,
    scored,
    some_factors,
    tiny_editor,
)
from tests.language_models.factories import DENSE, MIXTURES, tiny_model

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = (("Malee Tanaka was born in", "Kyoto."), ("Anna works as", "a court clerk."))


@pytest.mark.parametrize("family", DENSE)
def test_factors_of_all_tokens_multiply_to_autograds_weight_gradient(family: str) -> None:
    lm = double_model(family)
    projections = projections_of(lm, (0, 2), "all")
    rows = scored(lm, *TEXTS)

    found = gradient_factors(lm, projections, rows)

    losses, _ = target_losses(lm, rows)
    losses.sum().backward()
    for one in projections:
        stored = one.parameter.grad
        assert stored is not None
        expected = stored.T if one.transposed else stored
        product = found[one.name].gradients.T @ found[one.name].keys
        assert torch.allclose(product, expected, rtol=1e-10, atol=1e-12 * expected.abs().max())


def test_target_losses_are_the_means_over_each_rows_target_tokens() -> None:
    lm = double_model()
    rows = scored(lm, *TEXTS)

    losses, first = target_losses(lm, rows)

    for row, loss, reached in zip(rows, losses, first, strict=True):
        chances = lm.model(torch.tensor([row.ids])).logits[0].log_softmax(dim=-1)
        wanted = list(range(row.start, len(row.ids)))
        picked = [chances[place - 1, row.ids[place]] for place in wanted]
        best = [int(chances[place - 1].argmax()) == row.ids[place] for place in wanted]
        assert torch.allclose(loss, -torch.stack(picked).mean(), atol=1e-12)
        assert bool(reached) == all(best)


def test_factors_of_a_row_do_not_depend_on_the_other_rows() -> None:
    lm = double_model()
    projections = projections_of(lm, (1,), "second")
    rows = scored(lm, *TEXTS)
    name = projections[0].name

    together = gradient_factors(lm, projections, rows)[name]
    apart = [gradient_factors(lm, projections, [row])[name] for row in rows]
    in_passes = gradient_factors(lm, projections, rows * 2, rows_per_pass=3)[name]

    assert torch.allclose(together.keys, torch.cat([one.keys for one in apart]), atol=1e-12)
    alone = torch.cat([one.gradients for one in apart])
    assert torch.allclose(together.gradients, alone, atol=1e-12)
    # The last partial batch is there too.
    assert torch.allclose(in_passes.gradients, torch.cat([alone, alone]), atol=1e-12)


def test_factors_leave_out_tokens_without_a_gradient() -> None:
    lm = double_model()
    last = projections_of(lm, (2,), "second")

    found = gradient_factors(lm, last, scored(lm, TEXTS[0]))[last[0].name]

    # Above the last MLP no token looks at another, so only those that predict a target count.
    (row,) = scored(lm, TEXTS[0])
    assert len(found.keys) == len(row.ids) - row.start
    assert (found.gradients != 0).any(dim=1).all()


@pytest.mark.parametrize("sizes", [(12,), (1, 1, 10), (5, 1, 6), (1,) * 12])
def test_normaliser_equals_the_deviation_over_all_rows_for_any_batches(
    sizes: tuple[int, ...],
) -> None:
    rows = 3 + torch.randn(12, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    normaliser = Normaliser(5)

    for batch in rows.split(list(sizes)):
        normaliser.update(batch)

    assert torch.allclose(normaliser.mean, rows.mean(dim=0), atol=1e-14)
    assert torch.allclose(normaliser.std, rows.std(dim=0), atol=1e-14)
    expected = (rows - rows.mean(dim=0)) / rows.std(dim=0)
    assert torch.allclose(normaliser(rows), expected, atol=1e-13)


def test_normaliser_keeps_the_scale_of_what_never_varied() -> None:
    normaliser = Normaliser(2)
    normaliser.update(torch.tensor([[2.0, 7.0]]))
    normaliser.update(torch.zeros(0, 2))

    assert normaliser.std.tolist() == [1.0, 1.0]
    assert normaliser(torch.tensor([[3.0, 7.0]])).tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("rule_name", ["mend", "malmen"])
def test_network_before_training_is_the_normalised_gradient(rule_name: str) -> None:
    scale_first = rule_name == "mend"
    design = Design((Matrix("w", 3, 4),), 2, 2, scale_first, -1e-3)
    network, index = Editor(design, seed=0).at("w")
    rows = torch.randn(6, 7, generator=torch.Generator().manual_seed(0))
    network.normaliser.update(rows)

    keys, gradients = network(rows[:, :4], rows[:, 4:], index)

    assert torch.equal(torch.cat([keys, gradients], dim=1), network.normaliser(rows))


def test_layer_scales_and_shifts_before_the_rectifier_for_mend_and_after_it_for_malmen() -> None:
    rows = torch.tensor([[1.0, -2.0]])
    found = {}
    for first in (True, False):
        design = Design((Matrix("w", 1, 1),), 2, 1, first, 1.0)
        layer = ResidualLayer(2, design, 2, torch.Generator().manual_seed(0))
        with torch.no_grad():
            layer.V.copy_(torch.eye(2))
            layer.U.copy_(torch.tensor([[1.0, 0.0], [0.0, -1.0]]))
            layer.bias.copy_(torch.tensor([0.0, 1.0]))
            layer.scale[1] = torch.tensor([-2.0, 3.0])
            layer.shift[1] = torch.tensor([1.0, -4.0])
        found[first] = layer(rows, 1).tolist()

    # U V y + b = (1, 3); scaled and shifted (-1, 5).
    assert found == {True: [[1.0, 3.0]], False: [[0.0, 3.0]]}


def test_matrices_of_one_shape_share_a_network_with_a_number_each() -> None:
    lm = double_model()
    editor = random_editor(lm, mend.RULE)
    names = [one.name for one in projections_of(lm, (1, 2), "all")]

    places = [editor.at(name) for name in names]

    assert len({id(network) for network, _ in places}) == 2
    assert sorted(index for network, index in places if network.d_in == 32) == [0, 1, 2, 3]


def test_change_is_the_steps_multiple_of_the_sum_over_tokens() -> None:
    lm = double_model()
    editor = random_editor(lm, mend.RULE)
    for name, factors in some_factors(lm).items():
        network, index = editor.at(name)
        keys, gradients = network(factors.keys, factors.gradients, index)
        tokens = zip(gradients, keys, factors.shares, strict=True)
        total = sum(share * torch.outer(after, before) for after, before, share in tokens)

        left, right = mend.change(network, factors, index)

        step = -0.05 * network.steps[index]
        assert torch.allclose(left @ right, step * total, atol=1e-13)


def test_learning_in_two_stages_equals_autograd_through_the_whole_model() -> None:
    lm = double_model()
    editor, found = random_editor(lm, mend.RULE), some_factors(lm)
    projections = {one.name: one for one in projections_of(lm, (1, 2), "all")}
    rows = scored(lm, *TEXTS)

    def loss(trial: dict[str, torch.Tensor]) -> torch.Tensor:
        with tried({name: (projections[name], change) for name, change in trial.items()}):
            return target_losses(lm, rows)[0].sum()

    def product(name: str) -> torch.Tensor:
        network, index = editor.at(name)
        left, right = mend.change(network, found[name], index)
        return left @ right

    whole = torch.autograd.grad(
        loss({name: product(name) for name in found}), list(editor.parameters())
    )
    trial = {name: product(name).detach().requires_grad_() for name in found}
    loss(trial).backward()
    editor.zero_grad()
    for name, change in trial.items():
        network, index = editor.at(name)
        assert change.grad is not None
        mend.learn(network, found[name], index, change.grad)

    for weight, expected in zip(editor.parameters(), whole, strict=True):
        assert weight.grad is not None
        assert torch.allclose(weight.grad, expected, rtol=1e-9, atol=1e-12)


def test_untrained_editor_that_goes_down_the_gradient_lowers_the_loss() -> None:
    lm = double_model()
    rows = scored(lm, TEXTS[0])
    projections = projections_of(lm, (1, 2), "second")
    found = gradient_factors(lm, projections, rows)
    design = Design(tuple(Matrix(p.name, p.d_out, p.d_in) for p in projections), 4, 1, True, -1e-5)
    editor = Editor(design, seed=0).double()
    pairs = changes(editor, mend.RULE, found)
    trial = {one.name: (one, torch.matmul(*pairs[one.name])) for one in projections}

    with tried(trial):
        after = target_losses(lm, rows)[0]

    assert float(after.detach()) < float(target_losses(lm, rows)[0].detach())


@pytest.mark.parametrize("family", DENSE)
def test_edit_applies_and_reverts_to_the_same_bits(family: str, tmp_path: Path) -> None:
    lm = tiny_model(family)
    folder = tiny_editor(lm, mend.RULE, tmp_path, steps=0, matrices="all")
    before = {name: tensor_digest(tensor) for name, tensor in lm.model.state_dict().items()}
    digest = state_digest(lm.model)

    result = edit(lm, [REQUEST, OTHER], "mend", MendConfig(editor=folder, unreached="mark"))

    after = {name: tensor_digest(tensor) for name, tensor in lm.model.state_dict().items()}
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {one.name for one in projections_of(lm, (1, 2), "all")}
    assert result.details["editor"]["layers"] == [1, 2]
    assert result.delta.revert(lm) == digest


def test_edit_in_bfloat16_takes_its_gradients_in_float32(tmp_path: Path) -> None:
    lm = tiny_model(dtype=torch.bfloat16)
    folder = tiny_editor(lm, mend.RULE, tmp_path, steps=1)
    digest = state_digest(lm.model)

    result = edit(lm, [REQUEST], "mend", MendConfig(editor=folder, unreached="mark"))

    assert all(row["rounding"] > 0 for row in result.details["tensors"].values())
    assert lm.model.dtype == torch.bfloat16
    assert result.delta.revert(lm) == digest


def test_edit_of_conv1d_and_linear_twins_is_the_same_change(tmp_path: Path) -> None:
    lm = double_model("gpt2")
    conv = projections_of(lm, (1,), "second")[0]
    rows = scored(lm, *TEXTS)
    found = gradient_factors(lm, [conv], rows)[conv.name]
    linear = torch.nn.Linear(conv.d_in, conv.d_out, dtype=torch.float64)
    with torch.no_grad():
        linear.weight.copy_(conv.matrix)
        linear.bias.copy_(conv.module.bias)
    parts(lm.model).mlp(1).c_proj = linear
    twin = projections_of(lm, (1,), "second")[0]

    same = gradient_factors(lm, [twin], rows)[twin.name]

    assert conv.transposed
    assert not twin.transposed
    assert torch.allclose(found.keys, same.keys, atol=1e-12)
    assert torch.allclose(found.gradients, same.gradients, atol=1e-12)


def test_edit_leaves_the_model_as_it_was_found(tmp_path: Path) -> None:
    lm = tiny_model()
    folder = tiny_editor(lm, mend.RULE, tmp_path, steps=1)
    lm.model.train()
    next(lm.model.parameters()).requires_grad_(requires_grad=False)

    edit(lm, [REQUEST], "mend", MendConfig(editor=folder, unreached="mark"))

    assert all(module.training for module in lm.model.modules())
    needed = [weight.requires_grad for weight in lm.model.parameters()]
    assert needed == [False] + [True] * (len(needed) - 1)
    assert all(weight.grad is None for weight in lm.model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in lm.model.modules())


def test_edit_that_is_not_reached_leaves_the_weights_as_before(tmp_path: Path) -> None:
    lm = tiny_model()
    folder = tiny_editor(lm, mend.RULE, tmp_path, steps=0, step=-1e-9)
    before = state_digest(lm.model)

    with pytest.raises(NotReached):
        edit(lm, [REQUEST], "mend", MendConfig(editor=folder))

    assert state_digest(lm.model) == before


def test_edit_without_an_editor_says_how_to_train_one() -> None:
    with pytest.raises(RequestError, match="python -m editing train --method mend"):
        edit(tiny_model(), [REQUEST], "mend")


def test_editor_of_another_model_or_method_is_refused(tmp_path: Path) -> None:
    lm = tiny_model()
    folder = tiny_editor(lm, mend.RULE, tmp_path, steps=0)

    with pytest.raises(RequestError, match=r"another model.*python -m editing train"):
        edit(tiny_model(seed=1), [REQUEST], "mend", MendConfig(editor=folder))
    with pytest.raises(RequestError, match=r"trained for mend.*python -m editing train"):
        load_editor(tmp_path / "editor", "malmen", lm)


@pytest.mark.parametrize("name", ["editor.json", "editor.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "cut", "other"])
def test_editor_that_is_damaged_is_refused(name: str, damage: str, tmp_path: Path) -> None:
    lm = tiny_model()
    file = tmp_path / "editor" / name
    folder = tiny_editor(lm, mend.RULE, tmp_path, steps=0)
    content = file.read_bytes()
    file.unlink()
    if damage != "missing":
        file.write_bytes(content[:-20] if damage == "cut" else b"[1]")

    with pytest.raises(RequestError, match="python -m editing train --method mend") as caught:
        edit(lm, [REQUEST], "mend", MendConfig(editor=folder))

    assert "Malee" not in str(caught.value)


@pytest.mark.parametrize("family", MIXTURES)
def test_mixture_of_experts_is_refused_with_the_reason(family: str) -> None:
    with pytest.raises(UnsupportedArchitecture, match="mixture of experts"):
        projections_of(tiny_model(family), (2,), "all")


def test_details_name_neither_person_nor_value_nor_folder(tmp_path: Path) -> None:
    lm = tiny_model()
    folder = tiny_editor(lm, mend.RULE, tmp_path, steps=0)

    result = edit(lm, [REQUEST], "mend", MendConfig(editor=folder, unreached="mark"))

    for word in ("Malee", "Kyoto", "born", str(tmp_path)):
        assert word not in str(result.details)


def test_request_with_another_subject_changes_other_weights(tmp_path: Path) -> None:
    lm = tiny_model()
    folder = tiny_editor(lm, mend.RULE, tmp_path, steps=0)
    config = MendConfig(editor=folder, unreached="mark")
    one = edit(lm, [REQUEST], "mend", config)
    first = state_digest(lm.model)
    one.delta.revert(lm)

    edit(lm, [EditRequest("Anna Sato", "{} was born in", "Kyoto.")], "mend", config)

    assert state_digest(lm.model) != first
