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
from typing import TYPE_CHECKING, Any

import torch

from language_models.architecture import parts
from language_models.errors import RequestError
from language_models.moments import hooked
from language_models.positions import ROLES, Located, locate

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
ROWS_PER_PASS = 512
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
# the embedding, counted as the layer before the first
EMBEDDING = -1


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


@dataclass(frozen=True)
class _Row:
    """One forward pass: which outputs are put back, by kind of module, layer and position."""

    kind: str
    layers: tuple[int, ...]
    positions: tuple[int, ...]


@dataclass(frozen=True)
class _Prepared:
    where: Located
    answer: list[int]
    clean: dict[tuple[str, int], torch.Tensor]
    noise: torch.Tensor
    high: float


@torch.inference_mode()
def trace(lm: LanguageModel, statements: Sequence[TraceCase], seed: int) -> Trace:
    """Trace `statements` and choose the site; the same seed gives the same trace."""
    if not statements:
        raise RequestError("Tracing needs at least one statement.")
    generator = torch.Generator().manual_seed(seed)
    sigma = _sigma(lm, statements)
    cases = [_prepare(lm, case, sigma, generator) for case in statements]
    layers = len(parts(lm.model).blocks)
    low = _mean([_run(lm, case, [_Row("block", (), ())])[0] for case in cases])
    high = _mean([case.high for case in cases])
    grid: Grid = dict.fromkeys(ROLES)
    mlp: Grid = dict.fromkeys(ROLES)
    embedding: dict[str, float | None] = dict.fromkeys(ROLES)
    for role in ROLES:
        having = [case for case in cases if case.where.tokens(role)]
        if having:
            embedding[role], *grid[role] = _curve(lm, having, role, _blocks(layers))
            if _may_be_site(grid[role], embedding[role], low, high):
                mlp[role] = _curve(lm, having, role, _mlps(layers))
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


def _sigma(lm: LanguageModel, statements: Sequence[TraceCase]) -> float:
    """Return the standard deviation of the subjects' embedding entries."""
    embed = parts(lm.model).embed
    rows = [locate(lm, case.prompt, case.subject) for case in statements]
    ids = [token for row in rows for token in row.ids[row.start : row.end]]
    return float(embed.weight[torch.tensor(ids, device=lm.device)].float().std())


def _prepare(
    lm: LanguageModel, case: TraceCase, sigma: float, generator: torch.Generator
) -> _Prepared:
    where = locate(lm, case.prompt, case.subject)
    model = parts(lm.model)
    answer = _answer(lm, where, case.answer)
    clean: dict[tuple[str, int], torch.Tensor] = {}

    def keep(key: tuple[str, int]) -> Any:
        return lambda _module, _inputs, output: clean.__setitem__(key, _tensor(output)[0])

    with hooked(*(_hook(module, keep(key)) for key, module in _modules(lm).items())):
        ids = torch.tensor([where.ids + answer[:-1]], device=lm.device)
        logits = lm.model(input_ids=ids, use_cache=False, logits_to_keep=len(answer)).logits
    size = (NOISE_SAMPLES, where.end - where.start, model.embed.embedding_dim)
    noise = torch.randn(size, generator=generator) * (NOISE_SIGMAS * sigma)
    high = float(_chance(logits, answer)[0])
    return _Prepared(where, answer, clean, noise.to(model.embed.weight), high)


def _answer(lm: LanguageModel, where: Located, answer: str) -> list[int]:
    """Return the ids of the answer given, or of what the model itself says first."""
    if answer.strip():
        text = " " + answer.strip()
        ids: list[int] = lm.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids
    ids = list(where.ids)
    while len(ids) < len(where.ids) + ANSWER_TOKENS:
        logits = lm.model(input_ids=torch.tensor([ids], device=lm.device), logits_to_keep=1).logits
        chance, token = logits[0, -1].float().softmax(dim=-1).max(dim=-1)
        if len(ids) > len(where.ids) and chance < SURE:
            break
        ids.append(int(token))
    return ids[len(where.ids) :]


def _chance(logits: torch.Tensor, answer: list[int]) -> torch.Tensor:
    """Return the geometric mean probability of the answer per row; logits (b, t, v)."""
    wanted = torch.tensor(answer, device=logits.device).expand(len(logits), -1)
    chosen = logits.float().log_softmax(dim=-1).gather(2, wanted[..., None])
    return chosen.mean(dim=(1, 2)).exp()


def _hook(module: torch.nn.Module, function: Any) -> Any:
    return lambda: module.register_forward_hook(function)


def _modules(lm: LanguageModel) -> dict[tuple[str, int], torch.nn.Module]:
    model = parts(lm.model)
    found: dict[tuple[str, int], torch.nn.Module] = {("block", EMBEDDING): model.embed}
    for layer, block in enumerate(model.blocks):
        found["mlp", layer] = model.mlp_out(layer)
        found["block", layer] = block
    return found


def _tensor(output: Any) -> torch.Tensor:
    found: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return found


def _blocks(layers: int) -> list[tuple[str, tuple[int, ...]]]:
    """Return what to restore: the embedding, then each block's output alone."""
    return [("block", (at,)) for at in range(EMBEDDING, layers)]


def _mlps(layers: int) -> list[tuple[str, tuple[int, ...]]]:
    """Return what to restore: per layer, the MLP outputs of all layers up to it."""
    return [("mlp", tuple(range(at + 1))) for at in range(layers)]


def _curve(
    lm: LanguageModel,
    cases: list[_Prepared],
    role: str,
    restored: list[tuple[str, tuple[int, ...]]],
) -> list[float]:
    """Return, for each thing restored at the role's tokens together, the mean over cases."""
    found = [
        _run(lm, case, [_Row(*what, tuple(case.where.tokens(role))) for what in restored])
        for case in cases
    ]
    return [_mean(list(column)) for column in zip(*found, strict=True)]


def _run(lm: LanguageModel, case: _Prepared, rows: list[_Row]) -> list[float]:
    """Return the answer's probability for each row, as the mean over the noise samples."""
    found: list[float] = []
    per_pass = max(1, ROWS_PER_PASS // NOISE_SAMPLES)
    for start in range(0, len(rows), per_pass):
        found += _pass(lm, case, rows[start : start + per_pass])
    return found


def _pass(lm: LanguageModel, case: _Prepared, rows: list[_Row]) -> list[float]:
    count = len(rows)
    ids = torch.tensor([case.where.ids + case.answer[:-1]], device=lm.device)
    ids = ids.expand(count * NOISE_SAMPLES, -1)

    def blur(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        blurred = output.clone()
        blurred[:, case.where.start : case.where.end] += case.noise.repeat(count, 1, 1)
        return blurred

    def restore(key: tuple[str, int]) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> Any:
            state = _tensor(output).clone()
            for number, row in enumerate(rows):
                if row.kind == key[0] and key[1] in row.layers:
                    samples = slice(number * NOISE_SAMPLES, (number + 1) * NOISE_SAMPLES)
                    for position in row.positions:
                        state[samples, position] = case.clean[key][position]
            return (state, *output[1:]) if isinstance(output, tuple) else state

        return hook

    wanted = {(row.kind, layer) for row in rows for layer in row.layers}
    hooks = [_hook(parts(lm.model).embed, blur)]
    hooks += [_hook(module, restore(key)) for key, module in _modules(lm).items() if key in wanted]
    with hooked(*hooks):
        kept = len(case.answer)
        logits = lm.model(input_ids=ids, use_cache=False, logits_to_keep=kept).logits
    chances = _chance(logits, case.answer)
    means: list[float] = chances.reshape(count, NOISE_SAMPLES).mean(dim=1).tolist()
    return means


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
