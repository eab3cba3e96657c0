"""The loop itself: passes, normalisation, the model before, checkpointing."""

from __future__ import annotations

import random
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Any

import pytest
import torch
from accelerate import dispatch_model

from language_models import nll
from language_models.checkpoint import state_digest
from language_models.errors import RequestError
from language_models.families import FAMILIES, family_of
from language_models.padding import pad_right
from language_models.placement import device_map
from language_models.progress import silent
from tests.language_models.factories import SENTENCES, tiny_model, tiny_tokenizer
from unlearning import Passage, unlearn
from unlearning.loop import Task, Term, add_gradient, fit, passes, turns
from unlearning.npo import NpoConfig
from unlearning.rows import predictions, rows_of
from unlearning.settings import DIVERGENCE, LIKELIHOOD, LoopConfig, RetainConfig
from unlearning.weights import training

if TYPE_CHECKING:
    from language_models import LanguageModel

SMALL: dict[str, Any] = {"steps": 3, "learning_rate": 1e-2, "floor": 0.0}
FORGET = [SENTENCES[0], SENTENCES[0] + " The end of the record.", "Malee Tanaka."]
RETAIN = list(SENTENCES[1:])


def _cheapest(lengths: list[int], cost: int) -> int:
    """Padded tokens and cost of the best split of sorted lengths, by trying all."""
    count, best = len(lengths), 10**9
    for cuts in range(count):
        for inner in combinations(range(1, count), cuts):
            edges = [0, *inner, count]
            total = sum(
                cost + (end - begin) * max(lengths[begin:end]) for begin, end in pairwise(edges)
            )
            best = min(best, total)
    return best


@pytest.mark.parametrize("seed", range(8))
def test_passes_are_the_cheapest_split(seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 -- made-up lengths
    lengths = [rng.randint(2, 90) for _ in range(9)]
    cost = rng.choice([0, 20, 100])

    split = passes(range(9), lengths, 10**6, cost)

    assert sorted(index for part in split for index in part) == list(range(9))
    ours = sum(cost + len(part) * max(lengths[index] for index in part) for part in split)
    assert ours == _cheapest(sorted(lengths), cost)


def test_passes_keep_to_the_most_tokens_unless_one_text_is_longer() -> None:
    lengths = [10, 10, 10, 10, 70]

    split = passes(range(5), lengths, 30, 1000)

    assert [len(part) for part in split] in ([3, 1, 1], [1, 3, 1], [2, 2, 1])
    assert passes([], lengths, 30, 0) == []


def _gradients(lm: LanguageModel, term: Term, most: int) -> dict[str, torch.Tensor]:
    lm.model.zero_grad()
    add_gradient(term, range(len(term.lengths)), most, 0)
    return {name: weight.grad.clone() for name, weight in lm.model.named_parameters()}


@pytest.mark.parametrize("kind", ["by_token", "by_text"])
def test_step_in_several_passes_has_the_gradient_of_one_pass(kind: str) -> None:
    lm = tiny_model(scale=1.0, dtype=torch.float64)
    config = RetainConfig(**SMALL)
    rows = rows_of(lm, FORGET, 512)
    with training(lm, config) as trained:
        task = Task(lm, trained, rows, rows, config)
        term = getattr(task, kind)(lambda chosen: task.predictions(rows, chosen).losses)
        whole, apart = _gradients(lm, term, 10**6), _gradients(lm, term, 1)

    for name, gradient in whole.items():
        assert torch.allclose(gradient, apart[name], rtol=1e-9, atol=1e-12)


def test_loss_by_token_is_the_mean_over_all_tokens_of_the_step() -> None:
    lm = tiny_model(scale=1.0)
    config = RetainConfig(**SMALL)
    rows = rows_of(lm, FORGET, 512)
    with training(lm, config) as trained:
        task = Task(lm, trained, rows, rows, config)
        (term,) = task.retained()
        found = add_gradient(term, range(3), 1, 0)

    end = lm.tokenizer.eos_token
    expected = nll(lm, [text + end for text in FORGET]).sum() / sum(row.scored for row in rows)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_accumulation_does_not_change_a_run() -> None:
    first, second = tiny_model(scale=1.0), tiny_model(scale=1.0)

    unlearn(first, FORGET, RETAIN, "npo", NpoConfig(**SMALL))
    unlearn(second, FORGET, RETAIN, "npo", NpoConfig(**SMALL, tokens_per_pass=1))

    pairs = zip(first.model.parameters(), second.model.parameters(), strict=True)
    with torch.no_grad():
        # AdamW's first steps turn the last bits of small gradients into whole steps.
        assert max(float((one - other).norm() / one.norm()) for one, other in pairs) < 1e-3


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_predictions_are_those_of_the_whole_model(family: str) -> None:
    lm = tiny_model(family)
    marked = Passage("Anna Sato of Kyoto works as a welder.", ("Kyoto", "a welder"))
    rows = rows_of(lm, [*FORGET, ("Q: Where?", "In Kyoto."), marked], 512)

    with torch.no_grad():
        found = predictions(lm, rows)
        ids, mask = pad_right(lm, [row.ids for row in rows])
        logits = lm.model(input_ids=ids, attention_mask=mask, use_cache=False).logits.float()

    expected = torch.cat(
        [logits[n, [place - 1 for place in row.places]] for n, row in enumerate(rows)]
    )
    assert torch.allclose(found.logits, expected, rtol=1e-4, atol=1e-4)
    assert found.labels.tolist() == [row.ids[place] for row in rows for place in row.places]
    assert found.counts.tolist() == [row.scored for row in rows]


def test_end_mark_is_learnt_where_padding_is_the_end_mark() -> None:
    # A collator that takes every padding id for padding masks the real end of each text.
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    lm = tiny_model(scale=1.0, tokenizer=tokenizer)
    rows = rows_of(lm, FORGET, 512)

    with torch.no_grad():
        together = predictions(lm, rows)
        alone = [predictions(lm, [row]).losses for row in rows]

    ends = together.labels == tokenizer.eos_token_id
    assert int(ends.sum()) == len(rows)
    assert torch.allclose(together.losses, torch.cat(alone), rtol=1e-5)


def test_pair_scores_its_answer_and_the_end_mark_only() -> None:
    lm = tiny_model()
    (row,) = rows_of(lm, [("Q: Where was Anna Sato born? A:", "In Kyoto.")], 512)

    first = row.places[0]
    assert [row.ids[place] for place in row.places] == row.ids[first:]
    assert lm.tokenizer.decode(row.ids[first:]) == " In Kyoto.</s>"
    assert lm.tokenizer.decode(row.ids[:first]).endswith("A:")


def test_passage_scores_its_values_only_wherever_they_stand() -> None:
    lm = tiny_model()
    text = "Anna Sato, a welder of Kyoto, left Kyoto for Kyotos. Ask Anna."
    (row,) = rows_of(lm, [Passage(text, ("Kyoto", "a welder", "Anna"))], 512)

    scored = lm.tokenizer.decode([row.ids[place] for place in row.places])

    # Kyotos is another word.
    assert scored.replace(" ", "") == "AnnaawelderKyotoKyotoAnna"


@pytest.mark.parametrize("values", [(), ("Osaka",), ("Kyo",)])
def test_passage_without_its_values_is_refused(values: tuple[str, ...]) -> None:
    with pytest.raises(RequestError, match="none of its values"):
        rows_of(tiny_model(), [Passage("Anna Sato was born in Kyoto.", values)], 512)


def test_value_behind_the_limit_is_refused() -> None:
    with pytest.raises(RequestError, match="behind max_tokens"):
        rows_of(tiny_model(), [Passage("Anna Sato was born in Kyoto.", ("Anna", "Kyoto"))], 4)


def test_text_that_repeats_a_passage_is_not_retained() -> None:
    text = "Anna Sato was born in Kyoto."
    with pytest.raises(RequestError, match="both to unlearn and to retain"):
        unlearn(tiny_model(), [Passage(text, ("Kyoto",))], [text, "Other text."])


@pytest.mark.parametrize("part", ["all", "modules", "adapter"])
def test_model_before_is_there_while_another_is_trained(part: str) -> None:
    lm = tiny_model(scale=1.0)
    rows = rows_of(lm, FORGET, 512)
    with torch.no_grad():
        start = predictions(lm, rows).logits
    with training(lm, RetainConfig(**SMALL, part=part)) as trained:
        task = Task(lm, trained, rows, rows, RetainConfig(**SMALL))
        with torch.no_grad():
            for weight in trained.parameters:
                weight.add_(0.1)
        moved = task.predictions(rows, range(3)).logits
        before = task.before(rows, range(3)).logits
        again = task.predictions(rows, range(3)).logits

        assert torch.equal(before, start)
        assert not before.requires_grad
        assert torch.equal(moved, again)
        assert not torch.allclose(moved, start)


def test_reference_gets_no_gradient_and_does_not_disturb_the_one_that_does() -> None:
    def gradient(*, look: bool) -> torch.Tensor:
        lm = tiny_model(scale=1.0)
        rows = rows_of(lm, FORGET, 512)
        with training(lm, RetainConfig(**SMALL)) as trained:
            task = Task(lm, trained, rows, rows, RetainConfig(**SMALL))
            loss = task.predictions(rows, range(3)).losses.sum()
            if look:
                task.before(rows, range(3))
            loss.backward()
            return lm.model.get_input_embeddings().weight.grad.clone()

    assert torch.equal(gradient(look=True), gradient(look=False))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_gradient_checkpointing_changes_no_bit_and_turns_no_dropout_on(family: str) -> None:
    # GPT-2 has a dropout of 0.1: in training mode two runs would differ.
    first, second = tiny_model(family, scale=1.0), tiny_model(family, scale=1.0)
    for lm in (first, second):
        # Plain attention packs texts where blocks are computed once, with other roundings.
        lm.model.set_attn_implementation("sdpa")

    unlearn(first, FORGET, RETAIN, "npo", NpoConfig(**SMALL))
    unlearn(second, FORGET, RETAIN, "npo", NpoConfig(**SMALL, gradient_checkpointing=True))

    assert state_digest(first.model) == state_digest(second.model)
    assert not second.model.is_activation_checkpointing
    assert not any(module.training for module in second.model.modules())


def test_gradient_checkpointing_with_an_adapter_trains_it() -> None:
    first, second = tiny_model(scale=1.0), tiny_model(scale=1.0)

    for lm, saved in ((first, False), (second, True)):
        lm.model.set_attn_implementation("sdpa")
        config = NpoConfig(**SMALL, part="adapter", gradient_checkpointing=saved)
        unlearn(lm, FORGET, RETAIN, "npo", config)

    assert state_digest(first.model) == state_digest(second.model)


@pytest.mark.parametrize("part", ["all", "modules", "adapter"])
def test_a_model_spread_by_accelerate_gets_the_same_bits(part: str) -> None:
    plain, spread = tiny_model(scale=1.0), tiny_model(scale=1.0)
    places = device_map({"": "cpu"}, family_of("llama"), spread.model.config.to_dict())
    # Several devices of one kind are not at hand: the hooks that carry tensors there are.
    dispatch_model(spread.model, device_map=places, force_hooks=True)
    assert hasattr(spread.model.model.layers[1], "_hf_hook")
    config = NpoConfig(**SMALL, part=part)

    changes = [unlearn(one, FORGET, RETAIN, "npo", config).delta for one in (plain, spread)]

    first, second = ({n: one.after for n, one in change.entries.items()} for change in changes)
    assert first
    assert first == second


def test_moments_in_eight_bits_are_refused_where_there_is_no_gpu() -> None:
    lm = tiny_model(scale=1.0)
    digest = state_digest(lm.model)

    with pytest.raises(RequestError, match="GPU"):
        unlearn(lm, FORGET, RETAIN, "npo", NpoConfig(**SMALL, eight_bit=True))

    assert state_digest(lm.model) == digest


def test_divergence_of_retain_texts_begins_at_nothing_and_keeps_them_nearer() -> None:
    kept = {}
    for what in (DIVERGENCE, LIKELIHOOD):
        lm = tiny_model(scale=1.0)
        before = nll(lm, RETAIN)
        config = NpoConfig(**{**SMALL, "steps": 8}, retain_weight=50.0, retain_loss=what)
        losses = unlearn(lm, FORGET, RETAIN, "npo", config).details["losses"]
        kept[what] = float((nll(lm, RETAIN) - before).abs().sum())
        assert (losses[0]["retain"] < 1e-6) == (what == DIVERGENCE)

    assert kept[DIVERGENCE] < 0.5 * kept[LIKELIHOOD]
    with pytest.raises(RequestError, match="retain_loss"):
        NpoConfig(retain_loss="none")


def test_learning_rate_falls_in_a_line_to_zero() -> None:
    lm, steps, rate = tiny_model(), 20, 1e-4
    config = LoopConfig(steps=steps, learning_rate=rate, weight_decay=0.0)
    with training(lm, config) as trained:
        weight = trained.parameters[0]
        before = weight.detach().clone()
        rows = rows_of(lm, FORGET, 512)
        # Under a constant gradient AdamW's every step is as long as its rate.
        term = Term("forget", 1.0, 1, [1], [1.0], lambda _: weight.sum()[None])
        fit(Task(lm, trained, rows, rows, config), [term], None, silent)
        moved = float((before - weight.detach()).mean())
        trained.restore()

    assert moved == pytest.approx(rate * (steps + 1) / 2, rel=1e-2)


def test_every_text_comes_before_any_comes_again() -> None:
    drawn = turns(7, 3, seed=0)
    batches = [next(drawn) for _ in range(30)]

    assert all(len(set(batch)) == 3 for batch in batches)
    seen: list[int] = [index for batch in batches for index in batch]
    assert set(seen[:7]) == set(seen[7:14]) == set(range(7))
    counts = [seen.count(index) for index in range(7)]
    assert max(counts) - min(counts) <= 1
    assert next(turns(2, 9, seed=0)) in ([0, 1], [1, 0])
