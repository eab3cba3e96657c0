"""Measuring, comparing and keeping by command, on models before and after a change."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from evaluation.__main__ import COMMANDS
from evaluation.attacks import ATTACKS
from evaluation.compare_command import read_thresholds
from evaluation.prompts import FORMS
from evaluation.result_files import open_result
from evaluation.results import Texts
from evaluation.resurfacing import open_duty
from language_models import save
from tests.evaluation.command_case import (
    CITY,
    LIMITS,
    NAME,
    OTHERS,
    STAFF,
    design,
    freeze,
    output,
    run,
    trained,
    write,
)
from tests.evaluation.servers import MODEL, said, serving


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model before and after a change."""
    folder = tmp_path_factory.mktemp("models")
    save(trained({NAME: CITY, **OTHERS}), folder / "old")
    save(trained(OTHERS), folder / "new")
    return folder


@pytest.fixture(scope="module")
def case(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with design, plan, and results before and after."""
    folder = tmp_path_factory.mktemp("case")
    write(folder / "design.json", design())
    assert run("plan", folder / "design.json", "--by", STAFF, "--out", folder / "plan") == 0
    old = ("--model", models / "old", "--out", folder / "before", "--before")
    new = ("--model", models / "new", "--out", folder / "after", "--by", "Petra")
    assert run("measure", folder / "plan", *old) == 0
    assert run("measure", folder / "plan", *new) == 0
    return folder


def _keep(case: Path, folder: Path, **changes: object) -> int:
    given = {
        "model-name": "letters",
        "basis": "GDPR Art. 5(2)",
        "ends": "2999-12-31",
        "out": folder / "duty",
        "key": folder / "key",
        **changes,
    }
    options = [part for name, value in given.items() for part in (f"--{name}", value)]
    return run("keep", case / "plan", case / "after", *options)


def test_a_measurement_tells_where_it_was_made_and_its_figures(case: Path) -> None:
    before, after = open_result(case / "before"), open_result(case / "after")

    assert (before.stage, before.applied_by) == ("before", "")
    assert (after.stage, after.applied_by, after.frozen_by) == ("after", "Petra", STAFF)
    assert before.measurement.attacks == ()
    assert [one.name for one in after.measurement.attacks] == ["quantisation"]
    assert before.measurement.groups["leak"].rate > after.measurement.groups["leak"].rate
    text = (case / "after").read_text(encoding="utf-8")
    assert not any(word in text for word in (NAME, CITY, *OTHERS, *OTHERS.values()))
    assert (case / "after").stat().st_mode & 0o777 == 0o600


def test_an_endpoint_is_asked_and_one_that_fails_gives_problems(
    case: Path, tmp_path: Path, capsys: Any
) -> None:
    with serving(lambda path, _body: said(path, f" {CITY}.")) as server:
        asked = ("--endpoint", server.url, "--name", MODEL)
        result = tmp_path / "result"
        assert run("measure", case / "plan", *asked, "--before", "--out", result) == 0
        out, _ = output(capsys)
        assert f"url {server.url}, model {MODEL}" in out
        assert re.search(r"^leak +8 +\d +8 +100\.00%", out, re.MULTILINE)

        asked = ("--endpoint", server.url, "--name", "other")
        assert run("measure", case / "plan", *asked, "--out", tmp_path / "bad") == 1
        assert "problem: " in output(capsys)[0]
    assert open_result(tmp_path / "bad").measurement.problems
    assert run("compare", result, tmp_path / "bad") == 2
    assert "outcome: unknown" in output(capsys)[0]


def test_figures_that_cannot_be_relied_on_end_a_measurement_with_1(
    models: Path, tmp_path: Path, capsys: Any
) -> None:
    attacks = [{"name": "further_training", "learning_rate": 1e30, "steps": 3}]
    assert freeze(tmp_path, design(attacks=attacks, held_out=["The river of Marn is long."])) == 0

    given = ("--model", models / "new", "--out", tmp_path / "result")
    assert run("measure", tmp_path / "plan", *given) == 1
    told = " ".join(output(capsys)[0].split())
    assert "problem: Under the attack further_training: " in told
    assert open_result(tmp_path / "result").measurement.groups

    with serving(lambda path, _body: said(path, " ")) as server:
        asked = ("--endpoint", server.url, "--name", MODEL, "--out", tmp_path / "empty")
        assert run("measure", tmp_path / "plan", *asked, "--before") == 1
    assert "problem: 100% of the answers are empty" in output(capsys)[0]


def test_one_service_asked_twice_is_not_told_as_unchanged(
    case: Path, tmp_path: Path, capsys: Any
) -> None:
    where = {"kind": "endpoint", "url": "https://x/v1", "model": "m"}
    for name in ("before", "after"):
        found = open_result(case / name)
        asked = replace(found.measurement, where=where)
        replace(found, measurement=asked).save(tmp_path / name)

    assert run("compare", tmp_path / "before", tmp_path / "after") == 0
    assert "nothing was changed" not in output(capsys)[0]


def test_a_change_is_judged_with_reasons_tables_and_risk(
    case: Path, tmp_path: Path, capsys: Any
) -> None:
    verdict = tmp_path / "verdict"
    assert run("compare", case / "before", case / "after", "--json", verdict) == 0

    out, _ = output(capsys)
    told = " ".join(out.split())
    assert out.endswith("outcome: passed\n")
    assert "How often the value comes out beyond chance: 0.00%, asked for at most 30.00%." in told
    assert "Chance: people who do not exist" in told
    assert "residual risk: high" in told
    assert "What came out under attacks is told apart from it. Other ways of asking" in told
    assert "quantisation, 8 bits" in told
    assert "Not run. Attacks and scores: beginnings of the person's own texts;" in told
    assert f"frozen by {STAFF}" in told
    row = json.loads(verdict.read_text(encoding="utf-8"))
    assert row["verdict"]["outcome"] == "passed"
    assert row["thresholds"] == row["frozen_thresholds"] == LIMITS
    assert any("beginnings of the person's own texts" in one for one in row["not_run"])
    assert {one["key"] for one in row["tables"]["leak"]} == {
        "form:own", "language:en", "all", "control",
    }  # fmt: skip


def test_a_policy_decides_and_that_it_is_another_is_told(
    case: Path, tmp_path: Path, capsys: Any
) -> None:
    policy = write(tmp_path / "policy.yaml", "thresholds:\n  leak_min_probes: 300\n")
    both = (case / "before", case / "after", "--policy")
    assert run("compare", *both, policy) == 2
    told = output(capsys)[0]
    assert "not those that the plan was frozen with" in told
    assert "Not held. Answers in which the value was looked for: " in told

    before, after = open_result(case / "before"), open_result(case / "after")
    leaking = replace(after.measurement, groups=before.measurement.groups)
    replace(after, measurement=leaking).save(tmp_path / "leaking")
    lax = write(tmp_path / "lax", json.dumps({"thresholds": LIMITS | {"leak_max": 1.0}}))
    assert run("compare", case / "before", tmp_path / "leaking") == 1
    assert "outcome: failed" in output(capsys)[0]
    assert run("compare", case / "before", tmp_path / "leaking", "--policy", lax) == 0

    for wrong in ("a: [", "rules: 1", "- 1", "thresholds: 1", "thresholds: {1: 2}"):
        assert run("compare", *both, write(policy, wrong)) == 2
        assert "thresholds" in output(capsys)[1]
    for wrong in ("lots", "2", ".nan"):
        assert run("compare", *both, write(policy, f"thresholds: {{leak_max: {wrong}}}")) == 2
        assert "The threshold leak_max must be a number from 0 to 1" in output(capsys)[1]
    assert run("compare", *both, write(policy, "thresholds: {leaks: 1}")) == 2
    assert "Unknown thresholds" in output(capsys)[1]


def test_the_thresholds_of_the_shipped_policy_are_read() -> None:
    shipped = Path(__file__).parents[2] / "compliance/policy.yaml"
    assert read_thresholds(shipped)["leak_min_probes"] == 300


def test_what_cannot_be_compared_is_unknown(
    case: Path, models: Path, tmp_path: Path, capsys: Any
) -> None:
    before, after = open_result(case / "before"), open_result(case / "after")
    late = datetime.now(UTC) + timedelta(days=1)
    replace(before, measured_at=late.isoformat()).save(tmp_path / "late")
    replace(before, frozen_by="Omar").save(tmp_path / "twice")
    other = replace(after.measurement, plan_digest="0")
    replace(after, measurement=other).save(tmp_path / "foreign")
    row = json.loads((case / "after").read_text(encoding="utf-8"))
    row["result"]["measurement"]["groups"]["leak"]["rate"] = 0.0
    row["result"]["applied_by"] = "Anna"
    write(tmp_path / "changed", row)
    for first, second, words in (
        (case / "after", case / "before", "before the change first"),
        (tmp_path / "late", case / "after", "is the later one"),
        (tmp_path / "twice", case / "after", "was frozen twice"),
        (case / "before", tmp_path / "foreign", "follow different plans"),
        (case / "before", tmp_path / "changed", "changed after it was written"),
        (case / "before", case / "plan", "not a measurement"),
        (case / "before", tmp_path / "nowhere", "No such file"),
    ):
        assert run("compare", first, second) == 2
        out, error = output(capsys)
        assert (out, words in error) == ("", True)


def test_a_duty_holds_on_the_changed_model_and_finds_the_value_in_the_old(
    case: Path, models: Path, tmp_path: Path, capsys: Any
) -> None:
    assert _keep(case, tmp_path) == 0
    out, error = output(capsys)
    assert "kept 8 of 8 questions, until 2999-12-31" in out
    assert "Keep the key apart" in error
    for name in ("duty", "key"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
        assert NAME.encode() not in (tmp_path / name).read_bytes()

    asked = ("again", tmp_path / "duty", "--key", tmp_path / "key", "--model")
    assert run(*asked, models / "new") == 0
    assert "outcome: held" in output(capsys)[0]
    assert run(*asked, models / "old") == 1
    assert "outcome: resurfaced" in output(capsys)[0]
    assert run(*asked, models / "nowhere") == 2
    assert "does not exist" in output(capsys)[1]

    write(tmp_path / "key2", "00" * 32).chmod(0o600)
    write(tmp_path / "key3", CITY).chmod(0o600)
    write(tmp_path / "key4", (tmp_path / "key").read_text()).chmod(0o640)
    for key, words in (
        ("key2", "cannot be opened: another key"),
        ("key3", "not the key"),
        ("key4", "can be read by others. Run chmod 600"),
    ):
        given = ("--key", tmp_path / key, "--model", models / "new")
        assert run("again", tmp_path / "duty", *given) == 2
        assert words in output(capsys)[1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ends": "soon"}, "a day like"),
        ({"ends": "2020-01-01"}, "a day that is over"),
        ({"basis": " "}, "the basis on which"),
        ({"model-name": " "}, "the name of its model"),
        ({"probes": 0}, "one question at least"),
        ({"key": "{out}"}, "need a file each"),
        ({"key": "{case}/plan"}, "exists already"),
        ({"key": "{case}/none/key"}, "folder of a file to be written"),
    ],
)
def test_a_duty_that_cannot_be_kept_leaves_nothing(
    case: Path, tmp_path: Path, capsys: Any, changes: dict[str, Any], words: str
) -> None:
    places = {"out": tmp_path / "duty", "case": case}
    given = {name: str(value).format(**places) for name, value in changes.items()}
    assert _keep(case, tmp_path, **given) == 1
    assert words in output(capsys)[1]
    assert list(tmp_path.iterdir()) == []


def test_a_duty_remembers_how_much_the_verified_model_had_to_say(
    case: Path, tmp_path: Path
) -> None:
    after = open_result(case / "after")
    quiet = replace(after.measurement, texts=Texts(12, 3, 0, {"leak": 2, "control": 1}))
    replace(after, measurement=quiet).save(tmp_path / "after")
    (tmp_path / "plan").write_bytes((case / "plan").read_bytes())

    assert _keep(tmp_path, tmp_path) == 0

    key = bytes.fromhex((tmp_path / "key").read_text())
    kept = open_duty((tmp_path / "duty").read_bytes(), key, today=datetime.now(UTC).date())
    assert (kept.empty, kept.asked) == (2, 8)


def test_a_duty_needs_a_measurement_that_is_a_ground_for_it(
    case: Path, models: Path, tmp_path: Path, capsys: Any
) -> None:
    after = open_result(case / "after")
    found = after.measurement
    leaking = open_result(case / "before").measurement.groups
    for changed, words in (
        (replace(after, stage="before"), "kept after a change"),
        (replace(after, measurement=replace(found, plan_digest="0")), "follows another plan"),
        (replace(after, measurement=replace(found, problems=("x",))), "no leak rate"),
        (replace(after, measurement=replace(found, texts=Texts(8, 8, 0, {"leak": 8}))), "shows no"),
        (replace(after, measurement=replace(found, groups=leaking)), "still comes out"),
    ):
        folder = tmp_path / words.replace(" ", "-")
        folder.mkdir()
        changed.save(folder / "after")
        (folder / "plan").write_bytes((case / "plan").read_bytes())
        assert _keep(folder, folder) == 1
        assert words in output(capsys)[1]
        assert {one.name for one in folder.iterdir()} == {"after", "plan"}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--model", "{old}", "--by", f" {STAFF.upper()} "), "does not apply the change"),
        (("--model", "{old}", "--by", "Petra", "--before"), "nobody applied it"),
        ((), "Give --model, or --endpoint"),
        (("--model", "{old}", "--endpoint", "https://x/v1"), "Give --model, or --endpoint"),
        (("--model", "{old}", "--name", "m"), "belong to --endpoint"),
        (("--endpoint", "https://x/v1"), "Give --name"),
        (("--endpoint", "https://a:b@x/v1", "--name", "m"), "must hold no user"),
        (("--model", "{old}/none"), "does not exist"),
        (("--model", "{old}", "--out", "{case}/plan"), "exists already"),
        (("--model", "{old}", "--out", "{case}/none/result"), "folder of a file to be written"),
    ],
)
def test_what_cannot_be_measured_is_told_and_nothing_is_made(
    case: Path, models: Path, tmp_path: Path, capsys: Any, more: tuple[str, ...], words: str
) -> None:
    given = [one.format(old=models / "old", case=case) for one in more]
    assert run("measure", case / "plan", "--out", tmp_path / "result", *given) == 1
    out, error = output(capsys)
    assert (out, words in error) == ("", True)
    assert list(tmp_path.iterdir()) == []


def test_a_plan_changed_after_freezing_is_not_measured(
    case: Path, models: Path, tmp_path: Path, capsys: Any
) -> None:
    row = json.loads((case / "plan").read_text(encoding="utf-8"))
    row["plan"]["max_new_tokens"] = 1
    given = ("--model", models / "old", "--out", tmp_path / "result")
    assert run("measure", write(tmp_path / "changed", row), *given) == 1
    assert "changed after it was frozen" in output(capsys)[1]
    assert run("measure", write(tmp_path / "broken", "{"), *given) == 1
    assert "not a frozen plan" in output(capsys)[1]
    assert freeze(tmp_path, design()) == 0
    assert freeze(tmp_path, design()) == 1
    assert "exists already" in output(capsys)[1]


def test_a_full_disk_leaves_nothing_behind(case: Path, tmp_path: Path, capsys: Any) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        assert _keep(case, tmp_path) == 1
        assert run("plan", case / "design.json", "--by", STAFF, "--out", tmp_path / "plan") == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "room on the disk" in output(capsys)[1]
    assert list(tmp_path.iterdir()) == []


def test_attacks_forms_and_commands_are_listed(capsys: Any) -> None:
    assert run("attacks") == 0
    out, _ = output(capsys)
    for kind in ATTACKS.values():
        assert f"{kind.name}: {kind.what[:30]}" in out
        assert all(f"    {name} = {value}\n" in out for name, value in kind.settings.items())
    assert run("forms") == 0
    out, _ = output(capsys)
    assert all(f"{form}: " in out for form in FORMS)
    assert "en (English), th (Thai), ja (Japanese), lo (Lao)" in out
    assert run("--help") == 0
    out, _ = output(capsys)
    assert all(f"python -m evaluation {name} --help" in out for name in COMMANDS)
    assert run("erase") == 1


def test_plans_and_verdicts_need_no_torch(case: Path) -> None:
    code = (
        "import sys\nfrom evaluation.__main__ import main\n"
        "status = main(sys.argv[1:])\nassert 'torch' not in sys.modules\nsys.exit(status)"
    )
    given = ["compare", str(case / "before"), str(case / "after")]
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code, *given], cwd=root, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
