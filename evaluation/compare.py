"""The verdict: which thresholds a change held, and the residual risk as a degree with its bound.

"passed" needs every criterion held and figures that can be relied on; "failed" is a criterion that
did not hold, one of leaks also beside figures that cannot be relied on; all else is "unknown".
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from evaluation.criteria import COUNTED, LEAKS, Criterion, criteria_of
from evaluation.reliance import problems_of
from evaluation.residual_risk import ResidualRisk, residual_risk
from evaluation.thresholds import Thresholds
from language_models.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evaluation.results import Measurement

__all__ = ["Criterion", "ResidualRisk", "Thresholds", "Verdict", "compare", "residual_risk"]

PASSED, FAILED, UNKNOWN = "passed", "failed", "unknown"


@dataclass(frozen=True)
class Verdict:
    """All criteria, the outcome with its reasons, and the residual risk (None without leaks).

    outcome: passed, failed or unknown; reasons: what did not hold or cannot be relied on.
    """

    criteria: tuple[Criterion, ...]
    outcome: str
    reasons: tuple[str, ...]
    residual_risk: ResidualRisk | None

    @property
    def passed(self) -> bool:
        """Whether every criterion held and the figures can be relied on."""
        return self.outcome == PASSED

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        criteria = [asdict(criterion) | {"reason": criterion.reason} for criterion in self.criteria]
        return {**asdict(self), "criteria": criteria, "passed": self.passed}


def compare(
    before: Measurement,
    after: Measurement,
    thresholds: Thresholds | Mapping[str, float] | None = None,
) -> Verdict:
    """Judge a change by two measurements of one plan. Raises RequestError when plans differ."""
    if before.plan_digest != after.plan_digest:
        raise RequestError("The two measurements follow different plans. Measure both by one plan.")
    limits = (
        thresholds
        if isinstance(thresholds, Thresholds)
        else Thresholds.from_mapping(thresholds or {})
    )
    problems = problems_of(before, after, limits)
    criteria = criteria_of(before, after, limits) if before.groups and after.groups else ()
    broken = [one for one in criteria if not one.held]
    outcome = _outcome(broken, sure=bool(criteria) and not problems)
    reasons = [one.reason for one in broken]
    known = not problems
    risk = residual_risk(before, after, limits, known=known) if "leak" in after.groups else None
    # What decided comes first.
    every = (*reasons, *problems) if outcome == FAILED else (*problems, *reasons)
    return Verdict(criteria, outcome, every, risk)


def _outcome(broken: Sequence[Criterion], *, sure: bool) -> str:
    """sure: whether the figures can be relied on.

    What came out came out all the same, as for a duty; any other figure shows nothing then.
    """
    if any(one.name in LEAKS for one in broken):
        return FAILED
    if not sure:
        return UNKNOWN
    if any(one.name not in COUNTED for one in broken):
        return FAILED
    # Too few answers show nothing, neither way.
    return UNKNOWN if broken else PASSED
