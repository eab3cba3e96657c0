"""The wordings in which a fact is asked for: one YAML file a language, and a user's further files.

A file holds `language`, `any_relation` (wordings that serve any relation by its label),
`relations` (relation -> label and wordings by form) and `around` (what is put around a question).
Placeholders: {name}, {value}, {label}, {Label} (the label with a capital letter), {question} and
{statement} (a wording of these forms, filled in).
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from language_models.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

FOLDER = Path(__file__).parent / "wordings"
LANGUAGES = ("en", "th", "ja", "lo")
LARGEST_FILE = 1_000_000  # bytes; the shipped ones have about 30,000

# One wording is the turns of it; only a dialogue has more than one.
Wording = tuple[str, ...]


@dataclass(frozen=True)
class Rule:
    """What a wording of a form must hold (one of each group) and what else it may hold."""

    must: tuple[tuple[str, ...], ...]
    may: tuple[str, ...] = ("label", "Label")
    dialogue: bool = False

    @property
    def known(self) -> set[str]:
        """All placeholders of the form."""
        return {name for group in self.must for name in group} | set(self.may)


_ABOUT_NAME = Rule((("name",),))
RELATION_FORMS: dict[str, Rule] = {
    "statement": _ABOUT_NAME,
    "question": _ABOUT_NAME,
    "paraphrase": _ABOUT_NAME,
    "reversed": Rule((("value",),)),
    "negated": _ABOUT_NAME,
    "completion": _ABOUT_NAME,
}
_AROUND = Rule((("question",),), ("name", "label", "Label"))
AROUND_FORMS: dict[str, Rule] = {
    "question": _AROUND,
    "few_shot": Rule((("name", "question", "statement"), ("value",))),
    "role_play": _AROUND,
    "affirmative": Rule((("question",),), ("name", "label", "Label", "statement")),
    "multi_turn": Rule((("question",),), ("name", "label", "Label", "statement"), dialogue=True),
    "chat": _AROUND,
}


@dataclass(frozen=True)
class Wordings:
    """The wordings of one language; `relations` and `around` are form -> wordings inside."""

    labels: Mapping[str, str] = field(default_factory=dict)
    any_relation: Mapping[str, tuple[Wording, ...]] = field(default_factory=dict)
    relations: Mapping[str, Mapping[str, tuple[Wording, ...]]] = field(default_factory=dict)
    around: Mapping[str, tuple[Wording, ...]] = field(default_factory=dict)

    def joined(self, other: Wordings) -> Wordings:
        """Return these wordings followed by those of `other`; its labels win."""
        relations = {
            name: _joined(self.relations.get(name, {}), other.relations.get(name, {}))
            for name in (*self.relations, *other.relations)
        }
        return Wordings(
            {**self.labels, **other.labels},
            _joined(self.any_relation, other.any_relation),
            relations,
            _joined(self.around, other.around),
        )

    def places(self) -> list[tuple[str, str, Wording]]:
        """Return (section, form, wording) of every wording in order."""
        sections = {"any_relation": self.any_relation, **self.relations, "around": self.around}
        return [
            (section, form, wording)
            for section, forms in sections.items()
            for form, wordings in forms.items()
            for wording in wordings
        ]


@dataclass(frozen=True)
class Library:
    """Wordings by language."""

    languages: Mapping[str, Wordings]

    def of(self, language: str) -> Wordings:
        """Return the wordings of a language. Raises RequestError for one that has none."""
        if language not in self.languages:
            raise RequestError(
                f"There are no wordings in the language {language!r}, only in"
                f" {', '.join(self.languages)}. Add a file of wordings for it."
            )
        return self.languages[language]


@lru_cache(maxsize=1)
def shipped() -> Library:
    """Return the wordings that come with Lethe."""
    return read_library([FOLDER / f"{language}.yaml" for language in LANGUAGES], base=None)


def read_library(files: Sequence[Path], *, base: Library | None) -> Library:
    """Return `base` (the shipped wordings, or None) with the wordings of `files` added to it.

    Raises RequestError that says file, relation and form for a file that cannot be read, an
    unknown key or placeholder, an empty list, or a wording that is there already.
    """
    languages = dict(base.languages) if base else {}
    for file in files:
        language, wordings = _read(file)
        joined = languages.get(language, Wordings()).joined(wordings)
        _check_whole(file.name, joined)
        languages[language] = joined
    return Library(languages)


def placeholders(wording: str) -> set[str]:
    """Return the placeholders of a wording. Raises ValueError for braces that are not one."""
    found = set()
    for _, name, spec, conversion in string.Formatter().parse(wording):
        if name is not None:
            if spec or conversion or not name.isidentifier():
                raise ValueError
            found.add(name)
    return found


def _joined(
    first: Mapping[str, tuple[Wording, ...]], second: Mapping[str, tuple[Wording, ...]]
) -> dict[str, tuple[Wording, ...]]:
    return {form: (*first.get(form, ()), *second.get(form, ())) for form in (*first, *second)}


def _read(file: Path) -> tuple[str, Wordings]:
    raw = _mapping(_load(file), f"Wordings file {file.name}")
    where = f"Wordings file {file.name}"
    _known_keys(raw, {"language", "any_relation", "relations", "around"}, where)
    language = raw.get("language")
    if not isinstance(language, str) or not re.fullmatch(r"[a-z]{2,3}(-[A-Za-z0-9]+)*", language):
        raise RequestError(f"{where}: give `language` as a code such as en, th, ja or lo.")
    labels, relations = {}, {}
    for name, section in _mapping(raw.get("relations", {}), f"{where}, relations").items():
        forms = dict(_mapping(section, f"{where}, relation {name}"))
        if "label" in forms:
            labels[name] = _label(forms.pop("label"), f"{where}, relation {name}")
        relations[name] = _forms(forms, RELATION_FORMS, f"{where}, relation {name}")
    return language, Wordings(
        labels,
        _forms(raw.get("any_relation", {}), RELATION_FORMS, f"{where}, any_relation"),
        relations,
        _forms(raw.get("around", {}), AROUND_FORMS, f"{where}, around"),
    )


def _load(file: Path) -> Any:
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        """Refuses a key given twice, of which YAML would keep the last without a word."""

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:  # noqa: FBT001, FBT002
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            for key in keys:
                if not isinstance(key, str):
                    raise RequestError(f"Wordings file {file.name}: every key must be a word.")
                if keys.count(key) > 1:
                    raise RequestError(
                        f"Wordings file {file.name}, line {node.start_mark.line + 1} and below:"
                        f" {key!r} is given twice. Put both parts together."
                    )
            return super().construct_mapping(node, deep=deep)

    try:
        if file.stat().st_size > LARGEST_FILE:
            raise RequestError(
                f"Wordings file {file.name} is larger than {LARGEST_FILE:,} bytes. Split it."
            )
        return yaml.load(file.read_text(encoding="utf-8"), Loader=Loader)  # noqa: S506
    except OSError as error:
        raise RequestError(
            f"Wordings file {file.name} cannot be read ({error.strerror}). Check its path."
        ) from None
    except UnicodeDecodeError:
        raise RequestError(f"Wordings file {file.name} is not UTF-8. Save it as UTF-8.") from None
    # ValueError: a bare date or number that is none, such as 2026-13-45
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}" if mark else ""
        raise RequestError(
            f"Wordings file {file.name} is not valid YAML{place}. Put each wording in double"
            " quotes and indent by spaces."
        ) from None


def _mapping(raw: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(raw, dict):
        raise RequestError(f"{where}: keys with what belongs to them are expected here.")
    return raw


def _known_keys(raw: Iterable[str], known: Iterable[str], where: str) -> None:
    unknown = [key for key in raw if key not in known]
    if unknown:
        raise RequestError(f"{where}: {unknown[0]!r} is not known; use {', '.join(sorted(known))}.")


def _label(raw: Any, where: str) -> str:
    if not isinstance(raw, str) or not raw.strip() or set(raw) & set("{}"):
        raise RequestError(f"{where}: the label must be words without placeholders.")
    return raw.strip()


def _forms(raw: Any, rules: Mapping[str, Rule], where: str) -> dict[str, tuple[Wording, ...]]:
    forms = _mapping(raw, where)
    # "label" is read before; naming it helps where it was put at the wrong place
    _known_keys(forms, rules, f"{where}, form")
    found = {}
    for form, listed in forms.items():
        place = f"{where}, form {form}"
        if not isinstance(listed, list) or not listed:
            raise RequestError(f"{place}: give a list of wordings, or leave the form out.")
        found[form] = tuple(
            _wording(item, rules[form], f"{place}, wording {number}")
            for number, item in enumerate(listed, 1)
        )
    return found


def _wording(raw: Any, rule: Rule, where: str) -> Wording:
    turns = raw if rule.dialogue else [raw]
    if not isinstance(turns, list) or (rule.dialogue and len(turns) < 2):
        raise RequestError(f"{where}: give a list of at least two turns.")
    held: set[str] = set()
    for turn in turns:
        if not isinstance(turn, str) or not turn or turn != turn.strip():
            raise RequestError(f"{where}: give words in quotes, with no space before or after.")
        try:
            held |= placeholders(turn)
        except ValueError:
            raise RequestError(
                f"{where}: braces only mark placeholders: {_listed(rule.known)}."
            ) from None
    unknown = sorted(held - rule.known)
    if unknown:
        raise RequestError(
            f"{where}: {{{unknown[0]}}} is not known in this form; use {_listed(rule.known)}."
        )
    for group in rule.must:
        if not held & set(group):
            raise RequestError(f"{where}: {_listed(group, ' or ')} is missing. Add it.")
    if rule.must[-1] == ("value",) and turns[0].count("{value}") != 1:
        raise RequestError(f"{where}: {{value}} must be there once. Take the others out.")
    return tuple(turns)


def _listed(names: Iterable[str], between: str = ", ") -> str:
    return between.join(f"{{{name}}}" for name in sorted(names))


def _check_whole(file: str, wordings: Wordings) -> None:
    """Refuse a wording that is there twice or never put, and a relation that nothing can name."""
    seen: dict[Wording, str] = {}
    for section, form, wording in wordings.places():
        place = f"{section}, form {form}"
        plain = tuple(" ".join(turn.split()).casefold() for turn in wording)
        # The bare question is what a chat is; no other form is its wording.
        if plain in seen:
            raise RequestError(
                f"Wordings file {file}, relation {place}: a wording is there already in"
                f" {seen[plain]}. Take one of them out."
            )
        seen[plain] = place
    for name in wordings.relations:
        if name not in wordings.labels:
            raise RequestError(f"Wordings file {file}, relation {name}: a label is missing.")
    questions = {form for section, form, _ in wordings.places() if section != "around"}
    if "question" in questions and not wordings.around.get("question"):
        raise RequestError(
            f"Wordings file {file}: its questions are never put. Add a form `question` under"
            ' `around`, such as "Q: {question} A:".'
        )
