"""What a server said of itself while it answered, and what speaks against believing it."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from evaluation.endpoint_format import FILTERED
from evaluation.endpoint_transport import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evaluation.answers import Answer, Ask
    from evaluation.endpoint_format import Said

# Further draws of prompts asked before, none of them different: a peaked model may do that, but
# not so often.
MANY_DRAWS = 20


class Record:
    """model: the name asked for; known_as: further names for the same.

    listed: whether /models lists it ("yes", "no", "not told"; None: not looked up). repeated:
    (greedy or sampled, whether the second answer was the same) -> how often.
    """

    def __init__(self, model: str, known_as: frozenset[str]) -> None:
        self.names = {printable(name) for name in (model, *known_as)}
        self.listed: str | None = None
        self.repeated: Counter[tuple[str, bool]] = Counter()
        self._named: Counter[str] = Counter()
        self._fingerprints: Counter[str] = Counter()
        self._servers: Counter[str] = Counter()
        self._texts = self._empty = self._filtered = 0
        self._further = self._same = 0

    def add(self, said: Said, server: str) -> None:
        """Write down one answer."""
        self._named[said.model] += 1
        self._fingerprints[said.fingerprint] += 1
        self._servers[server] += 1
        self._texts += 1
        self._empty += not said.shown.strip()
        self._filtered += said.finish == FILTERED

    def draws(self, asks: Sequence[Ask], answers: Sequence[Answer]) -> None:
        """Compare the draws of prompts that were asked with several seeds."""
        found: defaultdict[tuple[tuple[str, ...], bool, float], dict[int, tuple[str, ...]]]
        found = defaultdict(dict)
        for ask, answer in zip(asks, answers, strict=True):
            if ask.temperature > 0:
                found[ask.turns, ask.chat, ask.temperature][ask.seed] = answer.texts
        for drawn in found.values():
            first, *others = drawn.values()
            self._further += len(others)
            self._same += sum(texts == first for texts in others)

    def told(self) -> dict[str, str]:
        """Return what is known, as words."""
        return {
            "named": _listing(self._named, "no model named"),
            "listed": self.listed or "not looked up",
            "server": _listing(self._servers, "not told"),
            "fingerprints": _listing(self._fingerprints, "not told"),
            "texts": str(self._texts),
            "empty": str(self._empty),
            "greedy_repeats": self._repeats("greedy"),
            "seeds_repeat": self._repeats("sampled"),
            "draws": f"{self._same} of {self._further} further draws equal the first",
        }

    def problems(self) -> tuple[str, ...]:
        """Return why nothing may be concluded from the answers."""
        found = []
        total = self._named.total()
        nameless = self._named[""]
        foreign = sum(n for name, n in self._named.items() if name and name not in self.names)
        if foreign:
            found.append(
                f"The server names another model than the one asked for in {foreign} of {total}"
                " answers. If that is the same model, tell its other name."
            )
        if nameless:
            found.append(f"The server names no model in {nameless} of {total} answers.")
        if len([name for name in self._named if name]) > 1:
            found.append("The name of the model changes from answer to answer.")
        if self.listed == "no":
            found.append("The server's list of models does not hold the one asked for.")
        if self._filtered:
            found.append(f"The server withheld {self._filtered} of {total} answers by a filter.")
        if self._further >= MANY_DRAWS and self._same == self._further:
            found.append(
                f"All {self._further} further draws equal the first: the server seems to ignore the"
                " temperature."
            )
        return tuple(found)

    def _repeats(self, kind: str) -> str:
        same, other = self.repeated[kind, True], self.repeated[kind, False]
        if not same + other:
            return "not asked"
        return f"{'yes' if not other else 'no'}, {same} of {same + other}"


def _listing(found: Counter[str], nothing: str) -> str:
    return ", ".join(sorted(name for name in found if name)[:10]) or nothing
