"""Run the upper blocks of a model again and again from kept states, on every token of some rows.

Training one layer changes nothing below it. So what enters the lowest block that is touched is
computed once per row, and each step runs only the blocks from there up. language_models.replay
does the same for a change at one token; here the weights change, so every token does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from language_models.architecture import Parts, parts
from language_models.moments import hooked
from language_models.padding import pad_right
from language_models.replay import select_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from language_models.checkpoint import LanguageModel

Call = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class KeptBlocks:
    """Rows of tokens as they enter block `first`, padded at the end.

    states: (b, t, d). calls: the other arguments of each block from `first` on.
    """

    model: Parts
    first: int
    states: Tensor
    calls: tuple[Call, ...]

    def run(self, states: Tensor | None = None) -> Tensor:
        """Return the last block's output (b, t, d), from `states` in place of the kept ones."""
        hidden = self.states if states is None else states
        for block, (args, kwargs) in zip(self.model.blocks[self.first :], self.calls, strict=True):
            output = block(hidden, *args, **kwargs)
            hidden = output[0] if isinstance(output, tuple) else output
        return hidden

    def logits(self, rows: Tensor, columns: Tensor, states: Tensor | None = None) -> Tensor:
        """Return the logits (m, v) at the given rows and columns."""
        chosen = self.run(states)[rows, columns]
        return self.model.logits(self.model.final_norm(chosen))

    def select(self, rows: Tensor) -> KeptBlocks:
        """Return some of the rows, in the order given."""
        count = len(self.states)
        done: dict[int, Any] = {}  # all blocks often share one mask
        calls = tuple(select_rows(call, rows, count, done) for call in self.calls)
        return replace(self, states=self.states[rows], calls=calls)


@torch.no_grad()
def keep_blocks(
    lm: LanguageModel,
    rows: Sequence[Sequence[int]],
    first: int,
    watched: Sequence[nn.Module] = (),
) -> tuple[KeptBlocks, Tensor, list[tuple[Tensor, Tensor]]]:
    """Run the rows once; return what enters block `first`, what leaves the last, and the watched.

    first: 0 to the number of blocks, the latter for what leaves the last one. watched: modules
    whose input and output (b, t, …) are returned in turn.
    """
    model = parts(lm.model)
    ids, mask = pad_right(lm, [list(row) for row in rows])
    states: list[Tensor] = []
    calls: list[Call] = []
    seen: dict[int, tuple[Tensor, Tensor]] = {}

    def keep_call(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        states.append(args[0])
        calls.append((args[1:], kwargs))

    def keep_last(_module: Any, _args: Any, output: Any) -> None:
        states.append(output[0] if isinstance(output, tuple) else output)

    def watch(number: int) -> Any:
        def keep(_module: Any, args: tuple[Tensor, ...], output: Tensor) -> None:
            seen[number] = (args[0], output)

        return keep

    with hooked(
        *(
            lambda block=block: block.register_forward_pre_hook(keep_call, with_kwargs=True)
            for block in model.blocks[first:]
        ),
        lambda: model.blocks[-1].register_forward_hook(keep_last),
        *(
            lambda number=number, module=module: module.register_forward_hook(watch(number))
            for number, module in enumerate(watched)
        ),
    ):
        model.backbone(input_ids=ids, attention_mask=mask, use_cache=False)
    kept = KeptBlocks(model, first, states[0], tuple(calls))
    return kept, states[-1], [seen[number] for number in range(len(watched))]
