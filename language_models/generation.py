"""Batched generation and scoring: what a model says to many prompts, and how likely texts are.

The result does not depend on how prompts are batched: padding is masked out, positions are
counted from each prompt's first token, and each prompt draws from random numbers of its own.
Greedy answers of prompts that end alike are checked instead of written where they hold (drafts.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

from language_models.cache import cache_with_room
from language_models.drafts import Answer, Checked, check, drafted_by
from language_models.errors import NoNumbers, RequestError
from language_models.forced import NOT_FINITE
from language_models.modes import evaluating
from language_models.padding import pad_left, pad_right
from language_models.positions import ids_of
from language_models.progress import Progress, silent
from language_models.shared_prefixes import fill

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from language_models.checkpoint import LanguageModel


# Tokens of a batch, padding and room for new ones included. On a processor, prompts of 10 to 470
# tokens: half as many take as long, twice as many a quarter longer.
WIDEST = 2**13
# So wide a last batch is faster than one more of a few rows.
WIDEST_LAST = WIDEST * 5 // 4
# Rows that came to their end are computed on until they are more than this share: to take rows out
# means to copy what is kept of all others.
MOST_ENDED = 0.25


@dataclass(frozen=True)
class Written:
    """The new text for a prompt; stopped: by the model's own end, not by the limit of tokens."""

    text: str
    stopped: bool


def generate(
    lm: LanguageModel,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int | Sequence[int] = 0,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> list[str]:
    """Return the new text for each prompt, up to the model's own end or `max_new_tokens`.

    temperature 0 is greedy; above 0 the whole distribution is sampled. seed is one number for
    all prompts, or one per prompt: then a prompt's text does not depend on the other prompts.
    Raises RequestError, also for a prompt that leaves no room in what the model reads, and
    NoNumbers when the model computes NaN or infinity.
    """
    written = write(
        lm,
        prompts,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
        batch_size=batch_size,
        progress=progress,
    )
    return [one.text for one in written]


@torch.inference_mode()
def write(
    lm: LanguageModel,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int | Sequence[int] = 0,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> list[Written]:
    """Return what `generate` does, and of each text whether the model ended it by itself."""
    if max_new_tokens < 1 or batch_size < 1 or temperature < 0:
        raise RequestError("max_new_tokens and batch_size start at 1, temperature at 0.")
    if not prompts:
        return []
    report = progress or silent
    rows = encode_all(lm, prompts)
    _check_room(lm, rows, max_new_tokens)
    draws = _draws(len(rows), max_new_tokens, seed) if temperature > 0 else None
    drafted = drafted_by(rows) if draws is None else {}
    answers: dict[int, Answer] = {}

    def answer(begun: Mapping[int, list[int]], known: Checked | None = None) -> None:
        """Write the answers that begin with these tokens."""
        texts = {number: [*rows[number], *first] for number, first in begun.items()}
        limits = {number: max_new_tokens - len(first) for number, first in begun.items()}
        room = {number: len(text) + limits[number] for number, text in texts.items()}
        for batch in batches(room, batch_size):
            given = [(texts[number], limits[number]) for number in batch]
            drawn = None if draws is None else draws[batch]
            filled = None if known is None else partial(known.fill, rows=batch)
            with evaluating(lm):
                new = _continue(lm, given, temperature, drawn, filled)
            for number, (tokens, stopped) in zip(batch, new, strict=True):
                answers[number] = [*begun[number], *tokens], stopped
            report("generate", len(answers), len(rows))

    answer({number: [] for number in range(len(rows)) if number not in drafted})
    drafts = {number: answers[first] for number, first in drafted.items()}
    for known in check(lm, rows, drafts, max_new_tokens, end_tokens(lm)):
        answers |= known.whole
        if known.whole:
            report("generate", len(answers), len(rows))
        answer(known.begun, known)
    answer({number: [] for number in drafts if number not in answers})
    return [
        Written(lm.tokenizer.decode(new, skip_special_tokens=True), stopped)
        for new, stopped in (answers[number] for number in range(len(rows)))
    ]


def batches(lengths: Mapping[int, int], most: int) -> Iterator[list[int]]:
    """Split rows (number -> length), shortest first, so that no batch has more than `most` or is
    padded too wide; a little wider where that spares a small last one.
    """
    order = sorted(lengths, key=lengths.__getitem__)
    while order:
        longest = lengths[order[-1]]
        if len(order) <= most and len(order) * longest <= WIDEST_LAST:
            count = len(order)
        else:
            count = next(
                (n for n, row in enumerate(order) if n == most or (n + 1) * lengths[row] > WIDEST),
                len(order),
            )
        yield order[: max(1, count)]
        order = order[max(1, count) :]


@torch.inference_mode()
def nll(lm: LanguageModel, texts: Sequence[str], *, batch_size: int = 32) -> torch.Tensor:
    """Return, per text, the sum of negative log-likelihoods of its tokens in nats: float32 (n).

    The first token is given, not scored; no end mark is added.
    """
    rows = [encode(lm, text) for text in texts]
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    sums = torch.zeros(len(rows))
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        ids, mask = pad_right(lm, [rows[index] for index in batch])
        with evaluating(lm):
            logits = lm.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        sums[batch] = sequence_nll(logits, ids, mask).cpu()
    return sums


def sequence_nll(logits: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the sum over tokens of -log p per row; logits (b, t, v), ids and mask (b, t)."""
    losses = F.cross_entropy(logits[:, :-1].float().transpose(1, 2), ids[:, 1:], reduction="none")
    return (losses * mask[:, 1:]).sum(dim=1)


def encode(lm: LanguageModel, text: str) -> list[int]:
    """Return the token ids of a text as the model's own tokenizer writes them, never none.

    An end mark that the tokenizer adds is left out: nothing would be written after it.
    """
    return encode_all(lm, [text])[0]


def encode_all(lm: LanguageModel, texts: Sequence[str]) -> list[list[int]]:
    """Return what `encode` does for each text; the tokenizer reads them all at once."""
    rows = ids_of(lm, texts)
    if not all(rows):
        raise RequestError("A prompt or text is empty. Give at least one character.")
    return rows


def window_of(lm: LanguageModel) -> int | None:
    """Return how many tokens the model reads at once, None when its config does not say."""
    found = getattr(lm.model.config, "max_position_embeddings", None)
    return None if found is None else int(found)


def end_tokens(lm: LanguageModel) -> list[int]:
    """Return the ids at which this model stops by itself."""
    for settings in (lm.model.generation_config, lm.model.config, lm.tokenizer):
        ids = getattr(settings, "eos_token_id", None)
        if ids is not None:
            return [ids] if isinstance(ids, int) else list(ids)
    return []


def _check_room(lm: LanguageModel, rows: Sequence[list[int]], steps: int) -> None:
    window, longest = window_of(lm), max(map(len, rows))
    if window is not None and longest + steps > window:
        raise RequestError(
            f"A prompt of {longest} tokens with {steps} new ones is more than the {window} that"
            " this model reads at once. Shorten it, or ask for fewer new tokens."
        )


def _draws(count: int, steps: int, seed: int | Sequence[int]) -> torch.Tensor:
    """Return uniform numbers (count, steps), made on the CPU so that devices agree."""
    if isinstance(seed, int):
        return torch.rand(count, steps, generator=torch.Generator().manual_seed(seed))
    if len(seed) != count:
        raise RequestError("Give one seed, or as many seeds as prompts.")
    return torch.stack(
        [torch.rand(steps, generator=torch.Generator().manual_seed(one)) for one in seed]
    )


def _continue(
    lm: LanguageModel,
    given: Sequence[tuple[list[int], int]],
    temperature: float,
    draws: torch.Tensor | None,
    filled: Callable[..., bool] | None = None,
) -> list[Answer]:
    """Return the answer to each (row, most new tokens).

    filled: puts all of the rows but their last tokens into a cache, where it can.
    """
    rows, limits = [row for row, _ in given], [limit for _, limit in given]
    ids, mask = pad_left(lm, rows)
    stops = torch.tensor(end_tokens(lm), dtype=torch.long, device=lm.device)
    position = (mask.cumsum(dim=1) - 1).clamp(min=0)
    cache: Any = cache_with_room(lm.model.config, ids.shape[1] + max(limits))
    tokens: list[list[int]] = [[] for _ in rows]
    stopped = [False] * len(rows)
    running = torch.arange(len(rows))  # the rows that are computed
    ended = torch.zeros(len(rows), dtype=torch.bool)  # which of them came to their end
    finite = torch.ones((), dtype=torch.bool, device=lm.device)
    if kept := filled is not None and filled(cache, lengths=[len(row) for row in rows]):
        ids, position = ids[:, -1:], position[:, -1:]
    logits = None if kept else fill(lm, rows, cache)
    for step in range(max(limits)):
        if logits is None:
            logits = _next(lm, ids, mask, position, cache)
        drawn = None if draws is None else draws[running, step]
        chosen, weight = _choose(logits, temperature, drawn)
        finite &= weight.isfinite().all().to(finite.device)
        ends = torch.isin(chosen, stops).tolist()
        for place, (row, token) in enumerate(zip(running.tolist(), chosen.tolist(), strict=True)):
            if not ended[place]:
                stopped[row] = ends[place]
                tokens[row] += [] if ends[place] else [token]
                ended[place] = ends[place] or len(tokens[row]) == limits[row]
        if ended.sum() > MOST_ENDED * len(ended):
            keep = (~ended).nonzero().flatten()
            running, ended = running[keep], ended[keep]
            if not len(running):
                break
            keep = keep.to(lm.device)
            cache.batch_select_indices(keep)
            chosen, mask, position = chosen[keep], mask[keep], position[keep]
        ids = chosen[:, None]
        mask, position, logits = F.pad(mask, (0, 1), value=1), position[:, -1:] + 1, None
    # Read once, as each look waits for the device.
    if not finite:
        raise NoNumbers(NOT_FINITE)
    return list(zip(tokens, stopped, strict=True))


def _next(
    lm: LanguageModel, ids: torch.Tensor, mask: torch.Tensor, position: torch.Tensor, cache: Any
) -> torch.Tensor:
    """Return the logits (b, v) after ids (b, t), which join the cache."""
    logits: torch.Tensor = lm.model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=position,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits
    return logits[:, -1]


def _choose(
    logits: torch.Tensor, temperature: float, uniform: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the chosen tokens, and numbers that are finite only if all logits that count are."""
    if uniform is None:
        # NaN counts as the greatest, and after it infinity: the chosen one tells of either.
        chosen = logits.argmax(dim=-1)
        return chosen, logits.gather(1, chosen[:, None])
    # Inverse of the distribution function: one uniform number decides, whatever the batch.
    cumulative = (logits.double() / temperature).softmax(dim=-1).cumsum(dim=-1)
    target = uniform.to(cumulative)[:, None] * cumulative[:, -1:]
    places = torch.searchsorted(cumulative, target, right=True).flatten()
    return places.clamp(max=logits.shape[-1] - 1), cumulative[:, -1]
