"""Read the law packs: one YAML file a law, versioned, each rule with its article."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

PACKS = Path(__file__).parent / "packs"


@dataclass(frozen=True)
class Ground:
    """A ground on which a request may be refused."""

    id: str
    article: str
    text: str


@dataclass(frozen=True)
class LawPack:
    """What one law says that this version of the flow uses."""

    id: str
    version: str
    name: str
    reviewed: bool
    removal_article: str
    correction_article: str
    deadline: dict[str, Any]
    refusal_grounds: tuple[Ground, ...]
    complaint: str
    recipients: str
    sources: tuple[str, ...]

    def ground(self, ground_id: str) -> Ground:
        """Raises KeyError for a ground this law does not know."""
        for ground in self.refusal_grounds:
            if ground.id == ground_id:
                return ground
        raise KeyError(f"{self.name} has no refusal ground {ground_id!r}.")


@lru_cache(maxsize=1)
def laws() -> dict[str, LawPack]:
    """All packs by id."""
    packs = {}
    for path in sorted(PACKS.glob("*.yaml")):
        raw = yaml.safe_load(path.read_text())
        raw["refusal_grounds"] = tuple(Ground(**ground) for ground in raw["refusal_grounds"])
        raw["sources"] = tuple(raw["sources"])
        packs[raw["id"]] = LawPack(**raw)
    return packs


def law(law_id: str) -> LawPack:
    """One pack. Raises KeyError naming those that exist."""
    packs = laws()
    if law_id not in packs:
        raise KeyError(f"No law pack {law_id!r}; there are {', '.join(packs)}.")
    return packs[law_id]
