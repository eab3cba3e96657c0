"""What a change is solved with: means of keys, what must stay, what earlier edits leave."""

from __future__ import annotations

import torch

from editing import EditRequest
from editing.contexts import Contexts, group_means, neighbour_keys
from editing.located import Located, kept_keys, to_keep
from editing.memit import MemitConfig
from editing.memory import EditedKeys
from language_models.architecture import parts
from language_models.moments import moment_of
from language_models.tracing import Site
from tests.language_models.factories import tiny_model

LAYER = 1


def test_rows_of_a_wording_count_as_often_as_they_occurred() -> None:
    rows = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    a, b, c, alone, last = rows
    counts, groups = (1, 2, 3, 4, 1), (0, 0, 0, 1, 2)
    found = Contexts(((0,),) * 5, (0,) * 5, (0,) * 5, counts, groups, ((0,), 0))

    plain, half = group_means(rows, found), group_means(rows, found, bare_half=True)

    torch.testing.assert_close(plain, torch.stack([(a + 2 * b + 3 * c) / 6, alone, last]))
    torch.testing.assert_close(half, torch.stack([a / 2 + (2 * b + 3 * c) / 10, alone, last]))


def test_memory_sums_what_all_keys_give_and_counts_all_edits() -> None:
    lm = tiny_model()
    d = parts(lm.model).mlp_out(LAYER).d_in
    keys = torch.randn(d, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    memory = EditedKeys()
    for part in keys.split([3, 2], dim=1):
        memory = memory.after(lm, {LAYER: part}, part.shape[1])

    assert memory.count == 5
    torch.testing.assert_close(memory.outer(lm, LAYER), keys @ keys.T, rtol=1e-12, atol=1e-12)


def test_what_is_kept_is_the_weighted_moment_with_its_ridge_and_the_keys_to_keep() -> None:
    lm = tiny_model()
    d = parts(lm.model).mlp_out(1).d_in
    root = torch.randn(d, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    C = root @ root.T
    config = MemitConfig(role="last", layer=1, ridge=0.5, moment_weight=7.0)
    request = EditRequest("Malee Tanaka", "{} was born in", "Kyoto")
    located = Located(config, Site("last", 1), None, [])
    memory = EditedKeys().after(lm, {1: root}, 3)

    A = to_keep(lm, (request,), located, 1, moment_of(C, 1), memory)

    expected = 7.0 * (C + 0.5 * C.diagonal().mean() * torch.eye(d, dtype=torch.float64)) + C
    torch.testing.assert_close(A, expected, rtol=1e-12, atol=1e-12)


def test_what_is_kept_counts_neighbours_by_their_weight_and_earlier_edits_in_full() -> None:
    lm = tiny_model()
    d = parts(lm.model).mlp_out(LAYER).d_in
    generator = torch.Generator().manual_seed(0)
    before, shared = (torch.randn(d, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    memory = EditedKeys().after(lm, {LAYER: before}, 2)
    prompts = ("Somchai Saito works as", "Malee Tanaka works as")
    request = EditRequest("Anna Sato", "{} works as", "born", neighbours=prompts)
    site = Site("last", LAYER)
    config = MemitConfig(
        role="last", layer=LAYER, neighbour_weight=3.0, kept=((LAYER, shared @ shared.T),)
    )

    found = kept_keys(lm, (request,), Located(config, site, None, []), LAYER, memory)

    own = neighbour_keys(lm, prompts, site, LAYER).double().T
    expected = 3.0 * (own @ own.T + shared @ shared.T) + before @ before.T
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
