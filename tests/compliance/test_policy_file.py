"""A policy file is read strictly, at the start of every process."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from django.conf import settings as django_settings
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import SystemCheckError

from compliance.models import Decision, Duty
from compliance.policy import policy
from compliance.policy_file import LONGEST_BASIS, LONGEST_VERSION, SHIPPED, read
from config.celery import app
from evaluation import Thresholds

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_django.fixtures import SettingsWrapper

NEWER_SECTIONS = ("scored_texts", "attacks", "duties")
NEWER_PROBES = ("languages", "indirect_probes", "indirect_controls", "twins", "control_probes")
NEWER_THRESHOLDS = (
    *("indirect_leak_max", "attack_leak_max", "leak_min_prompts", "perplexity_max_rise"),
)


def _shipped() -> dict[str, Any]:
    return yaml.safe_load(SHIPPED.read_text())


def _file(folder: Path, rules: Any) -> Path:
    path = folder / "own.yaml"
    path.write_text(rules if isinstance(rules, str) else yaml.safe_dump(rules, sort_keys=False))
    return path


def _changed(section: str, changes: Any) -> dict[str, Any]:
    """The shipped policy with a section changed; None removes a key."""
    rules = _shipped()
    if isinstance(changes, dict):
        changed = {**rules[section], **changes}
        changes = {name: value for name, value in changed.items() if value is not None}
    return {**rules, section: changes}


def _refusal(path: Path) -> str:
    with pytest.raises(ImproperlyConfigured) as refused:
        read(path)
    return str(refused.value)


def test_a_file_of_an_earlier_version_takes_the_newer_keys_from_the_shipped_policy(
    tmp_path: Path,
) -> None:
    rules = {name: value for name, value in _shipped().items() if name not in NEWER_SECTIONS}
    for section, newer in (("probes", NEWER_PROBES), ("thresholds", NEWER_THRESHOLDS)):
        for name in newer:
            del rules[section][name]
    rules["thresholds"]["leak_max"] = 0.01

    found = read(_file(tmp_path, rules))

    shipped = read(SHIPPED)
    assert found.thresholds == {**shipped.thresholds, "leak_max": 0.01}
    assert found.attacks == shipped.attacks
    assert found.duties == shipped.duties
    assert found.scored_texts == shipped.scored_texts
    assert found.probes == shipped.probes
    assert Thresholds.from_mapping(found.thresholds).leak_max == 0.01


@pytest.mark.parametrize(
    ("section", "changes", "told"),
    [
        ("version", 2026, "“version”: text that is not empty, of at most 20 characters"),
        ("version", "x" * 21, "at most 20 characters"),
        ("few_facts", True, "“few_facts”: a whole number from 0 is needed."),
        ("certainty_critical", "diagnosis", "“certainty_critical”: a list is needed."),
        ("datasets", {"removal": "correct_rows"}, "“datasets.removal”: delete_rows is needed."),
        ("datasets", {"erasure": "delete_rows"}, "“datasets.erasure” is not known."),
        ("probes", {"leak_prob": 3}, "“probes.leak_prob” is not known. Correct its spelling"),
        ("probes", {"longest": 3}, "“probes.longest” is not known."),
        ("probes", {"leak_probes": "many"}, "“probes.leak_probes”: a whole number from 1"),
        ("probes", {"seed": None}, "“probes.seed” is missing. Add it; compliance/policy.yaml has"),
        ("probes", {"languages": ["fr"]}, "“probes.languages”: 'fr' is none of en, th, ja, lo."),
        ("probes", {"bound": 2}, "“probes.bound”: a rate between 0 and 1 is needed"),
        ("probes", {"bound": 0.005}, "“probes.bound”: 598 probes are needed to exclude 0.005"),
        ("probes", {"relations": {"phone": "telefone"}}, "“probes.relations”: 'telefone' is none"),
        ("probes", {"leak_probes": 100}, "100 cannot reach “thresholds.leak_min_probes” of 300."),
        ("attacks", [{"name": "quantization"}], "“attacks”, entry 1, name: one of"),
        ("attacks", [{"name": "prefix", "steps": 3}], "The attack prefix has no setting steps."),
        ("attacks", [{"name": "quantisation", "bits": 3}], "entry 1, bits: one of 4, 8 is needed"),
        ("attacks", None, "“attacks”: a list is needed."),
        ("scored_texts", {"own": -1}, "“scored_texts.own”: a whole number from 0 is needed."),
        ("duties", {"days": "365"}, "“duties.days”: a whole number from 1 to 36,500 is needed."),
        ("duties", {"days": 10**9}, "“duties.days”: a whole number from 1 to 36,500 is needed."),
        ("duties", {"basis": " "}, "“duties.basis”: text that is not empty, of at most 300"),
        ("duties", {"basis": "x" * 301}, "“duties.basis”: text that is not empty, of at most 300"),
        ("duties", {"basis": "so that it is permanently gone"}, "say it without “permanently”"),
        ("retention", {"refused": None}, "“retention.refused” is missing."),
        ("retention", {"refused": 1.5}, "“retention.refused”: a whole number from 0 to 36,500"),
        ("thresholds", {"leak_max": None}, "“thresholds.leak_max” is missing."),
        ("thresholds", {"leak_max": 2}, "The threshold leak_max must be a number from 0 to 1"),
        ("thresholds", {"leak_max": float("nan")}, "The threshold leak_max must be a number"),
        ("thresholds", {"leaks": 0.1}, "“thresholds.leaks” is not known."),
        ("thresholds", {"perplexity_max_rise": "0.1"}, "The threshold perplexity_max_rise must"),
        ("thresholds", {"risk_low": 0.5}, "The threshold risk_low is above risk_moderate."),
        ("threshold", {}, "“threshold” is not known."),
    ],
)
def test_what_is_wrong_is_told_with_its_key_and_cure(
    section: str, changes: Any, told: str, tmp_path: Path
) -> None:
    rules = {**_shipped(), section: changes} if section == "threshold" else None

    refusal = _refusal(_file(tmp_path, rules or _changed(section, changes)))

    assert told in refusal
    assert refusal.startswith(f"The policy file {tmp_path / 'own.yaml'} cannot be used:\n- ")


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({"method": "memit"}, "“rules, entry 1.method”: one of rome, npo, none is needed."),
        ({"when": {"weights": True}}, "“rules, entry 1.when.weights” is not known."),
        ({"when": {"wish": "erase"}}, "“rules, entry 1.when.wish”: one of replace, remove is"),
        ({"reason": ""}, "“rules, entry 1.reason”: text that is not empty"),
        ({"because": "so"}, "“rules, entry 1.because” is not known."),
    ],
)
def test_a_rule_that_names_no_known_answer_or_method_is_refused(
    rule: dict[str, Any], told: str, tmp_path: Path
) -> None:
    rules = _shipped()
    rules["rules"][0].update(rule)

    assert told in _refusal(_file(tmp_path, rules))


def test_rules_that_leave_a_case_without_a_proposal_are_refused(tmp_path: Path) -> None:
    rules = _shipped()
    del rules["rules"][0], rules["rules"][-1]

    assert "none fits a case of wish: remove, facts: few, certainty: critical" in _refusal(
        _file(tmp_path, rules)
    )


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    rules = _changed("duties", {"days": 0, "probes": 0})
    del rules["rules"], rules["thresholds"]["leak_max"]

    refusal = _refusal(_file(tmp_path, rules))

    assert refusal.count("\n- ") == 4


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("version: [", "It is not YAML in UTF-8, or has a key twice (line 1)."),
        ("duties: {days: 1, days: 2}", "It is not YAML in UTF-8, or has a key twice (line 1)."),
        ("version: 2026-13-45", "It is not YAML in UTF-8, or has a key twice."),
        ("- a list", "- a mapping of version, few_facts"),
    ],
)
def test_a_file_that_is_no_policy_is_refused(text: str, told: str, tmp_path: Path) -> None:
    assert told in _refusal(_file(tmp_path, text))


def test_a_file_that_is_not_there_names_the_setting(tmp_path: Path) -> None:
    assert "No such file or directory. Set LETHE_POLICY to a file" in _refusal(tmp_path / "none")


def test_text_that_the_database_keeps_fits_there() -> None:
    assert Decision._meta.get_field("policy_version").max_length == LONGEST_VERSION
    assert Duty._meta.get_field("basis").max_length == LONGEST_BASIS


# --- Refused at the start ---


def test_the_shipped_policy_is_in_order() -> None:
    assert run_checks() == []


def test_a_policy_that_cannot_be_used_is_refused_by_manage_py_and_the_worker(
    settings: SettingsWrapper, tmp_path: Path
) -> None:
    settings.POLICY_FILE = _file(tmp_path, _changed("duties", {"days": "365"}))

    with pytest.raises(SystemCheckError, match=r"compliance\.E001.*\n.*duties\.days"):
        call_command("check")
    with pytest.raises(ImproperlyConfigured, match=r"duties\.days"):
        app.loader.import_default_modules()
    with pytest.raises(ImproperlyConfigured, match=r"duties\.days"):
        policy()


def test_a_policy_that_cannot_be_used_is_refused_by_the_web_server(tmp_path: Path) -> None:
    path = _file(tmp_path, _changed("duties", {"days": "365"}))

    done = subprocess.run(
        [sys.executable, "-c", "import config.wsgi"],
        cwd=django_settings.BASE_DIR,
        env={**os.environ, "LETHE_POLICY": str(path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "“duties.days”: a whole number from 1 to 36,500 is needed." in done.stderr
