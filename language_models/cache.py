"""Keys and values of earlier tokens in buffers made once, instead of joined anew at every token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

if TYPE_CHECKING:
    from torch import Tensor


def cache_with_room(config: Any, room: int) -> DynamicCache:
    """Return the cache of a model with room for `room` tokens in its plain layers.

    Layers with a sliding window keep their own way: they never hold much.
    """
    cache = DynamicCache(config=config)
    cache.layers = [
        _Layer(room) if type(layer) is DynamicLayer else layer for layer in cache.layers
    ]
    return cache


class _Layer(DynamicLayer):  # type: ignore[misc]
    """Keys and values (b, heads, t, d) as views of buffers (b, heads, room, d)."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.buffers: list[Tensor] = []

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.buffers = [
                one.new_empty(*one.shape[:2], self.room, one.shape[3])
                for one in (key_states, value_states)
            ]
        start = self.get_seq_length()
        end = start + key_states.shape[2]
        for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:end] = states
        self._show(end)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        used = self.get_seq_length()
        kept = []
        for buffer in self.buffers:
            fresh = buffer.new_empty(len(indices), *buffer.shape[1:])
            fresh[:, :, :used] = buffer[indices, :, :used]
            kept.append(fresh)
        self.buffers = kept
        self._show(used)

    def _show(self, end: int) -> None:
        self.keys, self.values = (buffer[:, :, :end] for buffer in self.buffers)
