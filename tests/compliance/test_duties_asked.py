"""Open duties asked again: by `rerun_duties`, and of a candidate before it comes into force."""

from __future__ import annotations

import base64
import shutil
from dataclasses import replace
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from compliance import duties, heavy_models, registry, store, vault
from compliance.models import (
    AuditEvent,
    DataKey,
    Duty,
    DutyRun,
    ModelVersion,
    VersionState,
)
from compliance.steps import step6_verification
from evaluation import measure
from evaluation.resurfacing import open_duty
from language_models import load
from language_models.errors import CheckpointError
from tests.compliance import factories
from tests.compliance.duty_case import (
    DEMO,
    applied,
    demo_version,
    found,
    made_plan,
    measured,
    verified,
    verifying,
)

pytestmark = pytest.mark.django_db


def _opened(version: ModelVersion) -> Duty:
    duties.open_for(verified(version))
    return Duty.objects.latest("pk")


def _rerun(capsys: pytest.CaptureFixture[str]) -> tuple[str, CommandError | None]:
    """What the command writes, and its error."""
    error = None
    try:
        call_command("rerun_duties")
    except CommandError as raised:
        error = raised
    return capsys.readouterr().out, error


# --- The version in force ---


def test_rerun_without_open_duties_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    factories.model(factories.organisation())

    assert _rerun(capsys) == ("Every open duty holds.\n", None)


def test_duty_asked_again_of_a_version_that_still_tells_is_resurfaced(
    capsys: pytest.CaptureFixture[str],
) -> None:
    version = demo_version()
    duty = _opened(version)

    out, error = _rerun(capsys)

    run = DutyRun.objects.get()
    assert (run.outcome, run.hits, run.asked, run.version) == ("resurfaced", 4, 4, version)
    assert "4 of 4 probes; after the change it was 0 of 4" in run.reason
    assert AuditEvent.objects.filter(action="duty.rerun").count() == 1
    assert "Assistant: 0 of 1 held.\n" in out
    assert f"  {duty.reference}: Came out again. The value came out in 4 of 4" in out
    assert (str(error), error.returncode) == ("1 duty does not hold. Open a case for it.", 1)


def _lose(duty: Duty) -> None:
    store.remove_artefact(duty.sealed)


def _change(duty: Duty) -> None:
    path = store.artefact_path(duty.sealed)
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def _forget_key(duty: Duty) -> None:
    DataKey.objects.filter(pk=duty.key_id).update(wrapped="", destroyed_at=timezone.now())
    vault._unwrapped.clear()


def _seal_wrongly(duty: Duty) -> None:
    key = vault.key_named(str(duty.key_id))
    Duty.objects.filter(pk=duty.pk).update(sealed=store.put(b"no duty", key))


@pytest.mark.parametrize("damage", [_lose, _change, _forget_key, _seal_wrongly])
def test_damaged_duty_is_unknown_and_keeps_no_other_from_being_asked(damage: Any) -> None:
    version = demo_version()
    first, second = _opened(version), _opened(version)
    damage(first)

    request = {"path": str(store.model_path(version.digest)), "digest": version.digest}
    result = heavy_models.rerun_duties(
        {**request, "duties": duties.for_child(version.model)}, lambda *_: None
    )

    damaged, other = duties.record(version, result["duties"])
    assert (damaged.duty, damaged.outcome) == (first, "unknown")
    assert damaged.reason.startswith(f"The questions of duty {first.pk} cannot be read. ")
    assert (other.duty, other.outcome) == (second, "resurfaced")


def test_model_that_was_changed_on_disk_is_not_asked_and_stops_no_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    changed, other = demo_version(), demo_version("other")
    _opened(changed)
    held_out = _opened(other)
    ModelVersion.objects.filter(pk=changed.pk).update(digest="c" * 64)
    shutil.copytree(store.model_path(changed.digest), store.model_path("c" * 64))

    out, error = _rerun(capsys)

    store.remove_model("c" * 64)
    assert "Assistant: the questions were not put. The version was changed on disk." in out
    assert DutyRun.objects.get().duty == held_out
    assert str(error) == "1 duty does not hold. Open a case for it. 1 model was not asked."


# --- What keeps a case waiting ---


def _keep_out(duty: Duty, outcome: str) -> Any:
    """A later case whose candidate a duty kept out of force, or did not."""
    later = applied(registry.current_model(duty.model))
    result = measured(later, duties=found(outcome=outcome, reason="Told."))
    step6_verification.record(verifying(later), result)
    return later


def test_operator_sees_what_is_unknown_and_which_duty_keeps_a_case_from_its_change(
    capsys: pytest.CaptureFixture[str],
) -> None:
    duty = _opened(demo_version())
    later = _keep_out(duty, "resurfaced")
    _lose(duty)

    out, error = _rerun(capsys)

    assert f"  {duty.reference}: Unknown. The questions of duty {duty.pk} cannot be read." in out
    assert (
        f"  The change of {later.reference} was kept out of force by the duty of "
        f"{duty.reference}: Came out again. Told.\n"
    ) in out
    assert (str(error), error.returncode) == ("1 duty is unknown, for the reason above.", 2)


def test_nothing_is_in_the_way_of_a_case_that_is_over_or_of_a_duty_that_ended() -> None:
    duty = _opened(demo_version())
    later = _keep_out(duty, "resurfaced")
    ((case, run),) = duties.in_the_way(duty.model)
    assert (case, run.duty) == (later, duty)

    later.closed_at = timezone.now()
    later.save()
    assert duties.in_the_way(duty.model) == []

    later.closed_at = None
    later.save()
    # Asked of the next candidate of the same case, it held.
    held = ModelVersion.objects.create(
        model=duty.model, digest="d" * 64, case=later, created_at=timezone.now(),
        state=VersionState.DISCARDED,
    )  # fmt: skip
    duties.record(held, found())
    assert duties.in_the_way(duty.model) == []


def test_nothing_is_in_the_way_of_a_case_whose_second_attempt_came_into_force() -> None:
    duty = _opened(demo_version())
    later = _keep_out(duty, "resurfaced")
    promoted = ModelVersion.objects.create(
        model=duty.model, digest="d" * 64, case=later, created_at=timezone.now(),
        state=VersionState.CANDIDATE,
    )  # fmt: skip

    duties.record(promoted, found())
    duty.model.versions.filter(state=VersionState.CURRENT).update(state=VersionState.FORMER)
    ModelVersion.objects.filter(pk=promoted.pk).update(state=VersionState.CURRENT)
    assert duties.in_the_way(duty.model) == []

    # Asked again in force, it tells; but the change of the case is not kept out.
    duties.record(promoted, found(outcome="resurfaced"))
    assert duties.in_the_way(duty.model) == []


# --- The candidate ---


def _verification(**changes: Any) -> dict[str, Any]:
    """What the child is asked of a candidate: the demo model, which still tells everything."""
    lm, made = load(DEMO / "model"), made_plan(thresholds={"leak_max": 1.0, "leak_min_probes": 1,
                                                           "leak_min_prompts": 1})  # fmt: skip
    return {
        "path": str(DEMO / "model"),
        "digest": lm.checkpoint.digest,
        "plan": made.as_dict(),
        "before": measure(lm, made).as_dict(),
        "thresholds": {},
        "duties": [],
        **changes,
    }


def _stages(request: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    told: list[str] = []
    result = heavy_models.verify(request, lambda stage, _done, _total: told.append(stage))
    return result, told


def test_candidate_that_holds_its_plan_is_asked_what_earlier_cases_asked_for() -> None:
    given = duties.for_child(_opened(demo_version()).model)

    result, told = _stages(_verification(duties=given))

    assert result["verdict"]["outcome"] == "passed"
    assert [row["outcome"] for row in result["duties"]] == ["resurfaced"]
    assert told[-1] == "Asking the questions of earlier cases"


def test_candidate_that_failed_its_plan_is_not_asked_further() -> None:
    given = duties.for_child(_opened(demo_version()).model)
    strict = made_plan(thresholds={"leak_max": 0.0}).as_dict()

    result, told = _stages(_verification(duties=given, plan=strict))

    assert result["verdict"]["outcome"] == "failed"
    assert result["duties"] == []
    assert "Asking the questions of earlier cases" not in told


def _as_chat(row: dict[str, Any]) -> dict[str, Any]:
    """The same duty with questions that need a chat form, which the demo model has not."""
    key = base64.b64decode(row["key"])
    kept = open_duty(base64.b64decode(row["sealed"]), key, today=timezone.localdate())
    chat = replace(kept, questions=tuple(replace(one, chat=True) for one in kept.questions))
    return {**row, "sealed": base64.b64encode(chat.sealed(key)).decode()}


def test_questions_that_a_candidate_cannot_be_asked_are_unknown() -> None:
    row = duties.for_child(_opened(demo_version()).model)[0]
    ended = {**row, "today": "2999-01-01"}

    result, _ = _stages(_verification(duties=[_as_chat(row), ended, row]))

    chat, over, other = result["duties"]
    assert (chat["outcome"], over["outcome"], other["outcome"]) == (
        "unknown", "unknown", "resurfaced",
    )  # fmt: skip
    assert f"questions of duty {row['id']} cannot be put. This model has no chat" in chat["reason"]
    assert "This duty has ended." in over["reason"]


def test_candidate_that_was_changed_on_disk_is_not_measured() -> None:
    with pytest.raises(CheckpointError, match="Start the application again"):
        heavy_models.verify(_verification(digest="0" * 64), lambda *_: None)
