"""Texts that begin alike, each beginning computed once: the states are those of each text alone."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from language_models import shared_prefixes
from language_models.architecture import parts
from language_models.families import FAMILIES
from language_models.packing import exchangeable
from language_models.shared_prefixes import LONGEST_WAY, RUN, _grouped, states_of, tree
from tests.language_models.factories import tiny_model

TEXTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=12)


def texts(count: int = 12, longest: int = 40) -> list[list[int]]:
    """Texts on a few common beginnings, some equal, some the beginning of others."""
    rng = random.Random(5)  # noqa: S311 -- repeatable
    begins = [[rng.randrange(5, 60) for _ in range(longest)] for _ in range(3)]
    found = [
        rng.choice(begins)[: rng.randint(1, longest)]
        + [rng.randrange(5, 60) for _ in range(rng.randint(0, 6))]
        for _ in range(count)
    ]
    return [*found, found[0], begins[0][:7], begins[0]]


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_each_text_has_the_states_that_it_has_alone(family: str) -> None:
    # Longer than the windows of the tiny models that have one.
    lm, shared = tiny_model(family, sliding_window=16, num_hidden_layers=2), texts(8, 30)

    with torch.no_grad():
        states, paths = states_of(lm, shared)
        for path, text in zip(paths, shared, strict=True):
            alone = parts(lm.model).backbone(torch.tensor([text]), use_cache=False)[0][0]
            assert torch.allclose(states[path], alone, rtol=1e-4, atol=1e-4)
    assert exchangeable(lm) == (family != "gptj")
    if exchangeable(lm):
        assert len(states) < sum(map(len, shared)) * 0.6


def test_more_texts_than_attention_takes_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_prefixes, "LARGEST_GRID", RUN * 100)
    lm, shared = tiny_model(), texts(131, longest=8)

    with torch.no_grad():
        states, paths = states_of(lm, shared)
        for path, text in zip(paths[::9], shared[::9], strict=True):
            alone = parts(lm.model).backbone(torch.tensor([text]), use_cache=False)[0][0]
            assert torch.allclose(states[path], alone, rtol=1e-4, atol=1e-4)


def test_a_long_text_among_short_ones_is_taken_in_longer_runs() -> None:
    lm = tiny_model(max_position_embeddings=1024)
    long = texts(1, longest=1)[0] + [5 + n % 50 for n in range(RUN * LONGEST_WAY * 5)]
    shared = [*texts(20), long, [*long[:300], 7, 9], long[:40]]

    with torch.no_grad():
        states, paths = states_of(lm, shared)
        for path, text in zip(paths[-4:], shared[-4:], strict=True):
            alone = parts(lm.model).backbone(torch.tensor([text]), use_cache=False)[0][0]
            assert torch.allclose(states[path], alone, rtol=1e-4, atol=1e-4)
    widths = {group.asking.shape[1] for group in _grouped(tree(shared))}
    assert {RUN, RUN * 2, RUN * 4, RUN * 8} <= widths


@settings(max_examples=40)
@given(TEXTS)
def test_a_tree_holds_each_beginning_once(given_texts: list[list[int]]) -> None:
    known = tree(given_texts)

    begins = {tuple(text[: n + 1]) for text in given_texts for n in range(len(text))}
    assert len(known.ids) == len(begins)
    for path, text in zip(known.paths, given_texts, strict=True):
        assert [known.ids[node] for node in path] == text
        assert [known.depths[node] for node in path] == list(range(len(text)))


def test_plain_attention_is_back_also_after_an_error() -> None:
    lm = tiny_model()
    with pytest.raises(IndexError):
        states_of(lm, [[5, 6], [10**6]])

    assert lm.model.config._attn_implementation == "eager"
    assert exchangeable(lm)


@settings(max_examples=40)
@given(TEXTS)
def test_each_node_is_answered_by_the_way_to_it_alone(given_texts: list[list[int]]) -> None:
    known = tree(given_texts)
    ways = {node: path[: at + 1] for path in known.paths for at, node in enumerate(path)}

    rows = [
        (asks, sorted(zip(distance.tolist(), path.tolist(), strict=True)))
        for group in _grouped(known)
        for run, path, distances in zip(group.asking, group.path, group.distance, strict=True)
        for asks, distance in zip(run.tolist(), distances, strict=True)
    ]
    assert sorted(asks for asks, _ in rows) == list(range(len(known.ids)))
    for asks, answers in rows:
        seen = [(far, node) for far, node in answers if far >= 0]
        assert seen == list(enumerate(reversed(ways[asks])))
