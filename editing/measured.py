"""One method on a user's own facts, measured: what `compare` runs, a process per method.

As a program it reads one plan as JSON on the standard input and writes one row as JSON on the
standard output, so that no fact is in a file or on a command line. Errors that are not of this
project are told by kind and place, for their message may hold what they were about.
"""

from __future__ import annotations

import json
import resource
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editing import METHODS, edit
from editing.batches import undo
from editing.facts import facts_of
from editing.progress import Printed
from editing.scores import Examination, Scores
from language_models.checkpoint import load, state_digest
from language_models.errors import DeltaError, LetheError, NotReached
from language_models.methods import find, public_config
from language_models.settings import config_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    import torch

    from editing.facts import Fact
    from editing.requests import EditResult, Memory
    from language_models.checkpoint import LanguageModel
    from language_models.progress import Progress

MB = 10**6
_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def measure(
    lm: LanguageModel,
    facts: Sequence[Fact],
    method: str,
    config: Any,
    *,
    mode: str,
    batch_size: int,
    max_new_tokens: int,
    progress: Progress,
) -> dict[str, Any]:
    """Edit by one method, score by free generation, take everything back; return numbers only.

    mode "single": each fact alone on the original weights. "batch": all at once. "sequence": in
    batches one after another, all scored at the end. A part that is not reached stays undone and
    counts as it answers. Raises DeltaError when the weights do not come back bit for bit.
    """
    digest = state_digest(lm.model)
    examination = Examination(lm, facts, max_new_tokens=max_new_tokens, progress=progress)
    size = {"single": 1, "batch": len(facts), "sequence": batch_size}[mode]
    parts = [range(n, min(n + size, len(facts))) for n in range(0, len(facts), size)]
    work = _Work(lm, facts, method, config, progress)
    after = Scores()
    for number, part in enumerate(parts):
        progress("edits", number, len(parts))
        work.add(part)
        if mode == "single":
            after += examination.scores(lm, part, progress)
            work.undo()
    if mode != "single":
        after = examination.scores(lm, progress=progress)
        work.undo()
    if state_digest(lm.model) != digest:
        raise DeltaError("The weights did not come back bit for bit. Report this as an error.")
    before = sum((examination.before(part) for part in parts), Scores())
    return {
        **work.row(),
        "before": (before if mode == "single" else examination.before()).as_dict(),
        "after": after.as_dict(),
        "weights": digest,
    }


class _Work:
    """Edits made and not yet undone, with time, memory and size of all so far."""

    def __init__(
        self, lm: LanguageModel, facts: Sequence[Fact], method: str, config: Any, report: Progress
    ) -> None:
        self.lm, self.facts, self.method, self.config = lm, facts, method, config
        self.report = report
        self.made: list[EditResult] = []
        self.memory: Memory | None = None
        self.seconds = self.peak = self.relative = self.rounding = 0.0
        self.edits = self.reached = 0
        self.reason: str | None = None

    def add(self, part: range) -> None:
        """Edit the facts of `part` on the weights as they are."""
        requests = [self.facts[number].request for number in part]
        self.edits += len(requests)
        peak, started = _Peak(self.lm.device), time.perf_counter()
        try:
            result = edit(self.lm, requests, self.method, self.config, self.report, self.memory)
        except NotReached as error:
            self.reason = self.reason or str(error)
            result = None
        self.seconds += time.perf_counter() - started
        self.peak = max(self.peak, peak.bytes())
        if result is not None:
            self._keep(result)

    def _keep(self, result: EditResult) -> None:
        self.made.append(result)
        self.memory = result.memory
        self.reached += sum(bool(row["reached"]) for row in result.details["requests"])
        for change in result.delta.measures().values():
            self.relative = max(self.relative, change["relative"])
            self.rounding = max(self.rounding, change["rounding"] or 0.0)

    def undo(self) -> None:
        """Bring the weights back to what they were before the first edit."""
        while self.made:
            last = self.made.pop()
            undo(self.lm, last, self.made[-1].codebook if self.made else None)
        self.memory = None

    def row(self) -> dict[str, Any]:
        return {
            "config": public_config(self.config),
            "edits": self.edits,
            "reached": self.reached,
            "reason": self.reason,
            "seconds_per_edit": self.seconds / self.edits,
            "peak_mb": self.peak / MB,
            "relative": self.relative,
            "rounding": self.rounding,
        }


class _Peak:
    """The most memory in use since it was made: of the GPUs, else of this process."""

    def __init__(self, device: torch.device) -> None:
        import torch

        self.cuda = torch.cuda if device.type == "cuda" else None
        if self.cuda is not None:
            for number in range(self.cuda.device_count()):
                self.cuda.reset_peak_memory_stats(number)
        else:
            # 5: the highest resident size counts anew from here (proc(5)). Where that is not
            # allowed it counts from the start of the process.
            with suppress(OSError):
                _CLEAR.write_text("5", encoding="ascii")

    def bytes(self) -> int:
        if self.cuda is not None:
            count = self.cuda.device_count()
            return sum(self.cuda.max_memory_allocated(number) for number in range(count))
        if _STATUS.exists():
            lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
            (highest,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
            return int(highest) * 1024
        found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return found if sys.platform == "darwin" else found * 1024


def _row(plan: dict[str, Any]) -> dict[str, Any]:
    progress = Printed(plan["method"])
    try:
        chosen = find(METHODS, plan["method"])
        config = config_of(chosen, plan["settings"])
        progress("load", 0, 1)
        lm = load(plan["model"], device=plan["device"], dtype=plan["dtype"])
        row = measure(
            lm,
            facts_of(plan["facts"]),
            chosen.name,
            config,
            mode=plan["mode"],
            batch_size=plan["batch_size"],
            max_new_tokens=plan["max_new_tokens"],
            progress=progress,
        )
    except LetheError as error:
        return {"method": plan["method"], "refused": str(error)}
    return {"method": plan["method"], **row}


def place_of(error: BaseException) -> str:
    """Return the kind of an error and the line of this project it passed last, nothing else."""
    own = Path(__file__).parents[1]
    frames = traceback.extract_tb(error.__traceback__)
    passed = [frame for frame in frames if own in Path(frame.filename).parents] or frames
    if not passed:
        return type(error).__name__
    name = Path(passed[-1].filename)
    shown = name.relative_to(own) if own in name.parents else Path(name.name)
    return f"{type(error).__name__} at {shown}, line {passed[-1].lineno}"


def _tell(_kind: type[BaseException], error: BaseException, _where: TracebackType | None) -> None:
    sys.stdout.write(json.dumps({"failed": place_of(error)}) + "\n")


def main() -> None:
    """Carry out the plan on the standard input."""
    sys.excepthook = _tell
    sys.stdout.write(json.dumps(_row(json.load(sys.stdin))) + "\n")


if __name__ == "__main__":
    main()
