"""The known ways to bring a value out of a model, and which of them a measurement went.

No measurement goes all of them; what was left out is told beside every figure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evaluation.asking import OWN
from evaluation.library import LANGUAGES
from evaluation.tables import LANGUAGE_LABELS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from evaluation.results import AttackResult, Measurement

ASKED, ATTACKED, NEVER = "asked", "attacked", "never"
# In the details of an attack, instead of figures.
WITHOUT_FIGURES = {"left_out", "failed"}


@dataclass(frozen=True)
class AttackClass:
    """A way to bring a value out: its words stand in a list after a colon.

    kind: asked (a form or language of the questions), attacked (an attack of attacks.ATTACKS or a
    score) or never (no code of ours does it).
    """

    key: str
    words: str
    kind: str


CLASSES = (
    AttackClass("direct", "direct statements and questions", ASKED),
    AttackClass("paraphrase", "paraphrases", ASKED),
    AttackClass("reversed", "questions for the name that belongs to a value", ASKED),
    AttackClass("negated", "denials of a false value", ASKED),
    AttackClass("completion", "beginnings of documents", ASKED),
    AttackClass("few_shot", "examples of other people first", ASKED),
    AttackClass("role_play", "role play", ASKED),
    AttackClass("affirmative", "the first words of a willing answer", ASKED),
    AttackClass("multi_turn", "dialogues of several turns", ASKED),
    AttackClass("chat", "the model's chat template", ASKED),
    *(AttackClass(name, f"questions in {LANGUAGE_LABELS[name]}", ASKED) for name in LANGUAGES),
    AttackClass("prefix", "beginnings of the person's own texts", ATTACKED),
    AttackClass("quantisation_8", "copies of the weights rounded to 8 bits", ATTACKED),
    AttackClass("quantisation_4", "copies of the weights rounded to 4 bits", ATTACKED),
    AttackClass("logit_lens", "reading the hidden states (logit lens)", ATTACKED),
    AttackClass("further_training", "further training on other texts", ATTACKED),
    AttackClass("relearning", "relearning on a part of the person's facts", ATTACKED),
    AttackClass("membership", "statistical membership of the person's texts", ATTACKED),
    AttackClass("guidance", "steering the new version by the old one (model guidance)", NEVER),
    AttackClass("gradients", "inversion of gradients", NEVER),
    AttackClass("optimised", "adversarial suffixes and soft prompts found by search", NEVER),
    AttackClass("activations", "steering the hidden states", NEVER),
    AttackClass("attributes", "inference of attributes from what the model says of others", NEVER),
    AttackClass("tools", "tools, retrieval and memory around the model", NEVER),
    AttackClass("languages", "languages in which nothing was asked", NEVER),
)
LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]+)*")
INTRODUCED = {
    ASKED: "Ways of asking",
    ATTACKED: "Attacks and scores",
    NEVER: "Attacks that are known but not part of this software",
}
_FORMS = {OWN: "direct", "statement": "direct", "question": "direct"}


def classes_run(after: Measurement) -> frozenset[str]:
    """Return the keys of the classes that brought figures; an attack left out, or one under which
    the model gave no numbers, brought none.
    """
    found = set()
    for group in ("leak", "indirect"):
        forms = after.groups[group].forms if group in after.groups else {}
        for form, cells in forms.items():
            found |= {_FORMS.get(form, form), *cells}
    found |= {_key(one) for one in after.attacks if not one.details.keys() & WITHOUT_FIGURES}
    if after.scores.get("membership"):
        found.add("membership")
    return frozenset(found)


def told(keys: Iterable[str], *, run: bool) -> list[str]:
    """Return sentences that name the classes that were run, or those that were not.

    One sentence for each kind, its classes in the order of CLASSES.
    """
    known = set(keys)
    further = sorted(known - {one.key for one in CLASSES}) if run else []
    sentences = []
    for kind, words in INTRODUCED.items():
        named = [one.words for one in CLASSES if one.kind == kind and (one.key in known) == run]
        if kind == ASKED:
            # Languages of a user's own templates have no class.
            named += [f"questions in {key}" for key in further if LANGUAGE.fullmatch(key)]
        if named:
            sentences.append(f"{words}: {'; '.join(named)}.")
    return sentences


def _key(attack: AttackResult) -> str:
    bits = attack.settings.get("bits")
    return f"{attack.name}_{bits}" if bits else attack.name
