"""Labelled answers for the judge: each written around a value, or around a near miss, by rule.

The label is known by how an answer is made. Nothing here uses the judge's code: written forms are
made by rules of their own, in `proofs.judge_forms`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from proofs import judge_forms as forms

if TYPE_CHECKING:
    from collections.abc import Callable

LANGUAGES = ("en", "th", "ja", "lo")
SEEDS = {"development": 11, "development_2": 2611, "development_3": 290, "held_out": 4407}
EACH = 30
TEXTS = Path(__file__).with_name("judge_cases.yaml")


@dataclass(frozen=True)
class Case:
    """One answer. leak: whether it gives out the value that `values` writes, of kind `kind`."""

    language: str
    group: str
    leak: bool
    kind: str
    values: tuple[str, ...]
    answer: str


@dataclass(frozen=True)
class Scene:
    """Frames and values of one language, and the chance to draw from them."""

    language: str
    texts: dict[str, Any]
    rng: random.Random

    def say(self, words: str) -> str:
        """Put words into one of the frames."""
        return str(self.rng.choice(self.texts["says"])).replace("{}", words)

    def pick(self, key: str) -> Any:
        """One of the values of a kind."""
        return self.rng.choice(self.texts[key])

    def word(self) -> str:
        """A word or a place, in Latin letters or in the language's own script."""
        return str(self.rng.choice(sorted(self.texts["near"])))


@cache
def _texts() -> dict[str, Any]:
    return dict(yaml.safe_load(TEXTS.read_text(encoding="utf-8")))


def cases(part: str, *, each: int = EACH) -> list[Case]:
    """Return `each` cases of every class and language of one of SEEDS."""
    found = []
    for language in LANGUAGES:
        rng = random.Random(f"{SEEDS[part]} {language}")  # noqa: S311 -- repeatable choice
        scene = Scene(language, _texts()[part][language], rng)
        for leak, rules in ((True, LEAKS), (False, NEAR_MISSES)):
            for group, rule in rules.items():
                for _ in range(each):
                    kind, value, words = rule(scene)
                    found.append(Case(language, group, leak, kind, (value,), words))
    return found


def _plain(scene: Scene) -> tuple[str, str, str]:
    kind, value = scene.rng.choice(_values(scene))
    return kind, value, scene.say(value)


def _values(scene: Scene) -> list[tuple[str, str]]:
    """One value of each kind."""
    rng, language = scene.rng, scene.language
    return [
        ("telephone", forms.telephone(language, rng).written),
        ("date", forms.date(rng).isoformat()),
        ("number", forms.amount(rng)),
        ("email", forms.email(rng)),
        ("address", scene.pick("streets")),
        ("name", scene.rng.choice(_names(scene))),
        ("text", scene.word()),
    ]


def _names(scene: Scene) -> list[str]:
    """The names as a store holds them: romanised, and in the language's own script."""
    found = [latin for latin, _ in scene.texts["names"]]
    if scene.language in ("th", "lo"):
        found += [native for _, native in scene.texts["names"]]
    return found + list(scene.texts.get("kanji", ()))


def _written(kind: str) -> Callable[[Scene], tuple[str, str, str]]:
    def rule(scene: Scene) -> tuple[str, str, str]:
        value, words = _form(kind, scene)
        return kind, value, scene.say(words)

    return rule


def _form(kind: str, scene: Scene) -> tuple[str, str]:
    rng, language = scene.rng, scene.language
    if kind == "telephone":
        number = forms.telephone(language, rng)
        return number.written, forms.telephone_form(number, language, rng)
    if kind == "date":
        day = forms.date(rng)
        return forms.stored_date(day, language, rng), forms.date_form(day, language, rng)
    if kind == "number":
        value = rng.choice([forms.amount, forms.identifier])(rng)
        return value, forms.number_form(value, language, rng)
    if kind == "email":
        value = forms.email(rng)
        return value, forms.email_form(value, language, rng)
    if kind == "address":
        value = scene.pick("streets")
        return value, forms.address_form(value, language, rng)
    if kind == "name":
        value = rng.choice(_names(scene))
        return value, forms.name_form(value, language, rng)
    value = scene.word()
    return value, forms.text_form(value, rng)


def _other_script(scene: Scene) -> tuple[str, str, str]:
    kind, key = scene.rng.choice([("name", "names"), ("text", "places")])
    latin, native = scene.rng.choice([pair for pair in scene.texts[key] if pair[1]])
    stored, said = scene.rng.choice([(latin, native), (native, latin)])
    return kind, stored, scene.say(said)


def _slip(scene: Scene) -> tuple[str, str, str]:
    choices = [("name", name) for name in _names(scene)]
    choices += [("text", word) for word in sorted(scene.texts["near"])]
    made = [(kind, value) for kind, value in choices if forms.can_slip(value, kind)]
    # Chinese characters have no slips: Latin values stand in where a language has too few.
    kind, value = scene.rng.choice(made)
    return kind, value, scene.say(forms.slip(value, kind, scene.rng))


def _cut_short(scene: Scene) -> tuple[str, str, str]:
    rng = scene.rng
    kind = rng.choice(["telephone", "telephone", "number", "email", "date"])
    if kind == "telephone":
        number = forms.telephone(scene.language, rng)
        return kind, number.written, scene.say(forms.telephone_cut(number, rng))
    if kind == "number":
        value = forms.identifier(rng)
        return kind, value, scene.say(forms.identifier_cut(value, rng))
    if kind == "email":
        value = forms.email(rng)
        frame = scene.pick("says")
        words = frame[: frame.index("{}")] + value[: value.index("@") + rng.randint(0, 4)]
        return kind, value, words
    day = forms.date(rng)
    return kind, day.isoformat(), scene.say(forms.day_and_month(day, scene.language, rng))


def _nothing(scene: Scene) -> tuple[str, str, str]:
    kind, value = scene.rng.choice(_values(scene))
    return kind, value, scene.pick("none")


def _near(kind: str) -> Callable[[Scene], tuple[str, str, str]]:
    def rule(scene: Scene) -> tuple[str, str, str]:
        value, words = _miss(kind, scene)
        return kind, value, scene.say(words)

    return rule


def _miss(kind: str, scene: Scene) -> tuple[str, str]:
    rng, language = scene.rng, scene.language
    if kind == "telephone":
        number = forms.telephone(language, rng)
        other = forms.other_telephone(number, language, rng)
        return number.written, other
    if kind == "date":
        day = forms.date(rng)
        return day.isoformat(), forms.other_date(day, language, rng)
    if kind == "number":
        value = rng.choice([forms.amount, forms.identifier])(rng)
        return value, forms.other_number(value, rng)
    if kind == "email":
        value = forms.email(rng)
        return value, forms.other_email(value, language, rng)
    if kind == "address":
        value, other = rng.sample(scene.texts["streets"], 2)
        return value, forms.other_address(value, other, language, rng)
    return "", ""


def _namesake(scene: Scene) -> tuple[str, str, str]:
    value = scene.rng.choice(_names(scene))
    others = [name for name in _names(scene) if name != value]
    words = forms.namesake(value, others, scene.texts["namesakes"], scene.rng)
    return "name", value, scene.say(words)


def _near_word(scene: Scene) -> tuple[str, str, str]:
    value = scene.word()
    return "text", value, scene.say(scene.rng.choice(scene.texts["near"][value]))


def _other_person(scene: Scene) -> tuple[str, str, str]:
    """Another person's value of the same kind, written in a usual form."""
    kind = scene.rng.choice(["telephone", "date", "number", "email", "name", "text"])
    value, _ = _form(kind, scene)
    for _ in range(50):
        other, words = _form(kind, scene)
        if other != value and not _one_person(scene, value, other):
            return kind, value, scene.say(words)
    raise AssertionError("No other value was drawn.")


def _one_person(scene: Scene, *names: str) -> bool:
    """Whether these are the names of one person in two scripts."""
    rows = [list(pair) for pair in scene.texts["names"]]
    for row, kanji in zip(rows, scene.texts.get("kanji", ()), strict=False):
        row.append(kanji)
    return any(all(name in row for name in names) for row in rows)


def _other_in_script(scene: Scene) -> tuple[str, str, str]:
    kind, key = scene.rng.choice([("name", "names"), ("text", "places")])
    pairs = [pair for pair in scene.texts[key] if pair[1]]
    (latin, native), (other_latin, other_native) = scene.rng.sample(pairs, 2)
    stored, said = scene.rng.choice([(latin, other_native), (native, other_latin)])
    return kind, stored, scene.say(said)


LEAKS: dict[str, Callable[[Scene], tuple[str, str, str]]] = {
    "as stored": _plain,
    "telephone forms": _written("telephone"),
    "date forms": _written("date"),
    "number forms": _written("number"),
    "e-mail forms": _written("email"),
    "address forms": _written("address"),
    "name forms": _written("name"),
    "case, accents, spaces": _written("text"),
    "other script": _other_script,
    "slips": _slip,
    "cut short": _cut_short,
}
NEAR_MISSES: dict[str, Callable[[Scene], tuple[str, str, str]]] = {
    "no value": _nothing,
    "another telephone": _near("telephone"),
    "another date": _near("date"),
    "another number": _near("number"),
    "another e-mail": _near("email"),
    "another address": _near("address"),
    "namesakes": _namesake,
    "near words": _near_word,
    "another person's value": _other_person,
    "another in other script": _other_in_script,
}
