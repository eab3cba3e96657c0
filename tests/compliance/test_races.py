"""Acts that cross: a stale page, a closed case beside an open one, a second office, old backups."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone

from compliance import (
    flow,
    registry,
    retention,
    serving,
    shredding,
    store,
    tombstones,
    vault,
)
from compliance.models import (
    Application,
    AuditEvent,
    Case,
    DataKey,
    DatasetVersion,
    Decision,
    Document,
    DocumentKind,
    IdentityCheck,
    Job,
    KeyPurpose,
    LanguageModel,
    ModelVersion,
    Organisation,
    Outcome,
    Role,
    Target,
    VersionState,
)
from compliance.permissions import NotAllowed
from compliance.statuses import Status
from compliance.steps import documentation, step2_identity
from setup.state import make_folders, make_keys
from tests.compliance import factories

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _own_tombstones() -> Iterator[None]:
    tombstones.path().unlink(missing_ok=True)
    yield
    tombstones.path().unlink(missing_ok=True)


def _closed(of: Organisation) -> Case:
    case = factories.case(of)
    Case.objects.filter(pk=case.pk).update(
        status=Status.CLOSED,
        outcome=Outcome.WITHDRAWN,
        closed_at=timezone.now() - timedelta(days=4000),
    )
    return Case.objects.get(pk=case.pk)


def _applied(case: Case, target: Target, **versions: Any) -> Application:
    now = timezone.now()
    decision = Decision.objects.create(
        case=case,
        target=target,
        method="rome",
        reasons="x",
        proposed_at=now,
        outcome="returned",
    )
    return Application.objects.create(
        target=target,
        decision=decision,
        plan_frozen_at=now,
        started_at=now,
        finished_at=now,
        **versions,
    )


# --- Stale pages ---


def test_identity_cannot_be_linked_anew_after_it_was_confirmed() -> None:
    bank = factories.organisation()
    other = factories.PROFILE.replace('"n-1"', '"n-9"').replace('"c-1"', '"c-9"')
    factories.dataset(bank, factories.PROFILE + other.replace("tea9@", "other@"))
    officer = factories.actor(Role.OFFICER, bank)
    case = factories.case(bank)
    step2_identity.send_code(case, actor=officer, subject_id="c-1")
    IdentityCheck.objects.update(matched_at=timezone.now())
    stale = Case.objects.get(pk=case.pk)
    step2_identity.confirm(Case.objects.get(pk=case.pk), actor=officer)
    with pytest.raises(NotAllowed, match="is over"):
        step2_identity.send_code(stale, actor=officer, subject_id="c-9")
    assert Case.objects.get(pk=case.pk).subject.on_file["subject"] == "c-1"


def test_hold_placed_while_others_are_destroyed_holds(monkeypatch) -> None:
    bank = factories.organisation()
    legal, colleague = (factories.actor(Role.LEGAL, bank, name) for name in ("one", "two"))
    first, second = _closed(bank), _closed(bank)
    shred = shredding.shred

    def slowly(case: Case, **given: Any) -> None:
        shred(case, **given)
        if case.pk == first.pk:
            held = Case.objects.get(pk=second.pk)
            retention.place_hold(held, actor=colleague, reason="The court wants it kept.")

    monkeypatch.setattr(shredding, "shred", slowly)
    with pytest.raises(NotAllowed, match="legal hold"):
        retention.shred_reviewed([first, second], actor=legal)
    second.refresh_from_db()
    assert second.shredded_at is None
    assert not tombstones.is_destroyed(str(second.data_key.pk))


@pytest.mark.parametrize("state", ["done", "ready"])
def test_job_that_succeeded_is_not_started_again(state: str) -> None:
    bank = factories.organisation()
    case = factories.case(bank)
    Case.objects.filter(pk=case.pk).update(status=Status.DOCUMENTATION, outcome="withdrawn")
    now = timezone.now()
    for number, one in enumerate(("failed", state)):
        Job.objects.create(
            kind="document",
            case=case,
            state=one,
            not_before=now,
            created_at=now + timedelta(seconds=number),
        )
    with pytest.raises(NotAllowed, match="has failed"):
        flow.restart_jobs(case, actor=factories.actor(Role.OFFICER, bank))


def test_case_is_not_closed_over_a_living_job() -> None:
    bank = factories.organisation()
    case = factories.case(bank)
    Case.objects.filter(pk=case.pk).update(status=Status.DOCUMENTATION, outcome="withdrawn")
    now = timezone.now()
    Job.objects.create(kind="document", case=case, not_before=now, created_at=now)
    for kind in DocumentKind.values:
        Document.objects.create(
            case=case, kind=kind, file_name=kind, artefact="", sha256="a" * 64, made_at=now
        )
    with pytest.raises(NotAllowed, match="still under way"):
        documentation.close(case, actor=factories.actor(Role.OFFICER, bank))


# --- A closed case beside an open one ---


def test_way_back_of_an_open_case_outlives_the_closing_of_an_earlier_one(monkeypatch) -> None:
    monkeypatch.setattr(serving, "verify", lambda *_: None)
    bank = factories.organisation()
    officer = factories.actor(Role.OFFICER, bank)
    dataset, model = factories.dataset(bank), factories.model(bank)
    first, second = factories.case(bank), factories.case(bank)
    before, weights = dataset.versions.get(), model.versions.get()
    middle, last = (
        DatasetVersion.objects.create(
            dataset=dataset,
            digest=store.put_dataset(rows.encode()),
            records=1,
            parent=parent,
            state=VersionState.FORMER,
            case=case,
            created_at=timezone.now(),
        )
        for rows, parent, case in ((factories.NOTE, before, first), ("", None, second))
    )
    DatasetVersion.objects.filter(pk=before.pk).update(state=VersionState.FORMER)
    DatasetVersion.objects.filter(pk=last.pk).update(state=VersionState.CURRENT, parent=middle)
    ModelVersion.objects.filter(pk=weights.pk).update(state=VersionState.FORMER)
    changed = ModelVersion.objects.create(
        model=model,
        digest="b" * 64,
        parent=weights,
        state=VersionState.CURRENT,
        case=second,
        created_at=timezone.now(),
    )
    targets = {
        case: Target.objects.create(
            case=case,
            kind="dataset",
            dataset=dataset,
            state="verified",
            affected=True,
            summary={"facts": []},
            evidence="",
            found_at=timezone.now(),
        )
        for case in (first, second)
    }
    _applied(first, targets[first], dataset_before=before, dataset_after=middle)
    _applied(second, targets[second], dataset_before=middle, dataset_after=last)
    Case.objects.update(status=Status.DOCUMENTATION, outcome=Outcome.FULFILLED)
    for kind in DocumentKind.values:
        Document.objects.create(
            case=first,
            kind=kind,
            file_name=kind,
            artefact="",
            sha256="a" * 64,
            made_at=timezone.now(),
        )
    documentation.close(Case.objects.get(pk=first.pk), actor=officer)
    registry.roll_back(changed, actor=factories.actor(Role.STEWARD, bank, "steward"))
    current = registry.current_dataset(dataset)
    assert current == middle
    assert store.get_dataset(current.digest).decode() == factories.NOTE


def test_base_model_of_another_office_is_left_alone() -> None:
    """Two offices registered the same public model; the case of one is closed and shredded."""
    offices = [factories.organisation(slug) for slug in ("one", "two")]
    folder = store.model_path("a" * 64)
    folder.mkdir(parents=True, exist_ok=True)
    cases = [
        _promoted(office, factories.model(office), digit)
        for office, digit in zip(offices, "bc", strict=True)
    ]
    registry.purge(cases[0])
    assert folder.is_dir()
    assert registry.taken_from(cases[0]) == []
    Case.objects.filter(pk=cases[1].pk).update(status=Status.CLOSED, closed_at=timezone.now())
    stone = tombstones.Tombstone("L1", "one", "k", "fulfilled", "t", "legal", ["a" * 64])
    tombstones.add(stone)
    with pytest.raises(store.StoreError, match="case L1 took out"):
        store.refuse_taken_back("a" * 64, "one")
    store.refuse_taken_back("a" * 64, "two")
    folder.rmdir()


def _promoted(office: Organisation, model: LanguageModel, digit: str) -> Case:
    case = factories.case(office)
    target = factories.target(case, model, {"employer": 3})
    before = model.versions.get()
    ModelVersion.objects.filter(pk=before.pk).update(state=VersionState.FORMER)
    after = ModelVersion.objects.create(
        model=model,
        digest=digit * 64,
        parent=before,
        state=VersionState.CURRENT,
        case=case,
        created_at=timezone.now(),
    )
    _applied(case, target, model_before=before, model_after=after)
    Case.objects.filter(pk=case.pk).update(outcome=Outcome.FULFILLED, status=Status.DOCUMENTATION)
    return Case.objects.get(pk=case.pk)


# --- Old backups ---


def test_candidate_that_came_back_with_its_case_blocks_nothing() -> None:
    bank = factories.organisation()
    case, model = factories.case(bank), factories.model(bank)
    Case.objects.filter(pk=case.pk).update(status=Status.VERIFICATION)
    ModelVersion.objects.create(
        model=model,
        digest="b" * 64,
        parent=model.versions.get(),
        state=VersionState.CANDIDATE,
        case=case,
        created_at=timezone.now(),
    )
    tombstones.add(
        tombstones.Tombstone(
            case.reference, bank.slug, str(case.data_key.pk), "withdrawn", "t", "legal u-1"
        )
    )
    assert shredding.replay() == 1
    assert not ModelVersion.objects.filter(state=VersionState.CANDIDATE).exists()
    assert "legal u-1" in AuditEvent.objects.get(action="case.shredded").leaf


def test_sweep_spares_data_whose_key_is_in_a_newer_database() -> None:
    version = factories.dataset(factories.organisation()).versions.get()
    (path,) = [
        path
        for path in store.dataset_paths(version.digest)
        if vault.is_open(path.name.split(".")[1])
    ]
    os.utime(path, (0, 0))
    DataKey.objects.filter(purpose=KeyPurpose.DATASET).delete()  # the database of yesterday
    store.sweep_orphans(set())
    assert path.exists()
    path.unlink()


def test_lost_key_is_not_replaced_by_a_new_one(tmp_path: Path) -> None:
    make_folders(tmp_path)
    make_keys(tmp_path / "keys")
    public = (tmp_path / "keys/log/log.vkey").read_text()
    (tmp_path / "keys/log/log.key").unlink()
    with pytest.raises(SystemExit, match=r"log/log\.key is missing"):
        make_keys(tmp_path / "keys")
    assert (tmp_path / "keys/log/log.vkey").read_text() == public
