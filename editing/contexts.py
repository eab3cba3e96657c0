"""The prompts in which a value is optimised, their tokens, and the keys at the edited position."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from language_models.architecture import parts
from language_models.errors import RequestError
from language_models.generation import encode, generate
from language_models.moments import hooked
from language_models.padding import pad_right
from language_models.positions import Located, fill, locate, with_target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from editing.located_config import LocatedConfig
    from editing.requests import EditRequest
    from language_models.checkpoint import LanguageModel
    from language_models.tracing import Site

# The prompt whose prediction is to stay (ROME, section 3.1).
ESSENCE = "{} is a"
# Openings from which the model writes texts of its own (MEMIT's code uses the same).
ROWS_PER_PASS = 128
OPENINGS = ("The", "Therefore", "Because", "I", "You")


@dataclass(frozen=True)
class Contexts:
    """Token rows of prompt and target, each once; the bare prompt is row 0.

    starts: index of the first target token per row. positions: the edited token per row.
    counts: how often each row occurred. groups: which wording, so which key, each belongs to.
    essence: "{subject} is a" with its own edited position.
    """

    rows: tuple[tuple[int, ...], ...]
    starts: tuple[int, ...]
    positions: tuple[int, ...]
    counts: tuple[int, ...]
    groups: tuple[int, ...]
    essence: tuple[tuple[int, ...], int]

    @property
    def bare(self) -> list[int]:
        """The first row of each wording: with nothing before it."""
        return [self.groups.index(group) for group in dict.fromkeys(self.groups)]

    @property
    def reads(self) -> list[list[int]]:
        """Per row the tokens up to the edited one."""
        return [list(row[: at + 1]) for row, at in zip(self.rows, self.positions, strict=True)]


def contexts(
    lm: LanguageModel, request: EditRequest, config: LocatedConfig, site: Site
) -> Contexts:
    """Return all contexts of a request: each wording bare and after one lead-in, in turn.

    A request without paraphrases has its one prompt after every lead-in (ROME, section 3.1).
    Equal rows are kept once and counted, so the loss is the same and costs less.
    """
    found: Counter[tuple[tuple[int, ...], int, int, int]] = Counter()
    texts = [(n, before) for n in range(len(request.wordings))
             for before in _before(request, config, n)]  # fmt: skip
    for number, before in texts:
        template = before + request.wordings[number]
        ids, start = with_target(lm, fill(template, request.subject), request.target)
        at = _position(locate(lm, template, request.subject), site)
        found[tuple(ids), start, at, number] += 1
    where = locate(lm, ESSENCE, request.subject)
    essence, at = where.ids, _position(where, site)
    rows, starts, positions, groups = zip(*found, strict=True)
    return Contexts(rows, starts, positions, tuple(found.values()), groups, (tuple(essence), at))


def context_keys(lm: LanguageModel, found: Sequence[Contexts], layer: int) -> list[torch.Tensor]:
    """Return per request its keys at `layer` as means over each wording's rows: (wordings, d_ff).

    All rows of all requests are read together; equal ones once.
    """
    keys, _ = at_edits(lm, found, parts(lm.model).mlp_out(layer).module)
    return [group_means(mine, one) for mine, one in zip(keys, found, strict=True)]


def at_edits(
    lm: LanguageModel,
    found: Sequence[Contexts],
    projection: torch.nn.Module,
    block: torch.nn.Module | None = None,
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return per request, at the edited token of every row, in float64: keys and outputs.

    Keys (rows, d_ff) are what `projection` takes; outputs (rows, d) what `block` gives, or the
    projection itself where no block is named. Equal rows are read once.
    """
    reads = [tuple(row) for one in found for row in one.reads]
    distinct = list(dict.fromkeys(reads))
    place = {row: index for index, row in enumerate(distinct)}
    order = [place[row] for row in reads]
    sizes = [len(one.rows) for one in found]
    seen = at_last(lm, [list(row) for row in distinct], projection, block or projection)
    keys, outputs = (torch.split(part[order].double(), sizes) for part in seen)
    return list(keys), list(outputs)


def group_means(rows: torch.Tensor, found: Contexts, *, bare_half: bool = False) -> torch.Tensor:
    """Return the means (wordings, d) over each wording's rows (b, d) of a request."""
    means = []
    for group in dict.fromkeys(found.groups):
        places = [n for n, of in enumerate(found.groups) if of == group]
        counts = torch.tensor([found.counts[n] for n in places], dtype=rows.dtype)
        shares = counts / counts.sum()
        if bare_half and len(places) > 1:
            rest = shares[1:] / shares[1:].sum() / 2
            shares = torch.cat([torch.full_like(shares[:1], 0.5), rest])
        means.append((rows[places] * shares.to(rows.device)[:, None]).sum(dim=0))
    return torch.stack(means)


def neighbour_keys(
    lm: LanguageModel, prompts: Sequence[str], site: Site, layer: int
) -> torch.Tensor:
    """Return the keys (n, d_ff) of prompts to keep: at their last token, or at every token.

    Where the site is a token of the subject, the name's place in a foreign prompt is not known,
    so all its tokens are kept.
    """
    rows = [encode(lm, prompt) for prompt in dict.fromkeys(prompts)]
    if site.role != "last":
        rows = [row[: end + 1] for row in rows for end in range(len(row))]
    module = parts(lm.model).mlp_out(layer).module
    return at_last(lm, rows, module, module)[0]


@torch.no_grad()
def at_last(
    lm: LanguageModel,
    rows: Sequence[list[int]],
    taking: torch.nn.Module,
    giving: torch.nn.Module,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what one module takes and another gives at the last token of each row: (n, d) each."""
    seen: dict[str, torch.Tensor] = {}

    def take(_module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        seen["in"] = inputs[0]

    def give(_module: Any, _inputs: Any, output: Any) -> None:
        seen["out"] = output[0] if isinstance(output, tuple) else output

    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    found: list[tuple[torch.Tensor, torch.Tensor]] = []
    hooks = (
        lambda: taking.register_forward_pre_hook(take),
        lambda: giving.register_forward_hook(give),
    )
    with hooked(*hooks):
        for start in range(0, len(rows), ROWS_PER_PASS):
            part = [rows[index] for index in order[start : start + ROWS_PER_PASS]]
            ids, mask = pad_right(lm, part)
            parts(lm.model).backbone(input_ids=ids, attention_mask=mask, use_cache=False)
            at = (torch.arange(len(part)), torch.tensor([len(row) - 1 for row in part]))
            found.append((seen["in"][at], seen["out"][at]))
    back = torch.tensor(order).argsort()
    taken, given = (torch.cat(side) for side in zip(*found, strict=True))
    return taken[back.to(taken.device)], given[back.to(given.device)]


def own_texts(lm: LanguageModel, *, count: int, tokens: int, seed: int) -> list[str]:
    """Return texts that the model writes by itself, sampled with `seed`."""
    openings = [OPENINGS[number % len(OPENINGS)] for number in range(count)]
    written = generate(lm, openings, max_new_tokens=tokens, temperature=1.0, seed=seed)
    return [opening + text for opening, text in zip(openings, written, strict=True)]


def sampled_lead_ins(lm: LanguageModel, *, count: int, seed: int) -> tuple[str, ...]:
    """Return texts of the model's own, each as a sentence to stand before a prompt."""
    sampled = own_texts(lm, count=count, tokens=8, seed=seed)
    # "{}" in a sampled text would be taken for the place of the name.
    return tuple(text.replace("{}", "") + ". " for text in sampled)


def _before(request: EditRequest, config: LocatedConfig, number: int) -> list[str]:
    """Return what stands before wording `number`, nothing first."""
    if len(request.wordings) > 1:
        turn = config.lead_ins[number % len(config.lead_ins)] if config.lead_ins else ""
        return list(dict.fromkeys(["", turn]))
    return ["", *config.lead_ins]


def _position(where: Located, site: Site) -> int:
    tokens = where.tokens(site.role)
    if tokens:
        return tokens[-1]
    if site.role.startswith("subject"):
        # A name of one token is its own first, middle and last; at the end it is the last token.
        return where.end - 1
    raise RequestError(f"A prompt has no token for the role {site.role!r}. Choose another role.")
