"""What a change is measured by, and what is refused before anything is changed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from compliance import heavy_models, policy, registry, store, vault
from compliance.measure_plan import plan_for
from compliance.models import Decision, Target
from evaluation.attacks import again
from language_models.errors import RequestError
from tests.compliance import factories

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_django.fixtures import SettingsWrapper

pytestmark = pytest.mark.django_db
TEMPLATE = "{{ messages[0]['content'] }}"
# As many as are asked for in the shipped policy: 60 questions of one fact.
LEAD_INS = [f"From page {n} of the archive: " for n in range(6)]
VERIFY = [f"Entry {n} names the birthplace of {{}} as" for n in range(10)]


@pytest.fixture(autouse=True)
def store_of_its_own(settings: SettingsWrapper, tmp_path: Path) -> None:
    settings.STORE_DIR = tmp_path / "store"


def _wordings(**changes: Any) -> dict[str, Any]:
    fact = {**factories.WORDINGS["birth_city"], "verify": VERIFY}
    lead_ins = {"change": [""], "verify": LEAD_INS}
    return {**factories.WORDINGS, "birth_city": fact, "lead_ins": lead_ins, **changes}


def _measure(method: str, wordings: dict[str, Any], **files: Any) -> tuple[Target, Decision]:
    """A decision on a model that lies in the store with `files` beside its settings."""
    bank = factories.organisation()
    records = factories.dataset(bank)
    model = factories.model(bank, dataset=records)
    model.wordings = store.put_json(wordings, vault.house_key())
    model.save()
    folder = store.model_path(registry.current_model(model).digest)
    folder.mkdir(parents=True)
    for name, row in ({"config": {"max_position_embeddings": 512}} | files).items():
        (folder / f"{name}.json").write_text(json.dumps(row))
    case = factories.case(bank)
    case.subject.on_file = factories.MALEE
    case.subject.save()
    target = factories.target(case, model, {"birth_city": 9})
    decision = Decision.objects.create(
        case=case, target=target, method=method, reasons="ok", outcome="pending",
        parameters={"facts": ["birth_city"]}, proposed_at=timezone.now(),
    )  # fmt: skip
    return target, decision


def _forms(made: dict[str, Any]) -> set[str]:
    return {probe["form"] for probe in made["probes"]}


def test_wordings_that_make_too_few_questions_are_refused_with_what_to_add() -> None:
    wordings = _wordings(lead_ins={"change": [""], "verify": LEAD_INS[:4]})

    with pytest.raises(RequestError) as refused:
        plan_for(*_measure("npo", wordings))

    assert str(refused.value) == (
        "The model's wordings make 40 different questions of birth_city; the policy asks for 59"
        " (leak_min_prompts). With 4 lead-ins under “verify” each fact named needs 15 different"
        " wordings under “verify”. Add wordings or lead-ins."
    )


def test_wordings_that_make_as_many_questions_as_asked_for_are_taken() -> None:
    made = plan_for(*_measure("npo", _wordings()))

    prompts = {probe["prompt"] for probe in made["probes"] if probe["group"] == "leak"}
    assert len(prompts) == 60


@pytest.mark.parametrize(
    "wording", ["{} was born in", "Somebody wrote down that Malee Tanaka {} was born in"]
)
def test_wording_that_the_change_is_given_is_named_by_its_template(wording: str) -> None:
    fact = {**_wordings()["birth_city"], "verify": [*VERIFY, wording]}
    if "Tanaka" in wording:
        fact["change"] = [wording]

    with pytest.raises(RequestError, match="used as well") as refused:
        plan_for(*_measure("npo", _wordings(birth_city=fact)))

    assert ("“{} was born in”" in str(refused.value)) == (wording == "{} was born in")
    for personal in ("Malee", "Tanaka", "Sakawa"):
        assert personal not in str(refused.value)


def test_wording_that_stands_in_a_record_of_the_person_is_named_by_its_template() -> None:
    # The record reads “Malee Tanaka was born in Sakawa.”; a change by unlearning is given it.
    fact = {**_wordings()["birth_city"], "change": ["{} comes from"]}
    fact["verify"] = [*VERIFY, "{} was born in"]
    lead_ins = {"change": [""], "verify": ["", *LEAD_INS]}

    with pytest.raises(RequestError) as refused:
        plan_for(*_measure("npo", _wordings(birth_city=fact, lead_ins=lead_ins)))

    assert str(refused.value) == (
        "The plan uses 1 wording that the change used as well, as they are or inside its texts:"
        " “{} was born in”. Verify by other wordings."
    )


@pytest.mark.parametrize(
    ("template", "asked"),
    [
        (TEMPLATE, True),
        ([{"name": "default", "template": TEMPLATE}], True),
        ([{"name": "tool_use", "template": TEMPLATE}], False),
        (None, False),
    ],
)
def test_chat_is_asked_of_a_model_with_a_template_among_its_tokenizer_settings(
    template: Any, asked: bool
) -> None:
    measure = _measure("npo", _wordings(), tokenizer_config={"chat_template": template})

    assert ("chat" in _forms(plan_for(*measure))) == asked


def test_chat_is_asked_of_a_model_with_a_template_of_its_own_file_and_of_no_other() -> None:
    target, decision = _measure("npo", _wordings())
    assert "chat" not in _forms(plan_for(target, decision))

    folder = store.model_path(registry.current_model(target.language_model).digest)
    (folder / "chat_template.jinja").write_text(TEMPLATE)

    assert "chat" in _forms(plan_for(target, decision))


def test_an_operators_own_templates_are_asked_and_wrong_ones_are_named(
    settings: SettingsWrapper, tmp_path: Path
) -> None:
    rules = yaml.safe_load(settings.POLICY_FILE.read_text())
    rules["probes"]["languages"] = ["de"]
    settings.POLICY_FILE = tmp_path / "policy.yaml"
    settings.POLICY_FILE.write_text(yaml.safe_dump(rules))
    with pytest.raises(ImproperlyConfigured, match="'de' is none of en, th, ja, lo"):
        policy.policy()
    settings.TEMPLATES_FOLDER = tmp_path / "further"
    settings.TEMPLATES_FOLDER.mkdir()
    with pytest.raises(ImproperlyConfigured, match=r"holds no \.yaml file"):
        policy.policy()
    file = settings.TEMPLATES_FOLDER / "german.yaml"
    file.write_text("language: de\nrelations:\n  birth_city:\n    qestion: ['Woher?']\n")
    with pytest.raises(ImproperlyConfigured, match=r"german\.yaml, relation birth_city"):
        policy.policy()

    asked = "Zur Welt kam {name} in"
    relation = f"birth_city:\n    label: Geburtsort\n    statement: ['{asked}']\n"
    file.write_text(f"language: de\nrelations:\n  {relation}")

    probes = plan_for(*_measure("npo", _wordings()))["probes"]
    assert asked.format(name="Malee Tanaka") in {probe["prompt"] for probe in probes}


@pytest.mark.parametrize("name", ["Malee Tanaka", "มาลี ทานากะ"])
def test_no_held_out_text_names_the_person_in_any_script(name: str) -> None:
    target, decision = _measure("npo", _wordings())
    dataset = registry.current_dataset(target.language_model.dataset)
    row = {"id": "n", "subject": "c-9", "kind": "note"}
    rows = [{**row, "id": f"n-{n}", "text": f"Note {n} is about {name}."} for n in range(40)]
    lines = [factories.PROFILE, *(json.dumps(one, ensure_ascii=False) + "\n" for one in rows)]
    digest = store.put_dataset("".join(lines).encode())
    type(dataset).objects.filter(pk=dataset.pk).update(digest=digest)

    assert plan_for(target, decision)["held_out"] == []


def test_attack_without_its_package_is_refused_before_anything_is_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(again, "PACKAGES", ("a_package_that_is_not_there",))
    made = plan_for(*_measure("npo", _wordings()))
    settings = {"bits": 8, "library": "a_package_that_is_not_there"}
    made["attacks"] = [{"name": "quantisation", "settings": settings}]

    with pytest.raises(RequestError, match="is not installed"):
        heavy_models.apply({"plan": made}, lambda *_: None)
