"""r-ROME: facts one by one, one layer, each a rank-one change of the MLP's second projection.

ROME (Meng et al. 2022) with homogeneous keys (Gupta et al. 2024): the key k_e and the output it
is taken from are both means over the contexts, so W' k_e = v_e holds exactly, where
v_e = W k_e + δ and δ is what was optimised. ROME itself takes one from the mean and the other
from the bare prompt, which ruins models after some edits; compat does the same. At the last token
of a prompt the keys of different wordings lie far apart, so the change is asked to meet each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch

from editing.closed_form import Factors, compact, rank_one
from editing.contexts import at_edits, context_keys
from editing.located import Located, locate_edits, moment_at, to_keep, told
from editing.located_config import LocatedConfig
from editing.memory import EditedKeys
from editing.outcome import conclude
from editing.value import Value, optimise_values
from language_models.architecture import parts
from language_models.delta import WeightDelta
from language_models.errors import RequestError
from language_models.methods import setting
from language_models.progress import Progress, silent

if TYPE_CHECKING:
    from torch import Tensor

    from editing.requests import EditRequest, EditResult
    from language_models.checkpoint import LanguageModel
    from language_models.moments import Moment


@dataclass(frozen=True, kw_only=True)
class RomeConfig(LocatedConfig):
    """Settings of r-ROME."""

    slack: float = setting(
        1.0,
        "how unequal the wordings' keys may be met, in keys; 0: all exactly",
        "measured; the published code has one key",
        published=0.0,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.slack < 0:
            raise RequestError("slack must not be below zero.")


def run(
    lm: LanguageModel,
    requests: tuple[EditRequest, ...],
    config: RomeConfig,
    progress: Progress | None = None,
    memory: EditedKeys | None = None,
) -> EditResult:
    """Write each request's target in turn; later edits keep the keys of earlier ones.

    All values are optimised together on the weights as they are; the closed form is then solved
    request by request, each with the keys of those before it among what is to stay.
    """
    report = progress or silent
    located = locate_edits(lm, requests, config, report)
    layer = located.site.layer
    moment = moment_at(lm, located.config, layer, report, memory)
    solve = _published if config.compat else _homogeneous
    factors, values, K = solve(lm, requests, located, moment, memory, report)
    projection = parts(lm.model).mlp_out(layer)
    change = WeightDelta.from_factors(lm, {projection.name: projection.stored(*factors)})
    change.write(lm)
    details = {
        "method": "rome",
        **located.details(),
        "requests": [value.details for value in values],
        **told(moment),
    }
    known = (memory or EditedKeys()).after(lm, {layer: K}, len(requests))
    return conclude(lm, requests, change, config, details, known)


Solved = tuple[Factors, list[Value], "Tensor"]


def _homogeneous(
    lm: LanguageModel,
    requests: tuple[EditRequest, ...],
    located: Located,
    moment: Moment,
    memory: EditedKeys | None,
    report: Progress,
) -> Solved:
    """Return the factors of all edits together, the values, and K (d_ff, n) of all wordings."""
    config, layer = cast("RomeConfig", located.config), located.site.layer
    values = optimise_values(lm, located.contexts, config, layer, report)
    keys = [found.T for found in context_keys(lm, located.contexts, layer)]
    A = to_keep(lm, requests, located, layer, moment, memory)
    left = torch.zeros(parts(lm.model).mlp_out(layer).d_out, 0, dtype=A.dtype, device=A.device)
    right = torch.zeros(0, len(A), dtype=A.dtype, device=A.device)
    for number, (K, value) in enumerate(zip(keys, values, strict=True)):
        report("edit", number, len(requests))
        # What the edits before this one have already moved its mean key by.
        moved = left @ (right @ K.mean(dim=1))
        column, row = rank_one(value.delta.double() - moved, K, A, config.slack)
        left, right = torch.cat([left, column], dim=1), torch.cat([right, row])
        A = A + K @ K.T
    report("edit", len(requests), len(requests))
    return compact(left, right), values, torch.cat(keys, dim=1)


def _published(
    lm: LanguageModel,
    requests: tuple[EditRequest, ...],
    located: Located,
    moment: Moment,
    _memory: EditedKeys | None,
    report: Progress,
) -> Solved:
    """The same as the published code: u of the mean key, scaled by the bare prompt's key.

    Each edit is computed on the weights that the one before it left; they are put back.
    """
    config, layer = cast("RomeConfig", located.config), located.site.layer
    projection = parts(lm.model).mlp_out(layer)
    original = projection.parameter.detach().clone()
    C = moment.matrix.to(lm.device)
    left, right, values, keys = [], [], [], []
    try:
        for one in located.contexts:
            values += optimise_values(lm, [one], config, layer, report)
            (mean,) = context_keys(lm, [one], layer)
            u = torch.linalg.solve(C, mean[0])
            bare = at_edits(lm, [one], projection.module)[0][0][0]
            left.append(values[-1].delta.double()[:, None])
            right.append((u / torch.dot(u, bare))[None])
            keys.append(mean.T)
            a, b = projection.stored(left[-1], right[-1])
            with torch.no_grad():
                projection.parameter.add_((a @ b).to(projection.parameter))
    finally:
        with torch.no_grad():
            projection.parameter.copy_(original)
    return (torch.cat(left, dim=1), torch.cat(right)), values, torch.cat(keys, dim=1)
