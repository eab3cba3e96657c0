"""Many edits, batch after batch, each checked against all that came before.

After each batch every earlier edit is scored again together with what must stay. A batch that
breaks a limit, or is not reached, is taken back bit for bit and tried again in halves, until the
facts that break it stand alone; those are left out. One bad fact among n costs at most
2 log2(n) + 1 tries.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

from editing import edit
from editing.facts import Fact
from editing.requests import EditRequest
from editing.scores import MAX_NEW_TOKENS, Examination
from language_models.delta import combine
from language_models.errors import ConflictingRequests, NotReached, RequestError
from language_models.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from editing.codebook import Codebook
    from editing.requests import EditResult, Memory
    from editing.scores import Scores
    from language_models.checkpoint import LanguageModel
    from language_models.delta import WeightDelta


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What all edits so far must hold after each batch, as shares; None: not looked at.

    reliability and generalization: the least. locality, same_person and general: the most that
    may be lost against the unedited model.
    """

    reliability: float | None = 0.9
    generalization: float | None = None
    locality: float | None = 0.05
    same_person: float | None = 0.05
    general: float | None = 0.03

    def __post_init__(self) -> None:
        if any(not 0 <= value <= 1 for value in asdict(self).values() if value is not None):
            raise RequestError("Each limit is a share between 0 and 1.")

    def broken(self, before: Scores, now: Scores) -> str | None:
        """Return which limits do not hold, in words, or None."""
        found = []
        for name in ("reliability", "generalization"):
            least, rate = getattr(self, name), getattr(now, name).rate
            if least is not None and rate is not None and rate < least:
                found.append(f"{name} is {rate:.2f}, below {least:.2f}")
        for name in ("locality", "same_person", "general"):
            most, rate, first = getattr(self, name), getattr(now, name).rate, getattr(before, name)
            if most is not None and rate is not None and first.rate - rate > most + 1e-12:
                found.append(f"{name} fell by {first.rate - rate:.2f}, more than {most:.2f}")
        return "; ".join(found) or None


@dataclass(frozen=True)
class Round:
    """One batch that was kept.

    facts: their numbers, from 0. scores: of all edits so far, after this batch. by_batch: scores
    of each kept batch up to this one after it: one row of the interference matrix.
    """

    facts: tuple[int, ...]
    seconds: float
    scores: Scores
    by_batch: tuple[Scores, ...]
    details: dict[str, Any]


@dataclass(frozen=True)
class BatchedResult:
    """All that was applied as one change, and what was left out: fact number -> reason.

    before and after: scores of the applied facts. tries: how many edits were computed. codebook:
    where answers are held beside the weights, attached to the model (GRACE).
    """

    delta: WeightDelta
    memory: Memory | None
    rounds: tuple[Round, ...]
    left_out: dict[int, str]
    before: Scores
    after: Scores
    tries: int
    codebook: Codebook | None = None

    def revert(self, lm: LanguageModel) -> str:
        """Bring `lm` back bit for bit, whichever way it was changed; return its state digest."""
        if self.codebook is not None:
            self.codebook.detach()
        return self.delta.revert(lm)

    @property
    def applied(self) -> tuple[int, ...]:
        """Numbers of the facts that were applied, from 0."""
        return tuple(number for one in self.rounds for number in one.facts)

    def interference(self, measure: str = "reliability") -> list[list[float | None]]:
        """Return the lower triangle: row r, column c is batch c's rate after batch r."""
        return [[getattr(scores, measure).rate for scores in one.by_batch] for one in self.rounds]

    def as_dict(self) -> dict[str, Any]:
        """Return numbers and reasons, no text of any fact."""
        return {
            "applied": list(self.applied),
            "left_out": {str(number): reason for number, reason in self.left_out.items()},
            "tries": self.tries,
            "before": self.before.as_dict(),
            "after": self.after.as_dict(),
            "curve": [one.scores.as_dict() for one in self.rounds],
            "interference": self.interference(),
            "rounds": [{"facts": list(one.facts), "seconds": one.seconds, **one.details}
                       for one in self.rounds],
        }  # fmt: skip


def edit_in_batches(
    lm: LanguageModel,
    facts: Sequence[Fact | EditRequest],
    method: str = "memit",
    config: Any = None,
    *,
    batch_size: int,
    limits: Limits | None = None,
    progress: Progress | None = None,
    memory: Memory | None = None,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> BatchedResult:
    """Edit `lm` in place by batches of at most `batch_size` facts, in the order given.

    `result.revert(lm)` takes everything back bit for bit. memory: as for `editing.edit`.
    Errors other than NotReached and ConflictingRequests leave the weights as they were before.
    """
    if batch_size < 1 or not facts:
        raise RequestError("Give at least one fact and a batch size of at least 1.")
    given = [Fact(one) if isinstance(one, EditRequest) else one for one in facts]
    run = _Run(lm, given, method, config, limits or Limits(), progress or silent, memory)
    run.examine(max_new_tokens)
    waiting = deque(
        tuple(range(start, min(start + batch_size, len(given))))
        for start in range(0, len(given), batch_size)
    )
    finished = False
    try:
        while waiting:
            batch = waiting.popleft()
            broken = run.attempt(batch)
            if broken is not None and len(batch) == 1:
                run.left_out[batch[0]] = broken
            elif broken is not None:
                middle = len(batch) // 2
                waiting.extendleft((batch[middle:], batch[:middle]))
            run.report("batches", len(given) - sum(map(len, waiting)), len(given))
        result = run.result()
        finished = True
    finally:
        if not finished:
            run.take_back()
    return result


def undo(lm: LanguageModel, made: EditResult, before: Codebook | None) -> None:
    """Take one edit back; `before` is the codebook that was attached when it was made."""
    if made.codebook is not None:
        made.codebook.detach()
        if before is not None:
            before.attach(lm)
    made.delta.undo(lm)


class _Run:
    """The batches that were kept so far and what they left."""

    def __init__(
        self,
        lm: LanguageModel,
        facts: Sequence[Fact],
        method: str,
        config: Any,
        limits: Limits,
        report: Progress,
        memory: Memory | None,
    ) -> None:
        self.lm, self.facts, self.method, self.config = lm, facts, method, config
        self.limits, self.report, self.memory = limits, report, memory
        # A codebook is memory and change in one; other memories are nowhere attached.
        self.first = cast("Codebook", memory) if getattr(memory, "attached", False) else None
        self.rounds: list[Round] = []
        self.made: list[EditResult] = []
        self.left_out: dict[int, str] = {}
        self.tries = 0

    def examine(self, max_new_tokens: int) -> None:
        self.examination = Examination(
            self.lm, self.facts, max_new_tokens=max_new_tokens, progress=self.report
        )

    def attempt(self, batch: tuple[int, ...]) -> str | None:
        """Apply a batch and keep it, or take it back and return why."""
        self.tries += 1
        started = time.perf_counter()
        try:
            made = edit(
                self.lm,
                [self.facts[number].request for number in batch],
                self.method,
                self.config,
                self.report,
                self.memory,
            )
        except (NotReached, ConflictingRequests) as error:
            return str(error)
        seconds = time.perf_counter() - started
        # From here on an error takes this batch back with the others.
        self.made.append(made)
        return self._judge(batch, made, seconds)

    def _judge(self, batch: tuple[int, ...], made: EditResult, seconds: float) -> str | None:
        groups = [*(one.facts for one in self.rounds), batch]
        numbers = [number for group in groups for number in group]
        answers = self.examination.ask(self.lm, numbers, self.report)
        scores = self.examination.scored(answers, numbers)
        broken = self.limits.broken(self.examination.before(numbers), scores)
        if broken is not None:
            undo(self.lm, self.made.pop(), self._codebook())
            return broken
        by_batch = tuple(self.examination.scored(answers, group) for group in groups)
        self.rounds.append(Round(batch, seconds, scores, by_batch, made.details))
        self.memory = made.memory
        return None

    def take_back(self) -> None:
        """Undo all batches, the last first."""
        while self.made:
            undo(self.lm, self.made.pop(), self._codebook())

    def _codebook(self) -> Codebook | None:
        """Return the codebook of the last edit that is kept."""
        return self.made[-1].codebook if self.made else self.first

    def result(self) -> BatchedResult:
        applied = [number for one in self.rounds for number in one.facts]
        before = self.examination.before(applied)
        return BatchedResult(
            combine(self.lm, [made.delta for made in self.made]),
            self.memory,
            tuple(self.rounds),
            self.left_out,
            before,
            self.rounds[-1].scores if self.rounds else before,
            self.tries,
            self._codebook(),
        )
