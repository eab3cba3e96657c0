"""Causal tracing (ROME, section 2): which token and layer carry a fact.

The embeddings of the subject are blurred by noise, so the model loses the fact; then the states
of one token role at one layer are put back as they were, and the probability that returns says
what they carry.

The site is the earliest layer at which restoring the block output at one role returns at least
SITE_FRACTION of what the noise took away: earlier layers do not hold the fact yet, later ones
only pass it on. A role whose embedding alone, restored, returns as much is left out: that is the
name itself, which all facts of the person share, and an edit there changes them all. On ties
within the layer the role that returns most is taken.
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
ANSWER_TOKENS = 5
# It ends before a token that the model itself gives less than this: there its text is open.
SURE = 0.5
SITE_FRACTION = 0.8
# An MLP site whose MLPs return less than this share is none.
MLP_FRACTION = 0.25
# Below this the noise takes away too little for the grid to say anything.
MIN_EFFECT = 0.1
ROWS_PER_PASS = 512
# the embedding, counted as the layer before the first
EMBEDDING = -1


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
    case has the role). embedding: the same with the role's embedding restored. high:
    undisturbed; low: blurred, nothing restored. mlp and attention: with only these outputs
    restored at the site's role, in all layers up to the site.
    """

    grid: dict[str, list[float] | None]
    embedding: dict[str, float | None]
    low: float
    high: float
    site: Site
    mlp: float
    attention: float
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
    grid: dict[str, list[float] | None] = dict.fromkeys(ROLES)
    embedding: dict[str, float | None] = dict.fromkeys(ROLES)
    for role in ROLES:
        restored = [_by_layer(lm, case, role, layers) for case in cases if case.where.tokens(role)]
        if restored:
            means = [_mean(list(column)) for column in zip(*restored, strict=True)]
            embedding[role], grid[role] = means[0], means[1:]
    site = choose_site(grid, embedding, low, high)
    mlp, attention = (_only(lm, cases, site, kind) for kind in ("mlp", "attention"))
    warning = _warning(grid, low, high, site, mlp)
    return Trace(grid, embedding, low, high, site, mlp, attention, warning)


def choose_site(
    grid: dict[str, list[float] | None],
    embedding: dict[str, float | None],
    low: float,
    high: float,
) -> Site:
    """Apply the rule of the module's docstring; without any such layer, take the largest cell."""
    enough = low + SITE_FRACTION * (high - low)
    cells = [
        (value, role, layer)
        for role, values in grid.items()
        if (embedding[role] or 0.0) < enough or high - low < MIN_EFFECT
        for layer, value in enumerate(values or ())
    ]
    reached = [cell for cell in cells if cell[0] >= enough]
    if not reached or high - low < MIN_EFFECT:
        _, role, layer = max(cells, key=lambda cell: (cell[0], -cell[2]))
    else:
        _, role, layer = min(reached, key=lambda cell: (cell[2], -cell[0]))
    return Site(role, layer)


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
        found["attention", layer] = model.attention(layer)
        found["mlp", layer] = model.mlp_out(layer)
        found["block", layer] = block
    return found


def _tensor(output: Any) -> torch.Tensor:
    found: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return found


def _by_layer(lm: LanguageModel, case: _Prepared, role: str, layers: int) -> list[float]:
    """Return what restoring the role's tokens together returns: at the embedding, then by layer."""
    positions = tuple(case.where.tokens(role))
    return _run(lm, case, [_Row("block", (at,), positions) for at in range(EMBEDDING, layers)])


def _only(lm: LanguageModel, cases: list[_Prepared], site: Site, kind: str) -> float:
    """Return the mean probability with one kind of output restored in all layers up to the site."""
    found = []
    for case in cases:
        positions = tuple(case.where.tokens(site.role))
        if positions:
            found += _run(lm, case, [_Row(kind, tuple(range(site.layer + 1)), positions)])
    return _mean(found)


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


def _warning(
    grid: dict[str, list[float] | None],
    low: float,
    high: float,
    site: Site,
    mlp: float,
) -> str | None:
    if high - low < MIN_EFFECT:
        return (
            "The trace is flat: blurring the subject hardly lowers the answer's probability, so"
            " the site is a guess. Check that the model knows the fact."
        )
    values = grid[site.role] or []
    if values[site.layer] < low + SITE_FRACTION * (high - low):
        return (
            f"No single state returns {SITE_FRACTION:.0%} of the fact; the site is the largest"
            " cell. Expect a weak edit or side effects."
        )
    if mlp - low < MLP_FRACTION * (high - low):
        return (
            f"Up to the site the MLP outputs alone return less than {MLP_FRACTION:.0%} of the"
            " fact, so the site lies outside the MLPs. Expect a weak edit or side effects."
        )
    return None


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
