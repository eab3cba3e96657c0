"""r-ROME: facts one by one, one layer, each a rank-one change of the MLP's second projection.

ROME (Meng et al. 2022) with homogeneous keys (Gupta et al. 2024): the key k_e and the output it
is taken from are both means over the contexts, so W' k_e = v_e holds exactly, where
v_e = W k_e + δ and δ is what was optimised. ROME itself takes one from the mean and the other
from the bare prompt, which ruins models after some edits; compat does the same. At the last token
of a prompt the keys of different wordings lie far apart, so the change is asked to meet each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch

from editing.closed_form import Factors, compact, rank_one
from editing.contexts import at_edits, context_keys
from editing.located import Located, locate_edits, moment_at, to_keep, told
from editing.located_config import LocatedConfig
from editing.memory import EditedKeys
from editing.outcome import Targets, conclude
from editing.trial import add, on_trial
from editing.value import optimise_values
from language_models.architecture import parts
from language_models.delta import WeightDelta
from language_models.errors import RequestError
from language_models.methods import require_positive, setting
from language_models.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from editing.requests import EditRequest, EditResult
    from language_models.checkpoint import LanguageModel
    from language_models.moments import Moment


@dataclass(frozen=True, kw_only=True)
class RomeConfig(LocatedConfig):
    """Settings of r-ROME."""

    stop_loss: float = setting(
        0.05,
        "stop when the target's mean loss per token is below",
        "ROME's code; below it values grow longer, and general facts wear off over a sequence",
    )
    rounds: int = setting(
        3,
        "rounds of several facts at once; from the second on, those not yet reached once more",
        "measured; the published code takes facts one by one",
        published=1,
    )
    slack: float = setting(
        1.0,
        "how unequal the wordings' keys may be met, in keys; 0: all exactly",
        "measured; the published code has one key",
        published=0.0,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "rounds")
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
    targets = Targets.of_bare(lm, located.contexts, layer)
    factors, values, K = solve(lm, requests, located, moment, memory, report, targets)
    projection = parts(lm.model).mlp_out(layer)
    change = WeightDelta.from_factors(lm, {projection.name: projection.stored(*factors)})
    change.write(lm)
    details = {
        "method": "rome",
        **located.details(),
        "requests": values,
        **told(moment),
    }
    known = (memory or EditedKeys()).after(lm, {layer: K}, len(requests))
    return conclude(lm, requests, change, config, details, known, targets)


Solved = tuple[Factors, list[dict[str, Any]], "Tensor"]


def _homogeneous(
    lm: LanguageModel,
    requests: tuple[EditRequest, ...],
    located: Located,
    moment: Moment,
    memory: EditedKeys | None,
    report: Progress,
    targets: Targets,
) -> Solved:
    """Return the factors of all edits together, details of each, and K (d_ff, n) of all.

    The values of a call are optimised on the weights as they were; where edits of the same call
    have got in the way of one, a further δ is optimised on the changed weights and written.
    """
    config, layer = cast("RomeConfig", located.config), located.site.layer
    projection = parts(lm.model).mlp_out(layer)
    keys = [found.T for found in context_keys(lm, located.contexts, layer)]
    A = to_keep(lm, requests, located, layer, moment, memory)
    turns = _Turns(keys, A, projection.d_out, config.slack)
    details: list[dict[str, Any]] = [{} for _ in requests]
    missed = list(range(len(requests)))
    with on_trial([projection]) as put_back:
        for number in range(config.rounds if len(requests) > 1 else 1):
            if number:
                put_back()
                add(projection, turns.factors)
                rows = targets.achieved()
                missed = [n for n, row in enumerate(rows) if row["target_first"] < 1]
            if not missed:
                break
            chosen = [located.contexts[n] for n in missed]
            values = optimise_values(lm, chosen, config, layer, report)
            turns.take(missed, [value.delta.double() for value in values])
            for n, value in zip(missed, values, strict=True):
                details[n] = {**value.details, "rounds": number + 1}
            report("rounds", number + 1, config.rounds)
    return compact(*turns.factors), details, torch.cat(keys, dim=1)


class _Turns:
    """Rank-one changes one after another, each with the keys of all other facts among what stays.

    keys: K (d_ff, wordings) per fact. A (d_ff, d_ff): what stays; a fact's keys join it when the
    fact is written. factors: left (d_out, n) and right (n, d_ff) of all changes so far.
    """

    def __init__(self, keys: Sequence[Tensor], A: Tensor, d_out: int, slack: float) -> None:
        self.keys, self.A, self.slack = keys, A, slack
        self.written: set[int] = set()
        self.factors: Factors = (A.new_zeros(d_out, 0), A.new_zeros(0, len(A)))

    def take(self, facts: Sequence[int], deltas: Sequence[Tensor]) -> None:
        """Add the changes of facts whose δ (d_out) were all optimised on what is there now."""
        start = len(self.factors[1])
        for n, delta in zip(facts, deltas, strict=True):
            left, right = self.factors
            K = self.keys[n]
            others = self.A - K @ K.T if n in self.written else self.A
            # What the changes taken since have already moved its mean key by.
            moved = left[:, start:] @ (right[start:] @ K.mean(dim=1))
            column, row = rank_one(delta - moved, K, others, self.slack)
            self.factors = torch.cat([left, column], dim=1), torch.cat([right, row])
            self.A = others + K @ K.T
            self.written.add(n)


def _published(
    lm: LanguageModel,
    requests: tuple[EditRequest, ...],
    located: Located,
    moment: Moment,
    _memory: EditedKeys | None,
    report: Progress,
    _targets: Targets,
) -> Solved:
    """The same as the published code: u of the mean key, scaled by the bare prompt's key.

    Each edit is computed on the weights that the one before it left; they are put back.
    """
    config, layer = cast("RomeConfig", located.config), located.site.layer
    projection = parts(lm.model).mlp_out(layer)
    C = moment.matrix.to(lm.device)
    left, right, values, keys = [], [], [], []
    with on_trial([projection]):
        for one in located.contexts:
            (value,) = optimise_values(lm, [one], config, layer, report)
            (mean,) = context_keys(lm, [one], layer)
            u = torch.linalg.solve(C, mean[0])
            bare = at_edits(lm, [one], projection.module)[0][0][0]
            values.append(value.details)
            left.append(value.delta.double()[:, None])
            right.append((u / torch.dot(u, bare))[None])
            keys.append(mean.T)
            a, b = projection.stored(left[-1], right[-1])
            with torch.no_grad():
                projection.parameter.add_((a @ b).to(projection.parameter))
    return (torch.cat(left, dim=1), torch.cat(right)), values, torch.cat(keys, dim=1)
