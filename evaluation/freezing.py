"""A plan is frozen by somebody before the change, and by somebody else than who applies it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from evaluation.plan import Plan
from evaluation.private_files import write_new
from language_models.errors import RequestError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class FrozenPlan:
    """A plan with its digest, who froze it and when (ISO 8601 with offset)."""

    plan: Plan
    digest: str
    frozen_by: str
    frozen_at: str

    def require(self, *, applied_by: str, applied_at: datetime) -> None:
        """Refuse a change that was made by the same person, or before the plan was frozen.

        Raises RequestError, also for a time without its offset from UTC.
        """
        if applied_at.utcoffset() is None:
            raise RequestError("A change is made at a time with its offset from UTC.")
        if applied_by.strip().casefold() == self.frozen_by.strip().casefold():
            raise RequestError(
                "Who freezes a plan does not apply the change. Let somebody else do either."
            )
        if applied_at <= datetime.fromisoformat(self.frozen_at):
            raise RequestError("The change is older than its plan. Freeze a plan before a change.")

    def save(self, path: Path) -> None:
        """Write the plan once, for its owner alone: it names the person.

        Raises RequestError when the file exists.
        """
        row = {
            "plan": self.plan.as_dict(),
            "digest": self.digest,
            "frozen_by": self.frozen_by,
            "frozen_at": self.frozen_at,
        }
        stored = row | {"file_digest": _digest(row)}
        try:
            write_new((path, json.dumps(stored, ensure_ascii=False, indent=1).encode()))
        except FileExistsError:
            # The error itself names the file, which may name a person.
            raise RequestError(
                "There is a frozen plan of that name. It stays; amend it under another name."
            ) from None


def freeze(plan: Plan, *, by: str, at: datetime) -> FrozenPlan:
    """Freeze a plan. Raises RequestError without a name or without an offset of the time."""
    if not by.strip() or at.utcoffset() is None:
        raise RequestError("A plan is frozen by somebody, at a time with its offset from UTC.")
    return FrozenPlan(plan, plan.digest, by.strip(), at.isoformat(timespec="microseconds"))


def open_frozen(path: Path) -> FrozenPlan:
    """Read a frozen plan.

    Raises RequestError when it is not one, was written by an earlier version or changed since.
    """
    try:
        row: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        file_digest = row.pop("file_digest", None)
        plan = Plan.from_dict(row["plan"])
        found = FrozenPlan(plan, row["digest"], row["frozen_by"], row["frozen_at"])
        freeze(plan, by=found.frozen_by, at=datetime.fromisoformat(found.frozen_at))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RequestError):
        # The error itself may hold a part of the plan.
        raise RequestError("That file is not a frozen plan. Give the one that was saved.") from None
    if file_digest is None:
        raise RequestError(
            "An earlier version froze that plan and did not bind who froze it and when. Freeze its"
            " design anew."
        )
    if plan.digest != found.digest or _digest(row) != file_digest:
        raise RequestError("The plan was changed after it was frozen. Use the one that was frozen.")
    return found


def _digest(row: dict[str, Any]) -> str:
    """Return the SHA-256 of the whole file: the plan's own says nothing of who and when."""
    text = json.dumps(row, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
