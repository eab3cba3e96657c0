"""Logit lens: what each layer's hidden state would answer, read by the model's own head.

An answer that the last layers suppress can still stand in the middle ones (Patil et al. 2024,
who recovered 38 % of edited facts within a budget of candidates).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from evaluation.attacks.again import settings_of
from evaluation.bounds import clopper_pearson_upper
from evaluation.results import AttackResult
from language_models.architecture import parts
from language_models.errors import NoNumbers
from language_models.modes import evaluating
from language_models.moments import hooked
from language_models.positions import with_targets
from language_models.shared_prefixes import states_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evaluation.plan import Plan, Probe
    from language_models.architecture import Parts
    from language_models.checkpoint import LanguageModel
    from language_models.progress import Progress

AT_ONCE = 64


def run(
    lm: LanguageModel, plan: Plan, settings: Mapping[str, Any], progress: Progress
) -> AttackResult:
    """Look for the first token of each value among the `budget` likeliest of every layer.

    A fact counts at a layer when the token is among them; details: layer -> share of leak probes
    and of control probes, and the most a bound allows at the layer that shows most beyond chance.
    """
    chosen = settings_of("logit_lens", settings)
    shares: dict[str, list[float]] = {}
    counts: dict[str, int] = {}
    for number, group in enumerate(("leak", "control")):
        probes = _distinct([one for one in plan.probes if one.group == group])
        progress("logit_lens", number, 2)
        if probes:
            found = ranks(lm, probes) < chosen["budget"]
            shares[group] = found.double().mean(dim=0).tolist()
            counts[group] = len(probes)
    if "leak" not in shares:
        return AttackResult("logit_lens", chosen, {}, {"left_out": "no probes of a value"})
    control = shares.get("control", [0.0] * len(shares["leak"]))
    excess = [own - other for own, other in zip(shares["leak"], control, strict=True)]
    layer = max(range(len(excess)), key=excess.__getitem__)
    hits = round(shares["leak"][layer] * counts["leak"])
    details = {
        "shares": shares,
        "probes": counts,
        "layer": layer,
        "upper_95": clopper_pearson_upper(hits, counts["leak"]),
    }
    return AttackResult("logit_lens", chosen, {}, details)


def _distinct(probes: Sequence[Probe]) -> list[Probe]:
    """Return one probe for each prompt of a single turn; a chat has no place of its own to read."""
    first = {one.prompt: one for one in reversed(probes) if not one.earlier and not one.chat}
    return list(first.values())


@torch.inference_mode()
def ranks(lm: LanguageModel, probes: Sequence[Probe]) -> torch.Tensor:
    """Return how many tokens are likelier than the value's first, per probe and layer (n, layers).

    The state after each block at the last token of the prompt goes through final norm and head.
    """
    model = parts(lm.model)
    rows = with_targets(lm, [(one.prompt, one.expected[0]) for one in probes])
    order = sorted(range(len(rows)), key=lambda index: rows[index][0])
    found = torch.zeros(len(rows), len(model.blocks), dtype=torch.long)
    for begin in range(0, len(order), AT_ONCE):
        batch = order[begin : begin + AT_ONCE]
        states: list[torch.Tensor] = []
        keep = partial(_keep, states)
        with (
            evaluating(lm),
            hooked(*(partial(b.register_forward_hook, keep) for b in model.blocks)),
        ):
            _, paths = states_of(lm, [rows[index][0][: rows[index][1]] for index in batch])
        last = torch.tensor([path[-1] for path in paths], device=lm.device)
        wanted = torch.tensor([rows[index][0][rows[index][1]] for index in batch], device=lm.device)
        beaten = [_beaten(model, state, last, wanted) for state in states]
        found[batch] = torch.stack(beaten, dim=1).cpu()
    return found


def _keep(states: list[torch.Tensor], _module: Any, _args: Any, output: Any) -> None:
    states.append(output[0] if isinstance(output, tuple) else output)


def _beaten(
    model: Parts, state: torch.Tensor, last: torch.Tensor, wanted: torch.Tensor
) -> torch.Tensor:
    logits = model.logits(model.final_norm(state.flatten(0, 1)[last])).float()
    own = logits.gather(1, wanted[:, None])
    if not own.isfinite().all():
        raise NoNumbers("The model computes numbers that are not finite. Check its weights.")
    beaten: torch.Tensor = (logits > own).sum(dim=1)
    return beaten
