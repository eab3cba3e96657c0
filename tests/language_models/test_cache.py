"""Keys and values in buffers made once: a forward through them is the library's own."""

from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache

from language_models.cache import cache_with_room
from language_models.families import FAMILIES
from tests.language_models.factories import tiny_model

IDS = torch.tensor([[5, 9, 23, 41, 7, 30], [6, 9, 23, 40, 8, 31], [5, 9, 24, 41, 9, 32]])


def steps(lm, cache) -> list[torch.Tensor]:
    """Logits after each call: a beginning, two tokens one by one, and the last without row 1."""
    found = []
    with torch.no_grad():
        for ids in (IDS[:, :3], IDS[:, 3:4], IDS[:, 4:5]):
            found.append(lm.model(ids, past_key_values=cache, use_cache=True).logits)
        cache.batch_select_indices(torch.tensor([0, 2]))
        last = IDS[[0, 2], 5:6]
        found.append(lm.model(last, past_key_values=cache, use_cache=True).logits)
    return found


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_cache_with_room_gives_the_logits_of_the_librarys_cache(family: str) -> None:
    lm = tiny_model(family, sliding_window=4, num_hidden_layers=2)

    own = steps(lm, cache_with_room(lm.model.config, 6))

    plain = steps(lm, DynamicCache(config=lm.model.config))
    assert all(torch.equal(one, other) for one, other in zip(own, plain, strict=True))


def test_what_is_kept_never_moves_while_tokens_come() -> None:
    lm = tiny_model()
    cache = cache_with_room(lm.model.config, 6)

    with torch.no_grad():
        lm.model(IDS[:, :3], past_key_values=cache, use_cache=True)
        first = cache.layers[0].keys
        kept = first.clone()
        lm.model(IDS[:, 3:], past_key_values=cache, use_cache=True)

    assert cache.get_seq_length() == 6
    assert cache.layers[0].keys.data_ptr() == first.data_ptr()
    assert torch.equal(cache.layers[0].keys[:, :, :3], kept)


def test_more_tokens_than_there_is_room_for_are_refused() -> None:
    lm = tiny_model()

    with torch.no_grad(), pytest.raises(RuntimeError):
        lm.model(IDS, past_key_values=cache_with_room(lm.model.config, 5), use_cache=True)
