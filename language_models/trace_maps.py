"""Heat maps of causal tracing: what each kind of output carries, by token and layer.

Five maps (ROME, section 2.1 and appendix B): one block output restored; the MLP or the attention
outputs of a window of layers restored; and one block output restored while the MLPs or the
attentions of its tokens stay as in the blurred run ("severed"). Where severing the MLPs lowers
the early layers, the MLPs there bring the fact.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch

from language_models.errors import RequestError
from language_models.modes import evaluating
from language_models.positions import ROLES, encoded, fill, locate
from language_models.restoring import Kind, Restored
from language_models.tracing import TraceCase, around, blurred_runs, by_role

if TYPE_CHECKING:
    from collections.abc import Sequence

    from language_models.checkpoint import LanguageModel
    from language_models.positions import Located

# ROME restores MLPs and attentions of 10 of 48 layers together.
WINDOW_SHARE = 10 / 48
MAPS: tuple[tuple[Kind, Kind | None], ...] = (
    ("block", None),
    ("mlp", None),
    ("attention", None),
    ("block", "mlp"),
    ("block", "attention"),
)


@dataclass(frozen=True)
class TraceMap:
    """Probability of the answer, rows x layers, as means over statements and noise samples.

    kind: what is restored. severed: what then stays as in the blurred run at the same tokens.
    window: layers restored together, around each one. rows: roles, or tokens of one statement.
    low, high: blurred with nothing restored, and undisturbed.
    """

    kind: Kind
    severed: Kind | None
    window: int
    rows: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    low: float
    high: float

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


@torch.inference_mode()
def maps(
    lm: LanguageModel,
    statements: Sequence[TraceCase],
    seed: int,
    *,
    window: int | None = None,
    tokens: bool = False,
    labels: Sequence[str] | None = None,
) -> list[TraceMap]:
    """Return the five maps of MAPS, by role, or by token where there is one statement.

    labels: what to call the tokens, see `token_labels`; without any they are named by role, so
    that no text of the statement is in the result. Raises RequestError without statements, and
    for tokens of several.
    """
    with evaluating(lm):
        return _maps(lm, statements, seed, window, labels, tokens=tokens)


def _maps(
    lm: LanguageModel,
    statements: Sequence[TraceCase],
    seed: int,
    window: int | None,
    labels: Sequence[str] | None,
    *,
    tokens: bool,
) -> list[TraceMap]:
    runs, prepared = blurred_runs(lm, statements, seed)
    width = window or max(1, round(WINDOW_SHARE * runs.layers))
    if tokens and len(prepared) > 1:
        raise RequestError("A map by token shows one statement. Give one, or trace by role.")
    found = []
    for kind, severed in MAPS:
        size = 1 if kind == "block" else width
        if tokens:
            where = prepared[0].where
            rows = tuple(labels or token_names(where))
            wanted = [
                Restored(0, (at,), kind, around(layer, size, runs), severed)
                for at in range(where.start, len(where.ids))
                for layer in range(runs.layers)
            ]
            flat = runs.chances(wanted)
            values = [flat[n : n + runs.layers] for n in range(0, len(flat), runs.layers)]
        else:
            layers = range(runs.layers)
            cells = by_role(runs, prepared, layers, kind=kind, severed=severed, window=size)
            rows, values = tuple(cells), list(cells.values())
        table = tuple(tuple(row) for row in values)
        low, high = fmean(runs.low), fmean(runs.high)
        found.append(TraceMap(kind, severed, size, rows, table, low, high))
    return found


def token_names(where: Located) -> list[str]:
    """Return a name per token from the subject on: its role, numbered where there are several."""
    names = {
        position: role if len(positions) == 1 else f"{role} {number}"
        for role in ROLES
        for positions in (where.tokens(role),)
        for number, position in enumerate(positions, start=1)
    }
    # The subject's last token may be the last of all.
    return [names[position] for position in range(where.start, len(where.ids))]


def token_labels(lm: LanguageModel, case: TraceCase) -> list[str]:
    """Return the text of each token from the subject on: personal data, for the caller alone."""
    text = fill(case.prompt, case.subject)
    where = locate(lm, case.prompt, case.subject)
    _, offsets = encoded(lm, text)
    return [text[start:end].strip() or "␣" for start, end in offsets[where.start :]]
