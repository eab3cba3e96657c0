"""What MEND and MALMEN share at run time: gradient factors in, one low-rank change out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from editing.closed_form import compact
from editing.gradient_factors import Factors, Scored, gradient_factors, in_float32
from editing.learned.files import load_editor
from editing.learned.settings import ALL
from editing.matrices import matrices
from editing.outcome import conclude
from language_models.architecture import Projection, parts
from language_models.delta import WeightDelta
from language_models.errors import NotReached, RequestError
from language_models.positions import fill, with_target
from language_models.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from editing.learned.files import TrainedEditor
    from editing.learned.network import Editor, EditorNetwork
    from editing.learned.settings import EditorTrainingConfig, LearnedConfig
    from editing.requests import EditRequest, EditResult
    from language_models.checkpoint import LanguageModel

    Pair = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Rule:
    """How a method goes from a matrix's factors to its change, and back in training.

    change: (network, factors, number of the matrix) -> left (d_out, n), right (n, d_in).
    learn: adds to the network's gradients what ∂L/∂ΔW (d_out, d_in) gives.
    """

    method: str
    settings: type[EditorTrainingConfig]
    change: Callable[[EditorNetwork, Factors, int], Pair]
    learn: Callable[[EditorNetwork, Factors, int, torch.Tensor], None]
    tokens: str
    scale_first: bool
    ridge: bool


def run_trained(
    lm: LanguageModel,
    requests: tuple[EditRequest, ...],
    config: LearnedConfig,
    rule: Rule,
    progress: Progress | None,
) -> EditResult:
    """Write all requests by one pass of the trained editor."""
    report = progress or silent
    trained = load_editor(config.folder(rule.method), rule.method, lm)
    projections = projections_of(lm, trained.settings["layers"], trained.settings["matrices"])
    rows = [
        row
        for request in requests
        for row in scored_rows(
            lm,
            [fill(wording, request.subject) for wording in request.wordings],
            request.target,
            trained.settings["edit_wordings"],
        )
    ]
    report("gradients", 0, 1)
    exact = in_float32(lm)
    found = gradient_factors(
        exact,
        projections_of(exact, trained.settings["layers"], trained.settings["matrices"]),
        rows,
        tokens=rule.tokens,
        rows_per_pass=config.rows_per_pass,
    )
    report("gradients", 1, 1)
    factors = changes(trained.editor, rule, found)
    _check(factors)
    change = WeightDelta.from_factors(
        lm, {one.name: one.stored(*compact(*factors[one.name])) for one in projections}
    )
    change.write(lm)
    details = {"method": rule.method, "wordings_seen": len(rows), "editor": _told(trained)}
    return conclude(lm, requests, change, config, details)


@torch.no_grad()
def changes(editor: Editor, rule: Rule, found: dict[str, Factors]) -> dict[str, Pair]:
    """Return per matrix ΔW as left (d_out, n) and right (n, d_in)."""
    result = {}
    for name, factors in found.items():
        network, index = editor.at(name)
        result[name] = rule.change(network, factors, index)
    return result


def scored_rows(lm: LanguageModel, wordings: Sequence[str], target: str, most: int) -> list[Scored]:
    """Return the rows of a fact's first wordings, which share its weight."""
    seen = wordings[:most]
    return [
        Scored(tuple(ids), start, 1 / len(seen))
        for ids, start in (with_target(lm, wording, target) for wording in seen)
    ]


def projections_of(lm: LanguageModel, layers: Sequence[int], every: str) -> list[Projection]:
    """Return the matrices of the MLPs: the second projections, or all.

    Raises UnsupportedArchitecture for a mixture of experts, RequestError for no such layer.
    """
    model = parts(lm.model)
    places = ("mlp_in", "mlp_out") if every == ALL else ("mlp_out",)
    # The second projection says why a mixture of experts has no matrix of its own.
    for layer in layers:
        model.mlp_out(layer)
    return [one for layer in layers for place in places for one in matrices(model, layer, place)]


def _check(factors: dict[str, Pair]) -> None:
    if not all(bool(torch.isfinite(half).all()) for pair in factors.values() for half in pair):
        raise NotReached("The editor's change is not finite. Train it again with a smaller rate.")
    if not any(right.numel() for _, right in factors.values()):
        raise RequestError("The targets have no gradient in the editor's layers.")


def _told(trained: TrainedEditor) -> dict[str, Any]:
    told = trained.description
    return {
        "sha256": trained.digest,
        "data": told["data"],
        "layers": trained.settings["layers"],
        "matrices": trained.settings["matrices"],
        "steps": told["curve"][-1]["step"] if told["curve"] else 0,
    }
