"""GRACE's codebook (Hartvigsen et al. 2023): answers held beside the weights, behind one block.

Keys are what enters the block, as unit vectors; values are what leaves it. Where a token's key lies
in the ball around a key of the codebook, the block's output at that token is replaced by the value.
Everywhere else the model computes what it always did, bit for bit. The test is made at each token
by itself, so it does not depend on padding, batches or cached tokens.

A codebook holds answers back, and only while it is attached: the weights still carry the data, and
a paraphrase outside every ball still brings it out. It tells whom the edits are about: store it
encrypted.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from language_models.architecture import parts
from language_models.checkpoint import state_digest
from language_models.errors import DeltaError, RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from language_models.checkpoint import LanguageModel

FORMAT = "lethe-codebook-1"
# Keys nearer than this are one key: the later edit of the same prompt takes its place.
SAME = 1e-3
# Kept between balls that meet in the middle, so that no key lies in two (GRACE, algorithm 1).
GAP = 1e-5


@dataclass(frozen=True)
class Entry:
    """One prompt of an edit, with the radius asked for and the most that neighbours leave.

    answer: digest of the target; entries with one answer are not in conflict. share: of the way to
    a key of another answer that the ball may reach; where balls overlap the nearer key decides.
    grows: an entry of
    the same answer nearby widens this ball in place of its own.
    """

    edit: str
    answer: str
    radius: float
    most: float
    share: float
    grows: bool


@dataclass
class Codebook:
    """Entries with keys (n, d) and values (n, d) in float32, for one layer of one base model.

    base: digest of the weights it belongs to. made: number of edits ever made, for their ids.
    """

    base: str
    layer: int
    keys: Tensor
    values: Tensor
    entries: tuple[Entry, ...] = ()
    made: int = 0
    _handle: Any = field(default=None, repr=False, compare=False)
    _active: tuple[Tensor, Tensor, Tensor] | None = field(default=None, repr=False, compare=False)

    @property
    def edits(self) -> tuple[str, ...]:
        """The ids of the edits, in the order in which they were made."""
        return tuple(dict.fromkeys(entry.edit for entry in self.entries))

    @property
    def attached(self) -> bool:
        """Whether a model answers through this codebook now."""
        return self._handle is not None

    def with_entries(self, entries: Sequence[Entry], keys: Tensor, values: Tensor) -> Codebook:
        """Return a codebook, not attached, with entries added; keys are scaled to unit length."""
        new = {entry.edit for entry in entries}
        if new & set(self.edits):
            raise RequestError("An edit of this id is in the codebook already.")
        return Codebook(
            self.base,
            self.layer,
            torch.cat([self.keys, unit(keys).cpu()]),
            torch.cat([self.values, values.detach().float().cpu()]),
            (*self.entries, *entries),
            self.made + len(new),
        )

    def attach(self, lm: LanguageModel) -> None:
        """Let `lm` answer through this codebook. Raises DeltaError for other weights."""
        if self.attached:
            raise RequestError("The codebook is attached to a model. Detach it first.")
        if state_digest(lm.model) != self.base:
            raise DeltaError("The codebook belongs to other weights. Use the model it was made on.")
        self._refresh()
        self._handle = parts(lm.model).blocks[self.layer].register_forward_hook(self._replace)

    def detach(self) -> None:
        """Let the model answer by itself again, as if there had been no codebook."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def delete(self, edit: str) -> None:
        """Take one edit out, at once also where attached; the others are as if it had never been.

        Raises RequestError when the codebook does not have it.
        """
        kept = [number for number, entry in enumerate(self.entries) if entry.edit != edit]
        if len(kept) == len(self.entries):
            raise RequestError("The codebook has no edit of this id. Look at `edits`.")
        self.keys, self.values = self.keys[kept], self.values[kept]
        self.entries = tuple(self.entries[number] for number in kept)
        self._refresh()

    def radii(self) -> Tensor:
        """Return the radius of each entry's ball (n); below zero where it has none of its own.

        They follow from the entries alone, in their order, so that deleting an edit also gives
        back what its conflicts had taken from the others.
        """
        apart = torch.cdist(self.keys.double(), self.keys.double())
        limits = self._limits(apart).tolist()
        found: list[float] = []
        for number, entry in enumerate(self.entries):
            near = self._may_grow(number, apart, found, limits)
            if near is None:
                found.append(min(entry.radius, limits[number]))
            else:
                found[near] = max(found[near], float(apart[number, near]))
                found.append(-1.0)
        return torch.tensor(found, dtype=torch.float32)

    def to_bytes(self) -> bytes:
        """Return the codebook as the content of one safetensors file, to be encrypted at once."""
        told = {
            "base": self.base,
            "layer": self.layer,
            "made": self.made,
            "entries": [asdict(entry) for entry in self.entries],
        }
        tensors = {"keys": self.keys.contiguous(), "values": self.values.contiguous()}
        return save_tensors(tensors, metadata={"format": FORMAT, "codebook": json.dumps(told)})

    @classmethod
    def from_bytes(cls, content: bytes) -> Codebook:
        """Read what `to_bytes` wrote; raises DeltaError when it is damaged or something else."""
        try:
            tensors = load_tensors(content)
            head = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
            if head["__metadata__"]["format"] != FORMAT:
                raise DeltaError("This file is not a codebook of this version of Lethe.")
            told = json.loads(head["__metadata__"]["codebook"])
            entries = tuple(Entry(**row) for row in told["entries"])
            keys, values = tensors["keys"], tensors["values"]
            if not len(entries) == len(keys) == len(values):
                raise DeltaError("The codebook is damaged. Restore it.")
        except (SafetensorError, KeyError, ValueError, TypeError) as error:
            raise DeltaError("The codebook is missing or damaged. Restore it.") from error
        return cls(told["base"], told["layer"], keys, values, entries, told["made"])

    def _limits(self, apart: Tensor) -> Tensor:
        """Return how far each ball may reach: its share of the way to a key of another answer.

        An entry is below zero where a later one has the same key and another answer.
        """
        names = list(dict.fromkeys(entry.answer for entry in self.entries))
        answers = torch.tensor([names.index(entry.answer) for entry in self.entries])
        conflict = answers[:, None] != answers
        same = conflict & (apart < SAME)
        shares = torch.tensor([entry.share for entry in self.entries], dtype=apart.dtype)
        part = (apart * shares[:, None] - GAP).masked_fill(~conflict | same, float("inf"))
        most = torch.tensor([entry.most for entry in self.entries], dtype=apart.dtype)
        limits = torch.minimum(most, part.min(dim=1).values) if len(apart) else most
        return limits.masked_fill(same.triu().any(dim=1), -1.0)

    def _may_grow(
        self, number: int, apart: Tensor, found: list[float], limits: list[float]
    ) -> int | None:
        """Return the nearest earlier ball of the same answer that may grow to this key."""
        mine = self.entries[number]
        order: list[int] = apart[number, : len(found)].argsort().tolist()
        for other in order if mine.grows else ():
            theirs, distance = self.entries[other], float(apart[number, other])
            if distance > found[other] + mine.radius:
                return None
            if found[other] >= 0 and theirs.answer == mine.answer and distance <= limits[other]:
                return other
        return None

    def _refresh(self) -> None:
        radii = self.radii()
        kept = radii >= 0
        self._active = (self.keys[kept], self.values[kept], radii[kept])

    def _replace(self, _module: Any, args: tuple[Tensor, ...], output: Any) -> Any:
        """Forward hook: the values in place of the block's output at tokens in a ball."""
        if self._active is None or not len(self._active[0]):
            return None
        entering = args[0]
        keys, values, radii = (one.to(entering.device) for one in self._active)
        apart = distances(entering, keys)
        inside = apart <= radii
        nearest = apart.masked_fill(~inside, float("inf")).argmin(dim=-1)
        hit = inside.any(dim=-1)
        if not hit.any():
            return None
        leaving = output[0] if isinstance(output, tuple) else output
        changed = leaving.clone()
        changed[hit] = values[nearest[hit]].to(leaving)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed


def unit(states: Tensor) -> Tensor:
    """Return states (…, d) in float32, scaled to unit length."""
    return torch.nn.functional.normalize(states.detach().float(), dim=-1)


def distances(states: Tensor, keys: Tensor) -> Tensor:
    """Return the distance (…, n) of states (…, d), as unit vectors, from unit keys (n, d)."""
    cosine: Tensor = unit(states) @ keys.T
    return (2 - 2 * cosine).clamp(min=0).sqrt()
