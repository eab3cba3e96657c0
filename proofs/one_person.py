"""An evaluation of one person, part by part on the clock, before and after two changes.

    python -m proofs.one_person [--person 5] [--threads 2] [--changes npo rome]

300 leak probes in four languages, 100 controls and every attack but relearning, on the demo model:
before and after unlearning all facts by NPO as a case does it, and before and after ROME sets one
fact to its neutral value. Wanted: less than 60 seconds for each evaluation on two idle cores.
Prints the tables of evaluation.tables; figures in var/proofs.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch  # noqa: TID253 -- the proof changes a model

from demo.corpus import records, wordings
from demo.people import RELATIONS, people
from editing import EditRequest, edit
from editing.rome import RomeConfig
from evaluation import Attack, Design, GeneralFact, Person, measure, plan
from evaluation.tables import tables
from language_models import load
from proofs.approximate import MODEL
from proofs.installations import keep
from unlearning import unlearn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from evaluation import Measurement, Plan
    from language_models.checkpoint import LanguageModel

LEAKS, CONTROLS = 300, 100
EDITED = "employer"
NEUTRAL = {EDITED: wordings()[EDITED]["neutral"]}
NEIGHBOURS = 32
OWN_TEXTS, HELD_OUT, RETAIN = 24, 64, 2000
NEW_TOKENS = 40
WANTED_SECONDS = 60.0
ATTACKS = (
    Attack("quantisation", {"bits": 8}),
    Attack("quantisation", {"bits": 4}),
    Attack("prefix"),
    Attack("logit_lens"),
    Attack("further_training"),
)


@dataclass
class Clock:
    """Seconds of each part, on the wall and of all cores. A part begins where its stage is told;
    parts of one name, as an attack with two settings, are added up.
    """

    seconds: dict[str, list[float]] = field(default_factory=dict)
    _last: tuple[str, float, float] | None = None

    def told(self, stage: str, done: int, _total: int) -> None:
        """Take a report of progress."""
        if self._last is None or self._last[0] != stage:
            self.stop()
            self._last = (stage, time.perf_counter(), time.process_time())

    def stop(self) -> None:
        """End the part that runs."""
        if self._last is not None:
            stage, wall, processor = self._last
            spent = self.seconds.setdefault(stage, [0.0, 0.0])
            spent[0] += time.perf_counter() - wall
            spent[1] += time.process_time() - processor
        self._last = None

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what runs inside as one part."""
        self.told(name, 0, 1)
        try:
            yield
        finally:
            self.stop()


def everyone() -> list[Person]:
    """Return the people of the demo with their names in their own scripts."""
    return [
        Person(
            one.id, one.name, one.facts, one.language,
            {one.language: one.native_name} if one.native_name != one.name else {},
        )
        for one in people()
    ]  # fmt: skip


def design(subject: Person, changed: Mapping[str, str] | None = None) -> Design:
    """Return what the plan is to be about, as a case designs it: all facts of one person.

    changed: the fact that is edited alone -> its new value; the others must stay.
    """
    words, rows = wordings(), records()
    new = changed or {}
    return Design(
        subject=subject,
        others=[one for one in everyone() if one.id != subject.id],
        wordings={fact: words[fact]["verify"] for fact in RELATIONS},
        used=[
            *(wording for fact in RELATIONS for wording in words[fact]["change"]),
            *words["lead_ins"]["change"],
        ],
        leak=list(new) or RELATIONS,
        new_values=new,
        given={fact: words[fact]["change"][:6] for fact in new},
        keep=[fact for fact in RELATIONS if fact not in new] if new else [],
        general=[GeneralFact(row["verify"][0], row["answer"]) for row in words["world"]],
        lead_ins=words["lead_ins"]["verify"],
        languages=("en", "th", "ja", "lo"),
        longest=512 - NEW_TOKENS,
        twins=4,
        leak_probes=LEAKS,
        control_probes=CONTROLS,
        own_texts=[row["text"] for row in rows if row["subject"] == subject.id][:OWN_TEXTS],
        held_out=[row["text"] for row in rows if row["subject"] is None][:HELD_OUT],
        max_new_tokens=NEW_TOKENS,
        temperature=0.8,
        attacks=ATTACKS,
    )


def npo(lm: LanguageModel, subject: Person) -> Any:
    """Unlearn all texts of the person with the method's own settings."""
    rows = records()
    own = [row["text"] for row in rows if row["subject"] == subject.id]
    others = [row["text"] for row in rows if row["subject"] != subject.id]
    # Spread over all, for the rows go by person.
    return unlearn(lm, own, others[:: max(1, len(others) // RETAIN)], "npo")


def rome(lm: LanguageModel, subject: Person, new: Mapping[str, str] = NEUTRAL) -> Any:
    """Set facts of the person by ROME; other people and the person's other facts are to stay."""
    words = wordings()
    others = [one for one in everyone() if one.id != subject.id][:NEIGHBOURS]
    kept = [words[fact]["change"][0].format(one.name) for fact in new for one in others]
    kept += [
        wording.format(subject.name)
        for fact in RELATIONS
        if fact not in new
        for wording in words[fact]["change"][:4]
    ]
    requests = [
        EditRequest(
            subject=subject.name,
            prompt=words[fact]["change"][0],
            target=f"{value}.",
            paraphrases=tuple(words[fact]["change"][1:]),
            neighbours=tuple(kept),
        )
        for fact, value in new.items()
    ]
    config = RomeConfig(lead_ins=tuple(words["lead_ins"]["change"]))
    return edit(lm, requests, config=config)


CHANGES: dict[str, tuple[Callable[[LanguageModel, Person], Any], Mapping[str, str] | None]] = {
    "npo": (npo, None),
    "rome": (rome, NEUTRAL),
}


def measured(lm: LanguageModel, frozen: Plan) -> tuple[Measurement, dict[str, Any]]:
    """Measure with all attacks, and return the seconds of each part and of all."""
    clock, load_average = Clock(), os.getloadavg()[0]
    wall, processor = time.perf_counter(), time.process_time()
    found = measure(lm, frozen, clock.told)
    clock.stop()
    return found, {
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - processor,
        "parts": clock.seconds,
        "load_average": load_average,
    }


def proof(number: int, changes: Sequence[str]) -> dict[str, Any]:
    """Measure one person before and after each change; the weights come back between them."""
    lm, subject = load(MODEL, device="cpu"), everyone()[number]
    result: dict[str, Any] = {"threads": torch.get_num_threads(), "times": {}, "tables": {}}
    for name in changes:
        change, new = CHANGES[name]
        frozen = plan(design(subject, new))
        before, spent = measured(lm, frozen)
        result["times"][f"before {name}"] = spent
        say(times(result["times"]))
        clock = Clock()
        with clock.part("change"):
            changed = change(lm, subject)
        after, spent = measured(lm, frozen)
        changed.delta.undo(lm)
        result["times"][f"after {name}"] = {**spent, "change": clock.seconds["change"]}
        result["tables"][name] = tables(before, after)
        result.setdefault("asked", {})[name] = {
            "probes": len(frozen.probes),
            "leak_prompts": len({one.turns for one in frozen.probes if one.group == "leak"}),
            "answers": after.texts.answers,
            "cut_off": after.texts.endless,
        }
        keep("one-person", result)
        say(f"{name}, change {_cell(clock.seconds['change'])}, {result['asked'][name]}")
        say(shown(result["tables"][name]))
    return result


def times(found: dict[str, Any]) -> str:
    """Return the seconds of each part as a table in Markdown: wall, and all cores in brackets."""
    parts = list(dict.fromkeys(part for one in found.values() for part in one["parts"]))
    lines = [f"| part | {' | '.join(found)} |", "|---|" + "---:|" * len(found)]
    for part in parts:
        cells = [_cell(one["parts"].get(part, (0.0, 0.0))) for one in found.values()]
        lines.append(f"| {part} | {' | '.join(cells)} |")
    whole = [_cell((one["seconds"], one["cpu_seconds"])) for one in found.values()]
    loads = [f"{one['load_average']:.1f}" for one in found.values()]
    lines += [f"| all | {' | '.join(whole)} |", f"| load before | {' | '.join(loads)} |"]
    return "\n".join(lines) + "\n"


def _cell(pair: tuple[float, float] | list[float]) -> str:
    return f"{pair[0]:.1f} s ({pair[1]:.1f})"


def shown(found: dict[str, list[dict[str, Any]]]) -> str:
    """Return the tables of evaluation.tables as Markdown."""
    lines = []
    for name, head in (("leak", "probes"), ("neighbours", "answers that should stay")):
        lines += [f"| {head} | n | before | after |", "|---|---:|---:|---:|"]
        for row in found[name]:
            sides = [
                f"{row[side]:.1%} ({row[f'{side}_low']:.1%} to {row[f'{side}_high']:.1%})"
                for side in ("before", "after")
            ]
            lines.append(f"| {row['label']} | {row['probes']} | {' | '.join(sides)} |")
        lines.append("")
    lines += ["| attack | n | before | after | at most | chance | others |", "|---|" + "---:|" * 6]
    for row in found["attacks"]:
        rates = [row[name] for name in ("before", "after", "after_high", "chance", "others")]
        cells = ["-" if one is None else f"{one:.1%}" for one in rates]
        lines.append(f"| {row['key']} | {row['probes']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def say(text: str) -> None:
    """Write at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run the proof; 0 when each evaluation took less than what is wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--person", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--changes", nargs="+", default=list(CHANGES), choices=list(CHANGES))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    result = proof(options.person, options.changes)
    say(times(result["times"]))
    return 0 if all(one["seconds"] < WANTED_SECONDS for one in result["times"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
