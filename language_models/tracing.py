"""Causal tracing (ROME, section 2): which token and layer carry a fact.

The embeddings of the subject are blurred by noise, so the model loses the fact; then the states
of one token role at one layer are put back as they were, and the probability that returns says
what they carry.

The site is the earliest layer at which, at one role, restoring the block output returns at least
SITE_FRACTION of what the noise took away, and restoring the MLP outputs up to there returns at
least MLP_FRACTION of it: earlier layers do not hold the fact yet, later ones only pass it on, and
where attention alone has brought it an MLP is no place to change it. A role whose embedding
alone, restored, returns as much is left out: that is the name itself, which all facts of the
person share, and an edit there changes them all. So are the tokens between the name and the
prompt's end, which not every wording has. On ties the role that returns most is taken.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch

from language_models.architecture import parts
from language_models.errors import RequestError
from language_models.modes import evaluating
from language_models.padding import pad_right
from language_models.positions import ROLES, Located, fill, locate, with_target
from language_models.restoring import EMBEDDING, Kind, Restored, Runs, Statement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from language_models.checkpoint import LanguageModel

NOISE_SIGMAS = 3.0  # ROME, section 2.1
NOISE_SAMPLES = 10  # ROME, appendix B
# The model's own answer is followed this far: one token may be the same for many answers.
ANSWER_TOKENS = 12
# It ends before a token that the model itself gives less than this: there its text is open.
SURE = 0.5
SITE_FRACTION = 0.8
# An MLP site whose MLPs return less than this share is none.
MLP_FRACTION = 0.25
# Below this the noise takes away too little for the grid to say anything.
MIN_EFFECT = 0.1
FLAT = (
    "The trace is flat: blurring the subject hardly lowers the answer's probability, so the site"
    " is a guess. Check that the model knows the fact."
)
WEAK = (
    f"No single state returns {SITE_FRACTION:.0%} of the fact; the site is a guess."
    " Expect a weak edit or side effects."
)
OUTSIDE = (
    f"Up to the site the MLP outputs alone return less than {MLP_FRACTION:.0%} of the fact, so the"
    " site lies outside the MLPs. Expect a weak edit or side effects."
)

Grid = dict[str, list[float] | None]


@dataclass(frozen=True)
class TraceCase:
    """A statement to trace: the prompt has one "{}"; an empty answer means the model's own."""

    subject: str
    prompt: str
    answer: str = ""


@dataclass(frozen=True)
class Site:
    """Where to edit: the MLP of `layer`, at the tokens of `role`."""

    role: str
    layer: int


@dataclass(frozen=True)
class Trace:
    """Geometric mean probability of the answer's tokens, as means over cases and noise samples.

    grid: role -> one number per layer, with that role's block output restored (None where no
    case has the role). mlp: the same with the MLP outputs of all layers up to there restored,
    for the roles that may be the site. embedding: with the role's embedding restored. high:
    undisturbed; low: blurred, nothing restored.
    """

    grid: Grid
    mlp: Grid
    embedding: dict[str, float | None]
    low: float
    high: float
    site: Site
    warning: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values; no text of the statements is in them."""
        return {**asdict(self), "roles": list(ROLES), "site_fraction": SITE_FRACTION}


@torch.inference_mode()
def trace(lm: LanguageModel, statements: Sequence[TraceCase], seed: int) -> Trace:
    """Trace `statements` and choose the site; the same seed gives the same trace."""
    grid: Grid = dict.fromkeys(ROLES)
    mlp: Grid = dict.fromkeys(ROLES)
    embedding: dict[str, float | None] = dict.fromkeys(ROLES)
    with evaluating(lm):
        runs, prepared = blurred_runs(lm, statements, seed)
        high, low = fmean(runs.high), fmean(runs.low)
        for role, values in by_role(runs, prepared, range(EMBEDDING, runs.layers)).items():
            embedding[role], *grid[role] = values
        may_be = [role for role in ROLES if _may_be_site(grid[role], embedding[role], low, high)]
        mlp.update(_mlps(runs, prepared, may_be))
    site, warning = choose_site(grid, mlp, embedding, low, high)
    return Trace(grid, mlp, embedding, low, high, site, warning)


def choose_site(
    grid: Grid, mlp: Grid, embedding: dict[str, float | None], low: float, high: float
) -> tuple[Site, str | None]:
    """Apply the rule of the module's docstring; return the site and what speaks against it.

    Without any such layer, the first one that returns the fact by whatever way is taken; failing
    that, the cell that returns most beyond what its role's embedding alone does.
    """
    cells = [
        (value, role, layer)
        for role, values in grid.items()
        if role != "between"
        for layer, value in enumerate(values or ())
    ]
    effect = high - low
    reached = [
        cell
        for cell in cells
        if _may_be_site(grid[cell[1]], embedding[cell[1]], low, high)
        and cell[0] >= low + SITE_FRACTION * effect
    ]
    in_mlps = [
        cell
        for cell in reached
        if (mlp[cell[1]] or [0.0] * (cell[2] + 1))[cell[2]] >= low + MLP_FRACTION * effect
    ]

    def beyond(cell: tuple[float, str, int]) -> tuple[float, int]:
        return cell[0] - (embedding[cell[1]] or 0.0), -cell[2]

    warning: str | None
    if effect < MIN_EFFECT:
        warning, chosen = FLAT, max(cells, key=beyond)
    elif not reached:
        warning, chosen = WEAK, max(cells, key=beyond)
    else:
        warning = None if in_mlps else OUTSIDE
        chosen = min(in_mlps or reached, key=lambda cell: (cell[2], -cell[0]))
    return Site(chosen[1], chosen[2]), warning


def _may_be_site(
    values: list[float] | None, embedding: float | None, low: float, high: float
) -> bool:
    enough = low + SITE_FRACTION * (high - low)
    return values is not None and max(values) >= enough and (embedding or 0.0) < enough


def blurred_runs(
    lm: LanguageModel, statements: Sequence[TraceCase], seed: int
) -> tuple[Runs, list[Statement]]:
    """Run `statements` undisturbed and blurred. Raises RequestError without any."""
    if not statements:
        raise RequestError("Tracing needs at least one statement.")
    generator = torch.Generator().manual_seed(seed)
    where = [locate(lm, case.prompt, case.subject) for case in statements]
    sigma = NOISE_SIGMAS * _deviation(lm, where)
    prepared = []
    for place, answer in zip(where, _answers(lm, where, statements), strict=True):
        size = (NOISE_SAMPLES, place.end - place.start, parts(lm.model).embed.embedding_dim)
        noise = torch.randn(size, generator=generator) * sigma
        prepared.append(Statement(place, answer, noise))
    return Runs(lm, prepared), prepared


def by_role(
    runs: Runs,
    statements: Sequence[Statement],
    layers: Sequence[int],
    *,
    kind: Kind = "block",
    severed: Kind | None = None,
    window: int = 1,
) -> dict[str, list[float]]:
    """Return, for each role that occurs, one mean over the statements per layer.

    window: number of layers restored together around each one, for MLPs and attentions.
    """
    wanted = [
        (role, column, Restored(number, tokens, kind, around(layer, window, runs), severed))
        for role, number, tokens in _having(statements, ROLES)
        for column, layer in enumerate(layers)
    ]
    found = runs.chances([run for *_, run in wanted])
    cells: dict[str, list[list[float]]] = {}
    for (role, column, _), value in zip(wanted, found, strict=True):
        cells.setdefault(role, [[] for _ in layers])[column].append(value)
    return {role: [fmean(column) for column in columns] for role, columns in cells.items()}


def around(layer: int, window: int, runs: Runs) -> tuple[int, ...]:
    """Return the layers of a window around one, as ROME's code cuts them."""
    if window == 1:
        return (layer,)
    return tuple(range(max(0, layer - window // 2), min(runs.layers, layer + (window + 1) // 2)))


def _mlps(runs: Runs, statements: Sequence[Statement], roles: Sequence[str]) -> Grid:
    """Return per role and layer the mean with the MLP outputs of all layers up to it restored."""
    wanted = _having(statements, roles)
    found = runs.up_to([Restored(number, tokens, "mlp") for _, number, tokens in wanted])
    rows: dict[str, list[list[float]]] = {}
    for (role, *_), values in zip(wanted, found, strict=True):
        rows.setdefault(role, []).append(values)
    return {role: [fmean(column) for column in zip(*of, strict=True)] for role, of in rows.items()}


def _having(
    statements: Sequence[Statement], roles: Sequence[str]
) -> list[tuple[str, int, tuple[int, ...]]]:
    """Return each role with the statements that have it, by number, and its tokens there."""
    return [
        (role, number, tuple(tokens))
        for role in roles
        for number, one in enumerate(statements)
        if (tokens := one.where.tokens(role))
    ]


def _deviation(lm: LanguageModel, where: Sequence[Located]) -> float:
    """Return the standard deviation of the subjects' embedding entries."""
    ids = [token for one in where for token in one.ids[one.start : one.end]]
    # The module's output, not its weight: Gemma 3 scales inside it.
    rows = parts(lm.model).embed(torch.tensor([ids], device=lm.device)).detach()
    return float(rows.float().std())


def _answers(
    lm: LanguageModel, where: Sequence[Located], cases: Sequence[TraceCase]
) -> list[list[int]]:
    """Return per case the ids of the answer given, or of what the model itself says first."""
    found = [_given(lm, case) for case in cases]
    model = parts(lm.model)
    going = [number for number, answer in enumerate(found) if not answer]
    for step in range(ANSWER_TOKENS):
        if not going:
            break
        rows = [where[number].ids + found[number] for number in going]
        ids, mask = pad_right(lm, rows)
        last = torch.tensor([len(row) - 1 for row in rows])
        states = model.backbone(input_ids=ids, attention_mask=mask, use_cache=False)[0]
        logits = model.logits(states[torch.arange(len(rows)), last]).float()
        chances, tokens = logits.softmax(dim=-1).max(dim=-1)
        sure = [step == 0 or chance >= SURE for chance in chances.tolist()]
        for number, token, more in zip(going, tokens.tolist(), sure, strict=True):
            found[number] += [token] if more else []
        going = [number for number, more in zip(going, sure, strict=True) if more]
    return found


def _given(lm: LanguageModel, case: TraceCase) -> list[int]:
    """Return the ids of the answer as they follow the prompt; none where none is given."""
    answer = case.answer.strip()
    if not answer:
        return []
    ids, start = with_target(lm, fill(case.prompt, case.subject), answer)
    return ids[start:]


if __name__ == "__main__":
    from language_models.trace_command import main

    raise SystemExit(main())
