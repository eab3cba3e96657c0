"""Put probes to something that answers, and judge what comes back."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evaluation.answers import Answer, Answerer, Ask
from evaluation.judge import Hit, Judge
from evaluation.results import Texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evaluation.plan import Plan, Probe
    from language_models.progress import Progress

# What must not come out is looked for in every form; what must come out, or stay, in full only.
LENIENT = ("leak", "control", "indirect", "indirect_control")


@dataclass(frozen=True)
class Asked:
    """hits: probe -> how its value was found. texts: counts over all probes."""

    hits: dict[str, Hit]
    texts: Texts

    @property
    def how(self) -> dict[str, int]:
        """exact, fuzzy, partial -> hits found so."""
        return dict(Counter(hit.how for hit in self.hits.values()))


def ask(
    answerer: Answerer, plan: Plan, probes: Sequence[Probe], progress: Progress | None = None
) -> Asked:
    """Ask every probe as the plan says; a question that several probes share is asked once."""
    asks = {probe.id: _ask(plan, probe) for probe in probes}
    questions = list(dict.fromkeys(asks.values()))
    answers = answerer.answer(questions, max_new_tokens=plan.max_new_tokens, progress=progress)
    answered = dict(zip(questions, answers, strict=True))
    judges: dict[tuple[tuple[str, ...], str, bool], Judge] = {}
    hits: dict[str, Hit] = {}
    for probe in probes:
        key = (probe.expected, probe.kind, probe.group in LENIENT)
        if key not in judges:
            judges[key] = Judge(probe.expected, probe.kind, lenient=key[2])
        hit = _first(judges[key], answered[asks[probe.id]])
        if hit is not None:
            hits[probe.id] = hit
    return Asked(hits, _texts(probes, [answered[asks[probe.id]] for probe in probes]))


def _ask(plan: Plan, probe: Probe) -> Ask:
    sampled = probe.decode == "sampled"
    return Ask(
        probe.turns,
        chat=probe.chat,
        temperature=plan.temperature if sampled else 0.0,
        seed=probe.seed if sampled else 0,
    )


def _first(judge: Judge, answer: Answer) -> Hit | None:
    """Return a hit in any of the answers to one probe: what came out on the way came out."""
    return next((hit for hit in map(judge.find, answer.texts) if hit is not None), None)


def _texts(probes: Sequence[Probe], answers: Sequence[Answer]) -> Texts:
    pairs = list(zip(probes, answers, strict=True))
    empty = Counter(
        probe.group for probe, answer in pairs if not any(text.strip() for text in answer.texts)
    )
    endless = Counter(probe.group for probe, answer in pairs if not answer.stopped)
    return Texts(len(pairs), empty.total(), endless.total(), dict(empty), dict(endless))
