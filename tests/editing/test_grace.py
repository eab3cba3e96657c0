from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from editing import EditRequest, edit
from editing.codebook import GAP, Codebook, Entry
from editing.grace import GraceConfig
from editing.memory import EditedKeys
from language_models import DeltaError, NotReached, RequestError
from language_models.checkpoint import state_digest
from language_models.families import FAMILIES
from language_models.generation import encode, generate
from language_models.padding import pad_right
from tests.editing.gradient_cases import REQUEST, model, standing

# One vector behind the middle block of three brings out one token.
OTHER = EditRequest("Anna Sato", "{} works as", "born")
PROMPT = "Malee Tanaka was born in"


def _config(**changes: Any) -> GraceConfig:
    # Prompts of a random model lie close to each other: a small radius keeps them apart.
    return GraceConfig(**{"layer": 1, "radius": 0.01, "steps": 300, **changes})


def _logits(lm: Any, *texts: str) -> torch.Tensor:
    ids, mask = pad_right(lm, [encode(lm, text) for text in texts])
    with torch.no_grad():
        found: torch.Tensor = lm.model(ids, attention_mask=mask).logits
    return found


def _books(*rows: tuple[str, str, tuple[float, float]], **changes: Any) -> Codebook:
    """A codebook of keys in the plane; one row per edit: id, answer, key."""
    entries = [
        Entry(**{"edit": name, "answer": answer, "radius": 0.5, "most": 2.0, "share": 0.5,
                 "grows": False, **changes})
        for name, answer, _ in rows
    ]  # fmt: skip
    keys = torch.tensor([key for *_, key in rows])
    nothing = torch.zeros(0, 2)
    return Codebook("", 0, nothing, nothing).with_entries(entries, keys, torch.zeros(len(rows), 2))


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_grace_answers_by_the_codebook_and_leaves_the_weights_in_every_family(
    family: str,
) -> None:
    lm = model(family)
    digest, found = state_digest(lm.model), standing(lm)
    before = generate(lm, [PROMPT, "Anna"], max_new_tokens=3)

    result = edit(lm, [REQUEST], "grace", _config())

    assert state_digest(lm.model) == digest
    assert result.details["requests"][0]["target_first"] == 1.0
    # Batched and padded at the left, with cached tokens.
    said = generate(lm, [PROMPT, "Anna", f"Records show that {PROMPT}"], max_new_tokens=3)
    assert said[0].strip().startswith("was")
    assert said[2].strip().startswith("was")
    assert said[1] == before[1]
    assert result.revert(lm) == digest
    assert standing(lm) == found
    assert generate(lm, [PROMPT, "Anna"], max_new_tokens=3) == before


def test_outside_every_ball_outputs_are_bit_identical() -> None:
    lm = model()
    texts = ("Somchai Saito works as", "Q: Where was Anna Sato born? A: In")
    before, edited = _logits(lm, *texts), _logits(lm, PROMPT)

    edit(lm, [REQUEST], "grace", _config())

    assert torch.equal(_logits(lm, *texts), before)
    after = _logits(lm, PROMPT)
    assert torch.equal(after[:, :-1], edited[:, :-1])
    assert not torch.equal(after[:, -1], edited[:, -1])


def test_deleting_an_edit_restores_it_alone() -> None:
    lm = model()
    before = _logits(lm, PROMPT)
    first = edit(lm, [REQUEST], "grace", _config())
    alone = _logits(lm, PROMPT)
    both = edit(lm, [OTHER], "grace", _config(), memory=first.memory)
    assert both.codebook is not None
    assert first.codebook is not None
    assert not first.codebook.attached
    assert both.codebook.edits == ("edit-1", "edit-2")
    held = _logits(lm, "Anna Sato works as")

    both.codebook.delete("edit-1")

    assert torch.equal(_logits(lm, PROMPT), before)
    assert torch.equal(_logits(lm, "Anna Sato works as"), held)
    with pytest.raises(RequestError, match="no edit of this id"):
        both.codebook.delete("edit-1")
    again = edit(lm, [REQUEST], "grace", _config(), memory=both.codebook)
    assert again.codebook is not None
    assert again.codebook.edits == ("edit-2", "edit-3")
    assert torch.equal(_logits(lm, PROMPT), alone)


def test_a_codebook_goes_through_bytes_and_is_bound_to_its_weights() -> None:
    lm = model()
    result = edit(lm, [REQUEST], "grace", _config())
    assert result.codebook is not None
    held = _logits(lm, PROMPT)
    result.codebook.detach()

    read = Codebook.from_bytes(result.codebook.to_bytes())
    read.attach(lm)

    assert torch.equal(_logits(lm, PROMPT), held)
    with pytest.raises(RequestError, match="Detach it first"):
        read.attach(lm)
    with pytest.raises(DeltaError, match="other weights"):
        Codebook.from_bytes(read.to_bytes()).attach(model(seed=1))
    for damaged in (b"", read.to_bytes()[:-2], EditedKeys().to_bytes()):
        with pytest.raises(DeltaError):
            Codebook.from_bytes(damaged)


def test_an_edit_that_is_not_reached_leaves_the_codebook_before_attached() -> None:
    lm = model()
    first = edit(lm, [REQUEST], "grace", _config())
    held = _logits(lm, PROMPT)

    with pytest.raises(NotReached):
        edit(lm, [OTHER], "grace", _config(steps=1, learning_rate=1e-9), memory=first.memory)

    assert torch.equal(_logits(lm, PROMPT), held)
    assert first.codebook is not None
    assert first.codebook.attached


def test_a_later_answer_to_the_same_prompt_takes_the_place_and_gives_it_back() -> None:
    lm = model()
    first = edit(lm, [REQUEST], "grace", _config())
    held = _logits(lm, PROMPT)
    changed = EditRequest(REQUEST.subject, REQUEST.prompt, "born")

    second = edit(lm, [changed], "grace", _config(), memory=first.memory)

    assert generate(lm, [PROMPT], max_new_tokens=8)[0].strip().startswith("born")
    assert second.codebook is not None
    second.codebook.delete("edit-2")
    assert torch.equal(_logits(lm, PROMPT), held)


def test_balls_of_two_answers_meet_in_the_middle_and_grow_back() -> None:
    book = _books(("a", "x", (1.0, 0.0)), ("b", "y", (1.0, 0.2)))
    apart = float((book.keys[0] - book.keys[1]).norm())

    assert book.radii().tolist() == pytest.approx([apart / 2 - GAP] * 2, abs=1e-6)
    book.delete("b")
    assert book.radii().tolist() == [0.5]


def test_each_ball_reaches_its_own_share_of_the_way() -> None:
    book = _books(("a", "x", (1.0, 0.0)), ("b", "y", (1.0, 0.2)))
    book.entries = tuple(
        replace(entry, share=share) for entry, share in zip(book.entries, (0.25, 0.75), strict=True)
    )
    apart = float((book.keys[0] - book.keys[1]).norm())

    assert book.radii().tolist() == pytest.approx([apart / 4 - GAP, 3 * apart / 4 - GAP], abs=1e-6)


def test_balls_of_one_answer_are_not_in_conflict() -> None:
    book = _books(("a", "x", (1.0, 0.0)), ("b", "x", (1.0, 0.2)))

    assert book.radii().tolist() == [0.5, 0.5]


def test_a_growing_ball_takes_in_a_near_key_of_its_answer_and_no_other() -> None:
    book = _books(("a", "x", (1.0, 0.0)), ("b", "x", (1.0, 1.0)), grows=True)
    apart = float((book.keys[0] - book.keys[1]).norm())

    assert book.radii().tolist() == pytest.approx([apart, -1.0])
    held = _books(("a", "x", (1.0, 0.0)), ("b", "x", (1.0, 1.0)), grows=True, most=0.4)
    assert held.radii().tolist() == pytest.approx([0.4, 0.4])


def test_one_step_moves_a_value_by_the_rate_in_units_of_the_output() -> None:
    lm = model()
    request = EditRequest("Malee Tanaka", "{} was born in", "was")
    ids = torch.tensor([encode(lm, PROMPT)])
    with torch.no_grad():
        start = lm.model(ids, output_hidden_states=True).hidden_states[2][0, -1]

    result = edit(lm, [request], "grace", _config(steps=1, learning_rate=0.5, unreached="mark"))

    assert result.codebook is not None
    (value,) = result.codebook.values
    moved = (value - start).abs() / start.square().mean().sqrt()
    torch.testing.assert_close(moved, torch.full_like(moved, 0.5), rtol=1e-3, atol=1e-3)
    assert result.details["requests"][0]["value_loss"] < 100.0


def test_values_do_not_depend_on_the_rows_beside_them() -> None:
    lm = model()
    requests = [OTHER, REQUEST, EditRequest("Somchai", "Q: Where does {} live? A:", "as")]
    config = _config(steps=60, stop_loss=0.5, unreached="mark")

    together = edit(lm, requests, "grace", config)
    together.revert(lm)

    alone = []
    for request in requests:
        result = edit(lm, [request], "grace", config)
        assert result.codebook is not None
        alone.append(result.codebook.values)
        result.revert(lm)
    assert together.codebook is not None
    torch.testing.assert_close(together.codebook.values, torch.cat(alone), rtol=1e-3, atol=1e-3)


def test_neighbours_bound_the_balls() -> None:
    lm = model()
    near = EditRequest(REQUEST.subject, REQUEST.prompt, "was", neighbours=(f"{PROMPT} the",))

    wide = edit(lm, [near], "grace", _config(radius=1.9, min_wordings=0.0))

    assert wide.details["requests"][0]["smallest_radius"] < 1.5


def test_a_ball_reaches_its_share_of_the_way_to_the_nearest_neighbours_key() -> None:
    lm = model()
    prompts = (f"{PROMPT} the", "Anna Sato works as", "Somchai")
    entering = [
        lm.model(torch.tensor([encode(lm, prompt)]), output_hidden_states=True).hidden_states[1]
        for prompt in prompts
    ]
    ends = torch.nn.functional.normalize(torch.stack([one[0, -1] for one in entering]), dim=1)
    near = replace(REQUEST, neighbours=prompts)

    result = edit(lm, [near], "grace", _config(margin=0.25, min_wordings=0.0))

    assert result.codebook is not None
    apart = torch.cdist(result.codebook.keys, ends.detach())
    assert len(apart) == len(REQUEST.wordings)
    wanted = 0.25 * apart.min(dim=1).values
    assert [entry.most for entry in result.codebook.entries] == pytest.approx(
        wanted.tolist(), abs=1e-5
    )


def test_ids_are_unique_and_foreign_memory_is_refused() -> None:
    lm = model()
    result = edit(lm, [REQUEST, OTHER], "grace", _config())
    assert result.codebook is not None
    book = result.codebook

    assert [row["edit"] for row in result.details["requests"]] == ["edit-1", "edit-2"]
    with pytest.raises(RequestError, match="this id"):
        book.with_entries(book.entries[:1], book.keys[:1], book.values[:1])
    with pytest.raises(RequestError, match="another model or layer"):
        edit(lm, [OTHER], "grace", _config(layer=0), memory=book)
    with pytest.raises(RequestError, match="codebook of a grace edit"):
        edit(lm, [OTHER], "grace", _config(), memory=EditedKeys())


def test_details_name_neither_person_nor_value() -> None:
    details = json.dumps(edit(model(), [OTHER], "grace", _config()).details)

    assert not any(word in details for word in ("Anna", "Sato", "born", "works as"))


@pytest.mark.parametrize(
    "changes", [{"radius": 0.0}, {"margin": 1.0}, {"share": 0.0}, {"steps": 0}, {"stop_loss": -1.0}]
)
def test_config_that_makes_no_sense_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        GraceConfig(**changes)


def test_a_layer_that_is_not_there_is_refused() -> None:
    with pytest.raises(RequestError, match="layers 0 to 2"):
        edit(model(), [REQUEST], "grace", _config(layer=3))
