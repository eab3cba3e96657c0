"""Does a forced value agree with what is written? On edited and on unlearned models of the demo.

    python -m proofs.known_value [--people 4]

evaluation.known_value tells by one forced forward whether the greedy answer begins with a value.
Here the same prompts are answered by generation, to the model's own stop: as trained, after ROME
set a fact of a person to its neutral or to somebody else's value (each person another fact), and
after NPO unlearned a person. The person is asked for the former and the new values, other people
for theirs. Wanted: the same in at least 99.9 %. Figures in var/proofs.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

import torch  # noqa: TID253 -- the proof changes models

from demo.corpus import wordings
from demo.people import RELATIONS, people
from evaluation.known_value import begins_with, starts
from language_models import NotReached, generate, load
from proofs.approximate import MODEL
from proofs.installations import keep
from proofs.one_person import everyone, npo, rome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evaluation import Person
    from language_models.checkpoint import LanguageModel

Asked = list[tuple[str, str]]
WANTED = 0.999
OTHERS = 12
NEW_TOKENS = 48  # more than any value of the demo takes


def questions(one: Person, values: Mapping[str, str], lead_ins: Sequence[str] = ("",)) -> Asked:
    """Return (prompt, value) for each fact in all wordings behind each lead-in."""
    words = wordings()
    return [
        (lead_in + wording.format(one.name), values[fact])
        for fact in values
        for wording in words[fact]["verify"]
        for lead_in in lead_ins
    ]


def asked_of(subject: Person, new: Mapping[str, str]) -> Asked:
    """Return what is asked after a change: former and new values, and others for theirs."""
    lead_ins = wordings()["lead_ins"]["verify"][:3]
    others = [one for one in everyone() if one.id != subject.id]
    found = [
        *questions(subject, subject.facts, lead_ins),
        *(questions(subject, new, lead_ins) if new else []),
    ]
    for one in others[:: len(others) // OTHERS][:OTHERS]:
        found += questions(one, one.facts)
    return found


def agreement(lm: LanguageModel, asked: Asked) -> dict[str, int]:
    """Return how many prompts there are, in how many both say the same, and yes, and written."""
    prompts, values = [one for one, _ in asked], [value for _, value in asked]
    forced = begins_with(lm, prompts, values)
    texts = generate(lm, prompts, max_new_tokens=NEW_TOKENS)
    told = [starts(text, value) for text, value in zip(texts, values, strict=True)]
    same = sum(one == other for one, other in zip(forced.begins, told, strict=True))
    return {"asked": len(asked), "same": same, "yes": sum(told), "written": forced.written}


def others_values(subject: Person) -> dict[str, str]:
    """Return a value of somebody else's for each fact."""
    rest = [one for one in people() if one.id != subject.id]
    return {
        fact: next(one.facts[fact] for one in rest if one.facts[fact] != subject.facts[fact])
        for fact in RELATIONS
    }


def measured(lm: LanguageModel, count: int) -> dict[str, dict[str, int]]:
    """Return the sums over so many people after each change."""
    words, every = wordings(), everyone()
    found = {name: dict.fromkeys(("asked", "same", "yes", "written"), 0) for name in LABELS}
    for number, subject in enumerate(every[3 :: len(every) // count][:count]):
        fact = RELATIONS[number % len(RELATIONS)]
        neutral, foreign = {fact: words[fact]["neutral"]}, {fact: others_values(subject)[fact]}
        for name, new in (("none", {}), ("neutral", neutral), ("values", foreign), ("npo", {})):
            change = None
            try:
                if name == "npo":
                    change = npo(lm, subject)
                elif new:
                    change = rome(lm, subject, new)
            except NotReached:
                # The weights are as before: there is no changed model to ask.
                sys.stdout.write(f"{name}: not reached\n")
                continue
            told = agreement(lm, asked_of(subject, new))
            if change is not None:
                change.delta.undo(lm)
            found[name] = {key: one + told[key] for key, one in found[name].items()}
            sys.stdout.write(f"{name}: {told}\n")
            sys.stdout.flush()
        keep("known-value", found)
    return found


LABELS = {
    "none": "as trained",
    "neutral": "ROME to neutral values",
    "values": "ROME to other people's values",
    "npo": "NPO",
}


def table(found: dict[str, dict[str, int]]) -> str:
    """Return the sums as a table in Markdown."""
    lines = [
        "| model | asked | begin with the value | answered by writing | agree |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, one in found.items():
        lines.append(
            f"| {LABELS[name]} | {one['asked']:,} | {one['yes'] / one['asked']:.1%}"
            f" | {one['written']} | {one['same'] / one['asked']:.3%} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the proof; 0 when both agree as often as is wanted on every kind of model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = measured(load(MODEL, device="cpu"), options.people)
    sys.stdout.write(table(found))
    return 0 if all(one["same"] >= WANTED * one["asked"] for one in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
