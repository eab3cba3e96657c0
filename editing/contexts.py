"""The prompts in which a value is optimised, their tokens, and the keys at the edited position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from language_models.errors import RequestError
from language_models.generation import encode, generate, pad_right
from language_models.moments import keys as mlp_keys
from language_models.positions import fill, locate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from editing.requests import EditRequest
    from editing.rome import RomeConfig
    from language_models.checkpoint import LanguageModel
    from language_models.tracing import Site

# The prompt whose prediction is to stay (ROME, section 3.1).
ESSENCE = "{} is a"
# Openings from which the model writes texts of its own (MEMIT's code uses the same).
OPENINGS = ("The", "Therefore", "Because", "I", "You")


@dataclass(frozen=True)
class Contexts:
    """Token rows of prompt and target; the bare prompt is row 0.

    starts: index of the first target token per row. positions: the edited token per row.
    keys: inputs of the edited projection there, as the mean over the contexts of each wording,
    (wordings, d_ff). essence: "{subject} is a" with its
    own edited position.
    """

    rows: list[list[int]]
    starts: list[int]
    positions: list[int]
    keys: torch.Tensor
    essence: tuple[list[int], int]


def contexts(lm: LanguageModel, request: EditRequest, config: RomeConfig, site: Site) -> Contexts:
    """Return all contexts of a request: each wording bare and after one lead-in, in turn.

    Without paraphrases and lead-ins, texts sampled from the model come before the prompt.
    """
    rows, starts, positions, read, wording_of = [], [], [], [], []
    for number, wording in enumerate(request.wordings):
        for before in _before(lm, request, config, number):
            template = before + wording
            ids, start = with_target(lm, fill(template, request.subject), request.target)
            at = _position(lm, template, request.subject, site)
            rows.append(ids)
            starts.append(start)
            positions.append(at)
            read.append(ids[: at + 1])
            wording_of.append(number)
    found = last_keys(lm, read, site.layer).double()
    of = torch.tensor(wording_of, device=found.device)
    keys = torch.stack([found[of == n].mean(dim=0) for n in range(len(request.wordings))])
    essence = locate(lm, ESSENCE, request.subject).ids
    at = _position(lm, ESSENCE, request.subject, site)
    return Contexts(rows, starts, positions, keys, (essence, at))


def _before(lm: LanguageModel, request: EditRequest, config: RomeConfig, number: int) -> list[str]:
    """Return what stands before wording `number`, nothing first."""
    if config.lead_ins:
        return list(dict.fromkeys(["", config.lead_ins[number % len(config.lead_ins)]]))
    if len(request.wordings) > 1 or not config.prefixes:
        return [""]
    sampled = own_texts(lm, count=config.prefixes, tokens=8, seed=config.seed)
    # "{}" in a sampled text would be taken for the place of the name.
    return ["", *(text.replace("{}", "") + ". " for text in sampled)]


def with_target(lm: LanguageModel, prompt: str, target: str) -> tuple[list[int], int]:
    """Return the ids of prompt and target and the index of the target's first token."""
    between = "" if prompt[-1].isspace() else " "
    encoded = lm.tokenizer(prompt + between + target, return_offsets_mapping=True)
    ends = [end for _, end in encoded["offset_mapping"]]
    start = next(index for index, end in enumerate(ends) if end > len(prompt))
    return encoded["input_ids"], start


def neighbour_keys(lm: LanguageModel, prompts: Sequence[str], site: Site) -> torch.Tensor:
    """Return the keys of prompts to keep: at their last token, or at every token.

    Where the site is a token of the subject, the name's place in a foreign prompt is not known,
    so all its tokens are kept.
    """
    rows = [encode(lm, prompt) for prompt in prompts]
    if site.role != "last":
        rows = [row[: end + 1] for row in rows for end in range(len(row))]
    return last_keys(lm, rows, site.layer)


@torch.inference_mode()
def last_keys(lm: LanguageModel, rows: Sequence[list[int]], layer: int) -> torch.Tensor:
    """Return the key at the last token of each row: (n, d_ff)."""
    found = []
    for start in range(0, len(rows), 128):
        part = rows[start : start + 128]
        ids, mask = pad_right(lm, part)
        last = torch.tensor([len(row) - 1 for row in part], device=lm.device)
        found.append(mlp_keys(lm, ids, mask, layer)[torch.arange(len(part)), last])
    return torch.cat(found)


def own_texts(lm: LanguageModel, *, count: int, tokens: int, seed: int) -> list[str]:
    """Return texts that the model writes by itself, sampled with `seed`."""
    openings = [OPENINGS[number % len(OPENINGS)] for number in range(count)]
    written = generate(lm, openings, max_new_tokens=tokens, temperature=1.0, seed=seed)
    return [opening + text for opening, text in zip(openings, written, strict=True)]


def _position(lm: LanguageModel, template: str, subject: str, site: Site) -> int:
    tokens = locate(lm, template, subject).tokens(site.role)
    if tokens:
        return tokens[-1]
    if site.role.startswith("subject"):
        # A name of one token is its own first, middle and last; at the end it is the last token.
        return locate(lm, template, subject).end - 1
    raise RequestError(f"A prompt has no token for the role {site.role!r}. Choose another role.")
