"""The policy file read strictly: every fault is told with its key and its cure, all at once.

What files of earlier versions lack is taken from the shipped policy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from django.core.exceptions import ImproperlyConfigured

from evaluation import Attack, Thresholds
from evaluation.design_file import FIELDS
from evaluation.risk import probes_needed
from language_models.errors import RequestError
from reports.wording import banned_words

from .models import Kind, Outcome
from .question_templates import templates

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Reader = Callable[[Any, str], Any]

SHIPPED = Path(__file__).parent / "policy.yaml"
METHODS = {
    "rome": ("Edit the facts in the weights (r-ROME)", "B"),
    "npo": ("Lower the influence in the weights (NPO with a retain set)", "B"),
    "delete_rows": ("Delete the person's rows from the training data", "A"),
    "correct_rows": ("Correct the value in the person's rows", "A"),
}
FOR_MODELS = ("rome", "npo")
# What the criteria of a case can answer.
ANSWERS: dict[str, tuple[Any, ...]] = {
    "wish": ("replace", "remove"),
    "facts": ("few", "many"),
    "certainty": ("standard", "critical"),
    "open_weights": (True, False),
    "training_ours": (True, False),
}
# What files of earlier versions lack.
NEWER = (
    *("scored_texts", "attacks", "duties"),
    *("scored_texts.own", "scored_texts.held_out", "duties.days", "duties.probes", "duties.basis"),
    *("probes.languages", "probes.indirect_probes", "probes.indirect_controls"),
    *("probes.twins", "probes.control_probes"),
    *("thresholds.indirect_leak_max", "thresholds.attack_leak_max"),
    *("thresholds.leak_min_prompts", "thresholds.perplexity_max_rise"),
)
LONGEST_VERSION, LONGEST_BASIS = 20, 300  # as the database keeps them
MOST_DAYS = 36_500


@dataclass(frozen=True)
class Policy:
    """The policy as read."""

    version: str
    few_facts: int
    certainty_critical: tuple[str, ...]
    rules: tuple[dict[str, Any], ...]
    datasets: dict[str, str]
    probes: dict[str, Any]
    scored_texts: dict[str, int]
    attacks: tuple[Attack, ...]
    thresholds: dict[str, float]
    retention: dict[str, int]
    duties: dict[str, Any]


def read(path: Path) -> Policy:
    """Read a policy file. Raises ImproperlyConfigured with all that is wrong in it."""
    try:
        found = Policy(**_FILE(_completed(_loaded(path)), ""))
        if faults := [*_faults_of_rules(found), *_faults_of_probes(found)]:
            raise RequestError(*faults)
    except RequestError as error:
        told = "\n".join(f"- {fault}" for fault in error.args)
        raise ImproperlyConfigured(
            f"The policy file {path} cannot be used:\n{told}\n"
            "Correct it, then start again; docs/operators.md tells what each key means."
        ) from None
    return found


class _Once(yaml.SafeLoader):
    """Refuses a key that stands twice, of which the last would win without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 -- as in yaml
        names = [str(key.value) for key, _ in node.value]
        if len(set(names)) < len(names):
            raise yaml.constructor.ConstructorError(problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


def _loaded(path: Path) -> Any:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Once)  # noqa: S506 -- a safe loader
    except OSError as error:
        raise RequestError(
            f"It cannot be read: {error.strerror}. Set LETHE_POLICY to a file that can, or leave it"
            " out for the shipped policy."
        ) from None
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        place = "" if mark is None else f" (line {mark.line + 1})"
        raise RequestError(f"It is not YAML in UTF-8, or has a key twice{place}.") from None


def _completed(given: Any) -> Any:
    """Fill in what files of earlier versions lack."""
    if isinstance(given, dict):
        shipped = _loaded(SHIPPED)
        for name in NEWER:
            section, _, key = name.partition(".")
            if not key:
                given.setdefault(section, shipped[section])
            elif isinstance(given.get(section), dict):
                given[section].setdefault(key, shipped[section][key])
    return given


# --- What holds across keys ---


def _faults_of_rules(found: Policy) -> Iterator[str]:
    """Tell a case for which no rule proposes anything."""
    for answers in product(*ANSWERS.values()):
        case = dict(zip(ANSWERS, answers, strict=True))
        if not any(rule["when"].items() <= case.items() for rule in found.rules):
            told = ", ".join(f"{question}: {answer}" for question, answer in case.items())
            yield f"“rules”: none fits a case of {told}. Add one with method: none for all else."
            return


def _faults_of_probes(found: Policy) -> Iterator[str]:
    known = templates().languages
    for language in found.probes["languages"]:
        if language not in known:
            yield f"“probes.languages”: {language!r} is none of {', '.join(known)}."
    relations = {name for wordings in known.values() for name in wordings.relations}
    for relation in found.probes.get("relations", {}).values():
        if relation not in relations:
            yield f"“probes.relations”: {relation!r} is none of {', '.join(sorted(relations))}."
    yield from _faults_of_bound(found.probes.get("bound"), found.probes["leak_probes"])
    probes, limits = found.probes["leak_probes"], found.thresholds
    for name in ("leak_min_probes", "leak_min_prompts"):
        if probes < limits[name]:
            yield (
                f"“probes.leak_probes”: {probes} cannot reach “thresholds.{name}” of"
                f" {limits[name]}. Raise the former or lower the latter."
            )


def _faults_of_bound(bound: float | None, probes: int) -> Iterator[str]:
    if bound is None:
        return
    if bound >= 1:
        yield f"“probes.bound”: a rate between 0 and 1 is needed, such as 0.02; {bound:g} is none."
    elif probes < (needed := probes_needed(bound)):
        yield (
            f"“probes.bound”: {needed} probes are needed to exclude {bound:g}, “probes.leak_probes”"
            f" is {probes}. Raise it, or the bound."
        )


# --- Readers of values: each raises RequestError with one argument a fault ---


def _wrong(where: str, needed: str) -> RequestError:
    return RequestError(f"“{where}”: {needed} is needed." if where else f"{needed} is needed.")


def _gathered(read: Callable[[Any], Any], values: Iterable[Any]) -> list[Any]:
    """Return each value as read, or raise RequestError with the faults of all."""
    found: list[Any] = []
    faults: list[str] = []
    for value in values:
        try:
            found.append(read(value))
        except RequestError as error:
            faults += error.args
    if faults:
        raise RequestError(*faults)
    return found


def _mapping(readers: Mapping[str, Reader], optional: Iterable[str] = ()) -> Reader:
    """Return a reader of known keys, all of which must be there but the optional ones."""
    needed = readers.keys() - set(optional)

    def read(value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _wrong(where, f"a mapping of {', '.join(readers)}")

        def key(name: str) -> Any:
            inside = f"{where}.{name}" if where else str(name)
            if name not in readers:
                raise RequestError(
                    f"“{inside}” is not known. Correct its spelling or remove it; known:"
                    f" {', '.join(readers)}."
                )
            if name not in value:
                raise RequestError(
                    f"“{inside}” is missing. Add it; compliance/policy.yaml has one."
                )
            return readers[name](value[name], inside)

        names = [*value, *(name for name in readers if name in needed and name not in value)]
        return dict(zip(names, _gathered(key, names), strict=True))

    return read


def _list(reader: Reader, least: int = 0) -> Reader:
    def read(value: Any, where: str) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) < least:
            raise _wrong(where, f"a list of at least {least}" if least else "a list")
        entries = range(len(value))
        return tuple(_gathered(lambda n: reader(value[n], f"{where}, entry {n + 1}"), entries))

    return read


def _text(longest: int | None = None) -> Reader:
    """Return a reader of one line; it may stand in a report, so it claims nothing of weights."""
    needed = "text that is not empty" + (f", of at most {longest} characters" if longest else "")

    def read(value: Any, where: str) -> str:
        line = " ".join(value.split()) if isinstance(value, str) else ""
        if not line or len(line) > (longest or len(line)):
            raise _wrong(where, f"{needed} (numbers and dates in quotes),")
        if banned := banned_words(line):
            raise RequestError(
                f"“{where}”: say it without “{banned[0]}”: of weights only a measured degree can be"
                " claimed."
            )
        return line

    return read


def _one_of(*choices: Any) -> Reader:
    def read(value: Any, where: str) -> Any:
        if value not in choices:
            told = ", ".join(str(one).lower() for one in choices)
            raise _wrong(where, f"one of {told}" if len(choices) > 1 else told)
        return value

    return read


def _whole(least: int, most: float = math.inf) -> Reader:
    def read(value: Any, where: str) -> int:
        if type(value) is not int or not least <= value <= most:
            upto = "" if most == math.inf else f" to {most:,}"
            raise _wrong(where, f"a whole number from {least}{upto}")
        return value

    return read


def _of_design(name: str) -> Reader:
    return lambda value, where: FIELDS[name](value, f"“{where}”")


def _thresholds(value: Any, where: str) -> dict[str, float]:
    as_given = dict.fromkeys((one.name for one in fields(Thresholds)), lambda given, _: given)
    found: dict[str, float] = _mapping(as_given, _OPTIONAL_THRESHOLDS)(value, where)
    Thresholds.from_mapping(found)
    return found


# --- The keys ---

_RULE = _mapping(
    {
        "when": _mapping({q: _one_of(*answers) for q, answers in ANSWERS.items()}, ANSWERS),
        "method": _one_of(*FOR_MODELS, "none"),
        "reason": _text(),
    }
)
_PROBES = (
    *("leak_probes", "indirect_probes", "indirect_controls", "twins", "control_probes"),
    *("temperature", "max_new_tokens", "other_people", "wordings_per_other", "seed"),
)
_OPTIONAL_PROBES = ("language", "relations", "bound")
_OPTIONAL_THRESHOLDS = ("empty_max", "endless_max")
_FILE = _mapping(
    {
        "version": _text(LONGEST_VERSION),
        "few_facts": _whole(0),
        "certainty_critical": _list(_text()),
        "rules": _list(_RULE, least=1),
        # Without a fact that is named there is no value to correct.
        "datasets": _mapping(
            {
                Kind.REMOVAL.value: _one_of("delete_rows"),
                Kind.CORRECTION.value: _one_of("correct_rows", "delete_rows"),
            }
        ),
        "probes": _mapping(
            {name: _of_design(name) for name in (*_PROBES, *_OPTIONAL_PROBES)}
            | {"languages": _list(_text())},
            _OPTIONAL_PROBES,
        ),
        "scored_texts": _mapping({"own": _whole(0), "held_out": _whole(0)}),
        "attacks": _of_design("attacks"),
        "duties": _mapping(
            {
                "days": _whole(1, MOST_DAYS),
                "probes": _whole(1),
                "basis": _text(LONGEST_BASIS),
            }
        ),
        "retention": _mapping(
            {name: _whole(0, MOST_DAYS) for name in (*Outcome.values, "stalled")}
        ),
        "thresholds": _thresholds,
    }
)
