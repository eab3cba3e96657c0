"""Passes over kept rows that UltraEdit asks for: keys and gradients of some matrices, logits.

Where the lowest matrix is the second projection of an MLP, only a sum follows it in its block: its
inputs are kept and not even its own block runs again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

from editing.gradient_factors import tried
from editing.kept_blocks import keep_blocks
from editing.kept_rows import Kept, row_losses
from editing.training_rows import Row, asked
from language_models.architecture import parts
from language_models.moments import hooked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from language_models.architecture import Projection
    from language_models.checkpoint import LanguageModel

ROWS_PER_PASS = 128
Factors = dict[str, tuple["Tensor", "Tensor"]]


class Passes:
    """Runs the blocks from the lowest of some matrices on; `first` is its layer."""

    def __init__(self, lm: LanguageModel, first: int, places: Sequence[Projection]) -> None:
        model = parts(lm.model)
        self.lm, self.places = lm, places
        down = model.mlp_out(first).name if model.is_dense(first) else None
        self.direct = next((one for one in places if one.name == down), None)
        if self.direct is not None and len(_of_layer(lm, first, places)) > 1:
            self.direct = None
        self.first = first if self.direct is None else first + 1
        self.others = [one for one in places if one is not self.direct]

    @property
    def lowest(self) -> str | None:
        """Name of the matrix whose inputs no change reaches, where it is known."""
        return None if self.direct is None else self.direct.name

    def keep(self, rows: Sequence[Row]) -> list[Kept]:
        """Return the rows in parts, run once; in the order given, which is best that of length."""
        return [
            self._part(rows[start : start + ROWS_PER_PASS])
            for start in range(0, len(rows), ROWS_PER_PASS)
        ]

    @torch.no_grad()
    def keys(self, held: Sequence[Kept], deltas: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return per matrix its inputs (m, d_in) in float64 at the tokens asked."""
        if not self.others and self.direct is not None:
            # Nothing below changes: what was kept are the keys already.
            asked_keys = [part.watched[0][part.asked.rows, part.asked.columns] for part in held]
            return {self.direct.name: torch.cat(asked_keys).double()}
        found = [self._run(part, deltas)[0] for part in held]
        return {one.name: torch.cat([part[one.name] for part in found]) for one in self.places}

    @torch.no_grad()
    def logits(self, part: Kept, deltas: Mapping[str, Tensor]) -> Tensor:
        """Return the logits (m, v) at the tokens asked."""
        return self._run(part, deltas)[2]

    @torch.no_grad()
    def logits_now(self, part: Kept) -> Tensor:
        """Return the logits (m, v) at the tokens asked, by the weights as they are now."""
        states = None
        if self.direct is not None:
            keys, values = part.watched
            states = part.moved(self.direct.module(keys) - values)
        return part.blocks.logits(part.asked.rows, part.asked.columns, states)

    def factors(self, batch: Sequence[Kept], deltas: Mapping[str, Tensor]) -> tuple[Factors, float]:
        """Return per matrix inputs H (m, d_in) and gradients G (m, d_out); and the mean loss.

        Both are in float64 and at the tokens asked.
        """
        every: list[Factors] = []
        total, count = 0.0, sum(map(len, batch))
        for part in batch:
            with torch.enable_grad():
                inputs, outputs, logits = self._run(part, deltas)
                losses = row_losses(logits, part.asked, len(part))
                # The sum over rows: so a row's gradient does not depend on the rows beside it.
                slopes = torch.autograd.grad(
                    losses.sum(), [outputs[one.name] for one in self.places]
                )
            total += float(losses.detach().sum())
            rows, columns = part.asked.rows, part.asked.columns
            every.append(
                {
                    one.name: (inputs[one.name], slope[rows, columns].double())
                    for one, slope in zip(self.places, slopes, strict=True)
                }
            )
        joined = {
            one.name: (
                torch.cat([part[one.name][0] for part in every]),
                torch.cat([part[one.name][1] for part in every]),
            )
            for one in self.places
        }
        return joined, total / count

    def _part(self, rows: Sequence[Row]) -> Kept:
        watched = [] if self.direct is None else [self.direct.module]
        # The last token is not fed in, only asked for.
        ids = [row.ids[:-1] for row in rows]
        blocks, last, seen = keep_blocks(self.lm, ids, self.first, watched)
        wanted = asked(self.lm, rows)
        pairs = seen[0] if seen else ()
        return Kept(blocks, wanted, last[wanted.rows, wanted.columns], pairs).narrowed()

    def _run(
        self, part: Kept, deltas: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """Return per matrix its inputs at the tokens asked and its outputs, and the logits."""
        rows, columns = part.asked.rows, part.asked.columns
        inputs: dict[str, Tensor] = {}
        outputs: dict[str, Tensor] = {}

        def look(name: str) -> Any:
            def keep(_module: Any, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
                inputs[name] = args[0].detach()[rows, columns].double()
                # Weights need no gradient, so the graph begins at the lowest of these outputs.
                leaf = torch.is_grad_enabled() and not output.requires_grad
                outputs[name] = output.detach().requires_grad_() if leaf else output
                return outputs[name]

            return keep

        states = None
        if self.direct is not None:
            name, keys = self.direct.name, part.watched[0]
            delta = deltas[name].to(torch.float32)
            change = look(name)(None, (keys,), F.linear(keys.to(delta), delta))
            states = part.moved(change)
        trial = {one.name: (one, deltas[one.name].float()) for one in self.others}
        with (
            tried(trial),
            hooked(
                *(
                    lambda one=one: one.module.register_forward_hook(look(one.name))
                    for one in self.others
                )
            ),
        ):
            return inputs, outputs, part.blocks.logits(rows, columns, states)


def _of_layer(lm: LanguageModel, layer: int, places: Sequence[Projection]) -> list[Projection]:
    """Return those of the matrices that lie in a layer."""
    inside = {id(module) for module in parts(lm.model).blocks[layer].modules()}
    return [one for one in places if id(one.module) in inside]
