"""The documents cannot drift: what exists is in them, and what they name exists."""

from __future__ import annotations

import math
import re
from pathlib import Path

from django.conf import settings

from compliance import policy
from compliance.law import laws
from compliance.models import Outcome, VersionState
from compliance.statuses import Status
from evaluation import Measurement, Probe, clopper_pearson_upper, compare
from evaluation.results import group_results
from evaluation.risk import probes_needed
from language_models.methods import GUARANTEES
from reports.wording import banned_words
from unlearning import METHODS
from unlearning.__main__ import COMMANDS
from unlearning.guarantee import guarantee
from unlearning.request_files import KEY_VARIABLE

ROOT = Path(settings.BASE_DIR)
DOCS = {path.name: path.read_text() for path in [*ROOT.glob("docs/*.md"), ROOT / "README.md"]}
ALL = "\n".join(DOCS.values())


def test_every_setting_is_documented() -> None:
    source = (ROOT / "config/settings.py").read_text()
    for name in re.findall(r'"([A-Z]+_[A-Z_]+)"', source):
        if name.startswith("LETHE_") or name in ("DATABASE_URL", "BROKER_URL", "EMAIL_URL"):
            assert f"`{name}`" in DOCS["operators.md"], name


def test_every_command_is_documented_and_tested() -> None:
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    for path in (ROOT / "compliance/management/commands").glob("*.py"):
        if path.stem != "__init__":
            assert path.stem in DOCS["operators.md"]
            assert path.stem in tests, f"no test names the command {path.stem}"
    for target in re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE):
        if target not in ("install", "install-test", "lint"):
            assert f"`make {target}`" in DOCS["operators.md"], target


def test_every_status_method_and_law_is_documented() -> None:
    for status in Status.values:
        assert status in DOCS["officers.md"]
    for outcome in Outcome.values:
        assert outcome in DOCS["officers.md"]
    for state in VersionState.values:
        assert state in DOCS["stewards.md"]
    for method in policy.METHODS:
        assert f"`{method}`" in DOCS["stewards.md"]
    for law in laws():
        assert f"`{law}`" in DOCS["legal.md"]


def test_every_command_and_method_of_unlearning_is_documented() -> None:
    text = DOCS["unlearning.md"]
    for command in COMMANDS:
        assert f"python -m unlearning {command} " in text, command
    for method in METHODS:
        assert f"| `{method}` |" in text, method
    assert f"`{KEY_VARIABLE}`" in text


def test_the_words_of_each_class_stand_in_the_document_as_results_say_them() -> None:
    said: dict[str, list[str]] = {}
    for letter in GUARANTEES:
        told = guarantee(letter)
        assert f"| {letter} | {told.claim} |" in DOCS["unlearning.md"]
        for sentence in (*told.conditions, *told.limits):
            said.setdefault(sentence, []).append(letter)
    rows = re.findall(r"^\| (.+\.) \| ([ABC′, ]+|all) \|$", DOCS["unlearning.md"], re.MULTILINE)
    every = ", ".join(GUARANTEES)
    assert {one: every if letters == "all" else letters for one, letters in rows} == {
        sentence: ", ".join(letters) for sentence, letters in said.items()
    }


def test_every_link_and_picture_exists() -> None:
    for name, text in DOCS.items():
        folder = ROOT if name == "README.md" else ROOT / "docs"
        for link in re.findall(r"\]\(([^)#]+)", text):
            if not link.startswith("http"):
                assert (folder / link).exists(), f"{name}: {link}"


def test_no_absolute_words_in_what_people_read() -> None:
    pages = [*ROOT.glob("templates/**/*.html"), *ROOT.glob("reports/templates/*.html")]
    packs = [*ROOT.glob("compliance/law/packs/*.yaml"), ROOT / "compliance/policy.yaml"]
    for path in [*pages, *packs]:
        assert banned_words(path.read_text()) == [], path
    assert banned_words(ALL) == []


def test_the_sentence_that_may_be_promised_is_one_that_a_report_says() -> None:
    # One fact of the demo: 14 wordings with 6 lead-ins, in as many answers as the policy asks for.
    asked = [Probe(f"p-{n}", "leak", "c", "fact", f"{n % 84}", ("x",)) for n in range(320)]
    nothing = Measurement("", group_results(asked, set()), {"leak": ()})
    risk = compare(nothing, nothing).residual_risk

    quoted = re.search("in the words of the report: “(.+?)”", " ".join(DOCS["legal.md"].split()))

    assert quoted is not None
    assert risk is not None
    assert quoted[1] in risk.statement


def test_wordings_that_stewards_are_told_to_have_make_enough_prompts() -> None:
    text = " ".join(DOCS["stewards.md"].split())
    least = int(policy.policy().thresholds["leak_min_prompts"])

    assert f"`leak_min_prompts` ({least} in the shipped one" in text
    assert f"With 6 lead-ins that is {math.ceil(least / 6)} wordings" in text
    assert least == probes_needed(0.05)
    assert f"(84 prompts, the demo) {clopper_pearson_upper(0, 84) * 100:.1f} %" in text
    assert f"{probes_needed(0.01)} prompts 1 %" in text
