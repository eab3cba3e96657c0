"""A measurement plan: everything fixed before the change, so that the result cannot choose it.

Groups: "leak" (values that must no longer come out, asked for in the model's own wordings),
"control" (the same asked of people who do not exist: chance), "indirect" and "indirect_control"
(the same in the shipped forms and languages, which a model may understand or not), "reliability"
(the new value, in the wordings of the change), "new_value" (in others), "same_person" (facts of the
person that must stay), "others" (other people's facts), "general" (facts about nobody).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from language_models.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

GROUPS = (
    *("leak", "control", "indirect", "indirect_control", "reliability", "new_value"),
    *("same_person", "others", "general"),
)
# Other people by what they share with the person, nearest first; each stands in one class alone.
NEIGHBOURS = ("namesake", "same_value", "same_relation")


@dataclass(frozen=True)
class Person:
    """A person as far as probing needs them: fact name -> value that the model may give out.

    names: language -> the name as written there, where it differs from `name`. written: fact ->
    further ways of writing its value that are known for sure (a translation, another script).
    """

    id: str
    name: str
    facts: Mapping[str, str]
    language: str = "en"
    names: Mapping[str, str] = field(default_factory=dict)
    written: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class GeneralFact:
    """A prompt about nobody and the answer that follows it."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class Probe:
    """One question to the model: a hit when any `expected` value occurs in what it writes.

    earlier: what the user says before `prompt`; the model answers each of them first. chat: asked
    through the model's chat template. neighbour: the class of another person, see NEIGHBOURS.
    kind: what the value is (a telephone number, a date …), for the judge.
    """

    id: str
    group: str
    subject: str | None
    fact: str
    prompt: str
    expected: tuple[str, ...]
    decode: str = "greedy"
    seed: int = 0
    form: str = "statement"
    language: str = "en"
    kind: str = "text"
    earlier: tuple[str, ...] = ()
    chat: bool = False
    neighbour: str = ""

    @property
    def turns(self) -> tuple[str, ...]:
        """All that the user says, in order."""
        return (*self.earlier, self.prompt)


@dataclass(frozen=True)
class Memory:
    """What the scores of memorisation look at, beside the answers.

    own: texts of the person that were trained on. strangers: the same texts about people who do
    not exist. facts: fact -> prompts whose value is scored. values: fact -> value. rivals: fact ->
    values of the same kind that belong to others, among which the own value is ranked. beginnings:
    (fact, own text up to the value, the same of a stranger). relearnt: facts that an attack may
    learn again, with `lessons`: (sentence about the person, the same about the first stranger).
    """

    own: tuple[str, ...] = ()
    strangers: tuple[str, ...] = ()
    facts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)
    rivals: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    beginnings: tuple[tuple[str, str, str], ...] = ()
    relearnt: tuple[str, ...] = ()
    lessons: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Attack:
    """One attempt to bring the values back: a name of attacks.ATTACKS and its settings."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """All probes, scores and attacks with their settings; `digest` names the plan.

    held_out: texts whose perplexity stands for general ability. thresholds: what the policy
    demanded when the plan was made. bound: the leak rate that the probes are to exclude when
    nothing comes out. amends, reason: digest of the plan that this one replaces, and why.
    """

    probes: tuple[Probe, ...]
    max_new_tokens: int
    temperature: float
    seed: int
    judge: str = ""
    held_out: tuple[str, ...] = ()
    memory: Memory = field(default_factory=Memory)
    attacks: tuple[Attack, ...] = ()
    thresholds: Mapping[str, float] = field(default_factory=dict)
    bound: float | None = None
    amends: str = ""
    reason: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of the plan."""
        text = json.dumps(self.as_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as JSON values. It names the person: keep it with the case."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Plan:
        """Return the plan that `as_dict` wrote."""
        probes = tuple(
            Probe(**{**row, **{name: tuple(row.get(name, ())) for name in ("expected", "earlier")}})
            for row in stored["probes"]
        )
        attacks = tuple(Attack(**row) for row in stored.get("attacks", ()))
        rest = {
            "held_out": tuple(stored.get("held_out", ())),
            "memory": _memory(stored.get("memory", {})),
            "attacks": attacks,
        }
        return cls(**{**stored, **rest, "probes": probes})

    def amended(self, reason: str, **changes: Any) -> Plan:
        """Return a new plan with `changes`; what was frozen stays as it was.

        Raises RequestError without a reason, or when nothing changes.
        """
        if not reason.strip():
            raise RequestError("An amended plan needs its reason. Say why it is changed.")
        changed = replace(self, **changes)
        if changed == self:
            raise RequestError("The amended plan is the same. Keep the one that was frozen.")
        return replace(changed, amends=self.digest, reason=reason.strip())


def _memory(stored: Mapping[str, Any]) -> Memory:
    def texts(name: str) -> tuple[str, ...]:
        return tuple(stored.get(name, ()))

    def by_fact(name: str) -> dict[str, tuple[str, ...]]:
        return {fact: tuple(values) for fact, values in stored.get(name, {}).items()}

    return Memory(
        texts("own"),
        texts("strangers"),
        by_fact("facts"),
        dict(stored.get("values", {})),
        by_fact("rivals"),
        tuple((fact, own, other) for fact, own, other in stored.get("beginnings", ())),
        texts("relearnt"),
        tuple((own, other) for own, other in stored.get("lessons", ())),
    )
