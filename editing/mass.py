"""Many facts at once: values at the last layer, each layer's share of what is missing there.

What MEMIT, EMMET and AlphaEdit share; they differ in the closed form alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch

from editing.closed_form import Factors, compact
from editing.contexts import at_edits, group_means
from editing.located import Located, locate_edits
from editing.located_config import LocatedConfig
from editing.memory import EditedKeys
from editing.outcome import Targets, conclude
from editing.trial import add, on_trial
from editing.value import optimise_values
from language_models.architecture import parts
from language_models.delta import WeightDelta
from language_models.errors import RequestError, UnsupportedArchitecture
from language_models.methods import require_positive, setting
from language_models.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from editing.requests import EditRequest, EditResult
    from language_models.checkpoint import LanguageModel

# A further round is tried while this share of the facts asked for again, or fewer, stays unreached.
ROUND_GAIN = 0.9
# A value of a higher loss (nats per token) does not win by being asked for again.
FOUND = 0.1
# Fewer facts than this are tried to the last round.
MANY = 20

# (located, layer, K (d_ff, n)) -> G (n, d_ff) with Δ = R G, and what is told of the layer
Gain = Callable[[Located, int, torch.Tensor], tuple[torch.Tensor, dict[str, Any]]]


@dataclass(frozen=True, kw_only=True)
class MassConfig(LocatedConfig):
    """Settings of the methods that write many facts at once."""

    layers: tuple[int, ...] = setting(
        (), "layers that share the change, ascending; none: the site's alone", "measured"
    )
    anchor: float = setting(
        2.0,
        "values longer than this many mean values are scaled back to the mean; 0: never",
        "NAS",
        published=0.0,
    )

    rounds: int = setting(
        3,
        "rounds; from the second on, the goals of facts not yet reached are raised",
        "measured; the papers have one",
        published=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "rounds")
        if list(self.layers) != sorted(set(self.layers)):
            raise RequestError("layers must ascend, each once.")
        if self.layers and self.layer not in (None, self.layers[-1]):
            raise RequestError("layer, the site, must be the last of layers.")


def edit_many(
    lm: LanguageModel,
    requests: tuple[EditRequest, ...],
    config: MassConfig,
    progress: Progress | None,
    memory: EditedKeys | None,
    method: str,
    gain: Gain,
) -> EditResult:
    """Write all targets at once; `gain` is the closed form of the method."""
    located = locate_edits(lm, requests, config, progress or silent)
    layers = config.layers or (located.site.layer,)
    _check_layers(lm, layers)
    batch = _Batch(lm, requests, located, layers, gain, memory, progress or silent)
    factors = batch.solve()
    planned = {one.name: one.stored(*factors[at]) for at, one in batch.projections.items()}
    change = WeightDelta.from_factors(lm, planned)
    change.write(lm)
    details = {
        "method": method,
        **located.details(),
        "layers": batch.told,
        "requests": batch.values,
    }
    known = (memory or EditedKeys()).after(lm, batch.keys, len(requests), batch.usual)
    return conclude(lm, requests, change, config, details, known, batch.targets)


def _check_layers(lm: LanguageModel, layers: Sequence[int]) -> None:
    model = parts(lm.model)
    for layer in layers:
        model.mlp_out(layer)
    if len(layers) > 1 and model.family.norm_after_mlp:
        raise UnsupportedArchitecture(
            "This family norms the MLP's output before adding it, so the change of one layer does"
            " not add up with those of others. Give one layer."
        )


class _Batch:
    """The edits of one batch: goals for the outputs of the last layer, and how to reach them.

    keys: layer -> K (d_ff, n), n over all wordings. values, told: what the result tells per
    request and per layer. usual: mean norm of the goals (the memory's, where there is one).
    """

    def __init__(
        self,
        lm: LanguageModel,
        requests: tuple[EditRequest, ...],
        located: Located,
        layers: Sequence[int],
        gain: Gain,
        memory: EditedKeys | None,
        report: Progress,
    ) -> None:
        self.lm, self.requests, self.located, self.layers = lm, requests, located, layers
        self.config = cast("MassConfig", located.config)
        self.gain, self.report = gain, report
        self.projections = {at: parts(lm.model).mlp_out(at) for at in layers}
        self.keys: dict[int, Tensor] = {}
        self.gains: dict[int, Tensor] = {}
        self.told: dict[str, Any] = {}
        self.values: list[dict[str, Any]] = [{"rounds": 0} for _ in requests]
        self.usual = memory.value_norm if memory else 0.0
        wordings = [len(dict.fromkeys(one.groups)) for one in located.contexts]
        owner = [number for number, count in enumerate(wordings) for _ in range(count)]
        self.owner = torch.tensor(owner, device=lm.device)
        self.targets = Targets.of_bare(lm, located.contexts, layers[0])

    def solve(self) -> dict[int, Factors]:
        """Return per layer the factors of the change; the weights are as before.

        Least squares shrinks what it is asked for. So facts that are not reached are asked for
        more: a further δ, optimised on the changed weights, is added to their goals, and all is
        solved anew with the same gain.
        """
        goals = start = self._look(self.layers[0])
        missed = list(range(len(self.requests)))
        with on_trial(self.projections.values()) as put_back:
            for number in range(self.config.rounds):
                goals = self._anchored(goals + self._values(missed))
                put_back()
                factors = self._spread(start, goals)
                found = self.targets.achieved()
                left = [n for n, row in enumerate(found) if row["target_first"] < 1]
                self.report("rounds", number + 1, self.config.rounds)
                missed = self._again(left, missed if number else [])
                if not missed:
                    break
        return factors

    def _again(self, left: list[int], asked: Sequence[int]) -> list[int]:
        """Return which of the facts left are worth a further round; asked: those of this one."""
        # Where asking many for more has brought little, the keys have no room for it.
        if len(asked) >= MANY and len(left) > ROUND_GAIN * len(asked):
            return []
        found = [n for n in left if self.values[n]["value_loss"] < FOUND]
        return found if len(left) >= MANY else left

    def _values(self, missed: Sequence[int]) -> Tensor:
        """Return what to add to the goals (wordings, d): δ of the requests given, else nothing."""
        chosen = [self.located.contexts[n] for n in missed]
        values = optimise_values(
            self.lm, chosen, self.config, self.layers[-1], self.report, of_block=self.config.compat
        )
        deltas = values[0].delta.new_zeros(len(self.requests), len(values[0].delta)).double()
        for n, value in zip(missed, values, strict=True):
            deltas[n] = value.delta.double()
            self.values[n] = {**value.details, "rounds": self.values[n]["rounds"] + 1}
        return deltas[self.owner]

    def _anchored(self, goals: Tensor) -> Tensor:
        """Return the goals with those of unusual length scaled back to the usual one (NAS)."""
        self.usual = self.usual or float(goals.norm(dim=1).mean())
        return anchored(goals, self.usual, self.config.anchor) if self.config.anchor else goals

    def _spread(self, present: Tensor, goals: Tensor) -> dict[int, Factors]:
        """Change layer by layer, each by its share of what is missing; return the factors."""
        factors: dict[int, Factors] = {}
        for number, layer in enumerate(self.layers):
            if number:
                present = self._look(layer)
            missing = goals - present
            left = missing.T / (len(self.layers) - number)
            factors[layer] = compact(left, self.gains[layer])
            self.told[str(layer)]["missing"] = float(missing.norm())
            add(self.projections[layer], factors[layer])
        return factors

    def _look(self, layer: int) -> Tensor:
        """Read the keys of `layer`, get its gain, return the present outputs (wordings, d).

        Outputs are the last block's, for changes of several layers add up there; behind a norm of
        the MLP's output they do not, and the projection's own are taken. compat: those of the
        bare prompts, and keys in which they count half.
        """
        model, compat = parts(self.lm.model), self.config.compat
        block = model.blocks[self.layers[-1]] if model.family.norm_after_mlp is None else None
        contexts, projection = self.located.contexts, self.projections[layer].module
        keys, outputs = at_edits(self.lm, contexts, projection, block)
        means = [group_means(k, c, bare_half=compat) for k, c in zip(keys, contexts, strict=True)]
        self.keys[layer] = torch.cat(means).T
        self.gains[layer], self.told[str(layer)] = self.gain(self.located, layer, self.keys[layer])
        present = [
            rows[:1] if compat else group_means(rows, one)
            for rows, one in zip(outputs, contexts, strict=True)
        ]
        return torch.cat(present)


def anchored(goals: Tensor, usual: float, anchor: float) -> Tensor:
    """Return goals (n, d), those longer than `anchor` times `usual` scaled back to `usual`."""
    norms = goals.norm(dim=1)
    long = norms > anchor * usual
    return goals * torch.where(long, usual / norms, torch.ones_like(norms))[:, None]
