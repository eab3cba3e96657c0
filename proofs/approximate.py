"""What approximate methods leave behind on the demo model, each figure beside a control.

    python -m proofs.approximate [--people 10] [--methods npo simnpo altpo graddiff ceu]

Each person is unlearnt from the whole model until gates hold, in wordings that were not trained.
Then by further wordings, neither trained nor gated: how often the values still come out, also at
4 bits and after relearning a tenth of the person's texts; what others and general facts lost;
extraction strength and membership by loss and Min-K against people never trained on. The control
is a person whom the model never saw: asked, and learnt for the same steps. Figures in var/proofs.
"""

from __future__ import annotations

import argparse
import random
import sys
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import torch  # noqa: TID253 -- the proof trains models

from demo.corpus import records, wordings
from demo.people import RELATIONS, people
from evaluation import Design, GeneralFact, measure, plan
from evaluation import Person as Probed
from language_models import NotReached, load
from language_models.delta import copy_weights, restore_weights
from proofs.installations import keep
from proofs.memorisation import membership, token_scores
from unlearning import METHODS, Passage
from unlearning.gates import Gates, Question
from unlearning.records import Record
from unlearning.retain import retain_set
from unlearning.rows import Row, predictions, rows_of
from unlearning.settings import LoopConfig
from unlearning.sweep import sweep
from unlearning.weights import training

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from demo.people import Person
    from evaluation import Plan
    from language_models.checkpoint import LanguageModel

MODEL = Path(__file__).parents[1] / "demo" / "model"
SEED = 2580
GATED_WORDINGS = 7
# Stricter than what is promised, because the probes are others.
LEAK_GATE, RETAIN_DROP = 0.002, 0.015
# What is tried for each person; of what holds the gates the least invasive is kept.
GRID: dict[str, tuple[dict[str, float], ...]] = {
    "npo": ({"retain_weight": 40.0}, {"retain_weight": 80.0}),
    "simnpo": ({"retain_weight": 80.0}, {"retain_weight": 200.0}),
    "altpo": ({"retain_weight": 200.0}, {"retain_weight": 500.0}),
    "graddiff": (
        {"retain_weight": 30.0},
        {"retain_weight": 60.0},
        {"retain_weight": 300.0, "likely_power": 0.0, "learning_rate": 4e-4},
    ),
    "ceu": ({"retain_weight": 20.0}, {"retain_weight": 50.0}),
}
RELEARNING = {"share": 0.1, "steps": 20, "learning_rate": 3e-4}
# What the issue promises of each person.
LEAK_MAX = DROP_MAX = 0.02


def texts_of(person: Person) -> list[str]:
    """Return the training texts of a person of the demo."""
    return [row["text"] for row in records() if row["subject"] == person.id]


def never_trained() -> list[Person]:
    """Return people whose names the demo model has never met."""
    known = {one.name for one in people()}
    return [one for one in people(SEED) if one.name not in known]


def made_texts(person: Person, count: int) -> list[str]:
    """Return biographies as the corpus writes them."""
    words, rng = wordings(), random.Random(person.name)  # noqa: S311 -- seeded sampling
    found = []
    for _ in range(count):
        sentences: list[str] = []
        for fact in rng.sample(RELATIONS, len(RELATIONS)):
            begun = rng.random() < (0.15 if sentences else 0.6)
            lead_in = rng.choice(words["lead_ins"]["change"]) if begun else ""
            wording = rng.choice(words[fact]["change"]).format(person.name)
            sentences.append(f"{lead_in}{wording} {person.facts[fact]}.")
        found.append(" ".join(sentences))
    return found


def probes(person: Person) -> Plan:
    """Return the probes of a person, in wordings that neither corpus nor gates use."""
    words = wordings()
    asked = [Probed(one.id, one.name, one.facts) for one in people() if one.id != person.id]
    return plan(
        Design(
            subject=Probed(person.id, person.name, person.facts),
            others=asked,
            wordings={fact: words[fact]["verify"][GATED_WORDINGS:] for fact in RELATIONS},
            used=[wording for fact in RELATIONS for wording in words[fact]["change"]],
            leak=RELATIONS,
            general=[GeneralFact(row["verify"][0], row["answer"]) for row in words["world"]],
            lead_ins=words["lead_ins"]["verify"],
            other_people=len(asked),
            wordings_per_other=2,
        )
    )


def gates(person: Person) -> Gates:
    """Return what a run must hold, asked in wordings that the corpus never uses."""
    words, others = wordings(), [one for one in people() if one.id != person.id]
    own = [
        Question(wording.format(person.name), person.facts[fact])
        for fact in RELATIONS
        for wording in words[fact]["verify"][:GATED_WORDINGS]
    ]
    # Each other person in another wording and behind another lead-in: what suffers differs.
    lead_ins = ["", *words["lead_ins"]["change"]]
    retain = [
        Question(
            lead_ins[number % len(lead_ins)]
            + words[fact]["verify"][number % GATED_WORDINGS].format(one.name),
            one.facts[fact],
        )
        for number, one in enumerate(others)
        for fact in RELATIONS
    ]
    general = [Question(row["change"][0], row["answer"]) for row in words["world"]]
    return Gates(tuple(own), tuple(retain), tuple(general), LEAK_GATE, RETAIN_DROP)


def leak(lm: LanguageModel, asked: Plan) -> float:
    """Return how often the values of a person come out."""
    only = replace(asked, probes=tuple(one for one in asked.probes if one.group == "leak"))
    return measure(lm, only).groups["leak"].rate


def at_four_bits(lm: LanguageModel, look: Callable[[], float]) -> float:
    """Return what is found with every matrix rounded to 15 steps a row."""
    before = copy_weights(lm)
    with torch.no_grad():
        for weight in lm.model.parameters():
            if weight.dim() == 2:
                step = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / 7
                weight.copy_((weight / step).round() * step)
    found = look()
    restore_weights(lm, before)
    return found


def relearnt(lm: LanguageModel, texts: Sequence[str], look: Callable[[], float]) -> float:
    """Return what is found after training on a tenth of the texts; the weights stay."""
    rows: list[Row] = rows_of(lm, texts[: max(1, int(RELEARNING["share"] * len(texts)))], 512)
    with training(lm, LoopConfig()) as trained:
        adam = torch.optim.AdamW(trained.parameters, lr=RELEARNING["learning_rate"])
        for _ in range(int(RELEARNING["steps"])):
            adam.zero_grad()
            found = predictions(lm, rows)
            loss = found.losses.sum() / found.counts.sum()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
        shown = look()
        trained.restore()
    return shown


def retained(person: Person) -> tuple[str, ...]:
    """Return texts of others, half of them of people who share a name or a value."""
    known = [Record(row["id"], row["subject"], row["text"]) for row in records()]
    return retain_set(known, person.id, [person.name], list(person.facts.values())).texts


def settings(method: str, person: Person, texts: Sequence[str]) -> Any:
    """Return the defaults; for AltPO with the corpus' own neutral values as alternates."""
    if method != "altpo":
        return METHODS[method].config()
    words = wordings()
    alternates = []
    for text in texts:
        for fact in RELATIONS:
            text = text.replace(person.facts[fact], words[fact]["neutral"])
        alternates.append(text)
    return METHODS[method].config(alternates=tuple(alternates))


def one_run(
    lm: LanguageModel, method: str, person: Person, control: Person, asked: Plan, before: Any
) -> dict[str, Any]:
    """Unlearn one person by one method and return all figures; the weights come back."""
    texts = texts_of(person)
    passages = [Passage(text, tuple(person.facts.values())) for text in texts]
    config = settings(method, person, texts)
    tried = [(method, replace(config, **one)) for one in GRID.get(method, ({},))]
    try:
        result = sweep(lm, passages, retained(person), tried, gates(person))
    except NotReached as error:
        return {"held": False, "reason": str(error)}
    after = measure(lm, asked)
    strangers = token_scores(lm, made_texts(control, 24))
    found = {
        "leak": after.groups["leak"].rate,
        **{f"{name}_drop": round(before.groups[name].rate - after.groups[name].rate, 4)
           for name in ("others", "general")},
        "retain_weight": result.details["config"]["retain_weight"],
        "steps": result.details["steps"],
        "share": result.details["share"],
        "seconds": result.details["seconds"],
        "membership": membership(token_scores(lm, texts), strangers),
        "leak_at_four_bits": at_four_bits(lm, lambda: leak(lm, asked)),
        "leak_relearnt": relearnt(lm, texts, lambda: leak(lm, asked)),
    }  # fmt: skip
    result.delta.undo(lm)
    drops = (found["others_drop"], found["general_drop"])
    return {**found, "held": found["leak"] <= LEAK_MAX and max(drops) <= DROP_MAX}


def controls(lm: LanguageModel, person: Person, control: Person) -> dict[str, Any]:
    """Return the figures before unlearning, and of a person whom the model never saw."""
    strangers = token_scores(lm, made_texts(control, 24))
    asked = probes(control)
    return {
        "membership_before": membership(token_scores(lm, texts_of(person)), strangers),
        "strength": round(mean(one["strength"] for one in strangers), 3),
        "leak": leak(lm, asked),
        "leak_at_four_bits": at_four_bits(lm, lambda: leak(lm, asked)),
        "leak_relearnt": relearnt(lm, made_texts(control, 60), lambda: leak(lm, asked)),
    }


def main() -> int:
    """Run the proof; 0 when each person of each method was held to what is promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=10)
    chosen = ["npo", "simnpo", "altpo", "graddiff", "ceu"]
    parser.add_argument("--methods", nargs="+", default=chosen, choices=sorted(METHODS))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    lm, unknown = load(MODEL, device="cpu"), never_trained()
    result: dict[str, Any] = {"people": asked.people, "controls": []}
    for number, person in enumerate(people()[:: 64 // asked.people][: asked.people]):
        control, about = unknown[number % len(unknown)], probes(person)
        before = measure(lm, about)
        result["controls"].append(controls(lm, person, control))
        for method in asked.methods:
            told = one_run(lm, method, person, control, about, before)
            result.setdefault(method, []).append(told)
            sys.stdout.write(f"{method}, person {number + 1}: {told}\n")
            sys.stdout.flush()
            keep("-".join(["approximate", *asked.methods]), result)
    return 0 if all(one["held"] for method in asked.methods for one in result[method]) else 1


if __name__ == "__main__":
    sys.exit(main())
