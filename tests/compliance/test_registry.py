"""What may be registered, and how versions come into force."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from compliance import jobs, registry, store
from compliance.models import (
    Dataset,
    DatasetVersion,
    JobKind,
    LanguageModel,
    ModelVersion,
    Role,
    VersionState,
)
from compliance.permissions import SYSTEM, NotAllowed
from tests.compliance import factories

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.django_db
DEMO = settings.BASE_DIR / "demo/model"


def _register(folder: Path) -> ModelVersion:
    return registry.register_model(
        factories.organisation(),
        name="Assistant",
        stored=registry.bring(folder),
        wordings=factories.WORDINGS,
        actor=SYSTEM,
    )


def _copy(folder: Path) -> Path:
    shutil.copytree(DEMO, folder / "model")
    (folder / "model/manifest.json").unlink()
    return folder / "model"


def test_registered_model_lies_in_the_store_by_its_hash() -> None:
    version = _register(DEMO)
    assert (store.model_path(version.digest) / "model.safetensors").exists()
    assert version.model.family == "llama"


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = _copy(tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(registry.RegistrationError, match="safetensors"):
        _register(folder)
    assert LanguageModel.objects.count() == 0


def test_file_that_only_claims_to_be_safetensors_is_refused(tmp_path: Path) -> None:
    folder = _copy(tmp_path)
    (folder / "model.safetensors").write_bytes(b"\x80\x04 a pickle by another name")
    with pytest.raises(registry.RegistrationError, match="safetensors"):
        _register(folder)


def test_unsupported_architecture_is_refused_with_those_that_work(tmp_path: Path) -> None:
    folder = _copy(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "mamba"
    config["architectures"] = ["MambaForCausalLM"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(registry.RegistrationError, match="llama"):
        _register(folder)


@pytest.mark.django_db(transaction=True)
def test_a_large_model_is_copied_before_the_transaction(tmp_path: Path, monkeypatch) -> None:
    """PostgreSQL ends a session that stands idle in a transaction for ten seconds."""
    adopt, inside = registry.store.adopt_model, []

    def watched(folder: Path, digest: str) -> Path:
        inside.append(connection.in_atomic_block)
        return adopt(folder, digest)

    monkeypatch.setattr(registry.store, "adopt_model", watched)
    _register(_copy(tmp_path))

    assert inside == [False]


@pytest.mark.parametrize("line", ["no json", "[]", '{"id": "n-1"}'])
def test_records_without_their_fields_are_refused_by_line(line: str) -> None:
    with pytest.raises(registry.RegistrationError, match="Line 2"):
        factories.dataset(factories.organisation(), factories.PROFILE + line + "\n")
    assert Dataset.objects.count() == 0


def test_one_candidate_a_model_in_the_database() -> None:
    model = factories.model(factories.organisation())
    now = timezone.now()
    made = {"model": model, "state": VersionState.CANDIDATE, "created_at": now}
    ModelVersion.objects.create(digest="b" * 64, **made)
    with pytest.raises(IntegrityError), transaction.atomic():
        ModelVersion.objects.create(digest="c" * 64, **made)


def _candidate(bank, state: str = VersionState.CANDIDATE) -> DatasetVersion:
    dataset = factories.dataset(bank)
    case = factories.case(bank)
    target = factories.target(case, factories.model(bank), {"birth_city": 1})
    return DatasetVersion.objects.create(
        dataset=dataset,
        digest="b" * 64,
        records=1,
        state=state,
        made_for=target,
        case=target.case,
        parent=registry.current_dataset(dataset),
        created_at=timezone.now(),
    )


def test_promote_puts_the_candidate_into_force_and_keeps_the_former() -> None:
    candidate = _candidate(factories.organisation())
    registry.promote(candidate.made_for.case)
    states = {version.digest: version.state for version in DatasetVersion.objects.all()}
    assert states == {
        candidate.digest: VersionState.CURRENT,
        candidate.parent.digest: VersionState.FORMER,
    }


def test_promote_refuses_when_another_version_came_into_force() -> None:
    candidate = _candidate(factories.organisation())
    DatasetVersion.objects.filter(pk=candidate.parent_id).update(state=VersionState.FORMER)
    with pytest.raises(NotAllowed, match="Another version"):
        registry.promote(candidate.made_for.case)


def test_discarded_candidate_leaves_the_version_in_force() -> None:
    candidate = _candidate(factories.organisation())
    registry.discard_candidates(candidate.made_for.case)
    candidate.refresh_from_db()
    assert candidate.state == VersionState.DISCARDED
    assert registry.current_dataset(candidate.dataset) == candidate.parent


def test_roll_back_restores_the_parent_until_the_case_is_closed() -> None:
    bank = factories.organisation()
    steward = factories.actor(Role.STEWARD, bank)
    case = factories.case(bank)
    first = registry.register_model(
        bank,
        name="Assistant",
        stored=registry.bring(DEMO),
        wordings=factories.WORDINGS,
        actor=SYSTEM,
    )
    target = factories.target(case, first.model, {"birth_city": 1})
    ModelVersion.objects.filter(pk=first.pk).update(state=VersionState.FORMER)
    second = ModelVersion.objects.create(
        model=first.model,
        digest="b" * 64,
        parent=first,
        made_for=target,
        case=target.case,
        state=VersionState.CURRENT,
        created_at=timezone.now(),
    )
    with pytest.raises(NotAllowed, match="Only Model steward"):
        registry.roll_back(second, actor=factories.actor(Role.OFFICER, bank))
    registry.roll_back(second, actor=steward)
    assert registry.current_model(first.model) == first
    with pytest.raises(NotAllowed, match="Only the version in force"):
        registry.roll_back(second, actor=steward)


def test_commands_make_an_office_and_register_its_model(tmp_path: Path, capsys) -> None:
    call_command(
        "create_office", slug="shop", name="Shop", address="1 Road", contact="dpo@shop.example"
    )
    assert "officer@shop" in capsys.readouterr().out
    records, wordings = tmp_path / "records.jsonl", tmp_path / "wordings.json"
    records.write_text(factories.PROFILE)
    wordings.write_text(json.dumps(factories.WORDINGS))
    call_command(
        "register", organisation="shop", name="Bot", model=DEMO, wordings=wordings, records=records
    )
    model = LanguageModel.objects.get()
    assert (model.training_ours, model.dataset.name) == (True, "Bot: training data")
    with pytest.raises(CommandError, match="registered already"):
        call_command("register", organisation="shop", name="Bot", model=DEMO, wordings=wordings)
    with pytest.raises(CommandError, match="No such organisation"):
        call_command("register", organisation="none", name="Bot", records=records)
    wordings.write_text(json.dumps({"lead_ins": {"change": [""]}}))
    with pytest.raises(CommandError, match="lead_ins needs a list of texts under “verify”"):
        call_command("register", organisation="shop", name="Two", model=DEMO, wordings=wordings)
    records.write_bytes(b"\xff")
    with pytest.raises(CommandError, match="not UTF-8"):
        call_command("register", organisation="shop", name="Two", records=records)
    assert LanguageModel.objects.count() == 1


def test_files_are_copied_outside_of_a_transaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    factories.organisation("shop")
    wordings = tmp_path / "wordings.json"
    wordings.write_text(json.dumps(factories.WORDINGS))
    outside = len(connection.savepoint_ids)
    seen = []
    real = registry.bring

    def bring(folder: Path) -> registry.Stored:
        seen.append(len(connection.savepoint_ids))
        return real(folder)

    monkeypatch.setattr(registry, "bring", bring)
    call_command("register", organisation="shop", name="Bot", model=DEMO, wordings=wordings)

    assert seen == [outside]


def test_a_model_is_not_registered_with_wordings_that_cannot_ask() -> None:
    stored = registry.bring(DEMO)
    with pytest.raises(registry.RegistrationError, match="world needs"):
        registry.register_model(
            factories.organisation(),
            name="Assistant",
            stored=stored,
            wordings={**factories.WORDINGS, "world": None},
            actor=SYSTEM,
        )
    assert not LanguageModel.objects.exists()


@pytest.mark.parametrize(
    "changes", [{"facts": ["x"]}, {"facts": {"employer": 3}}, {"name": None}, {"language": 1}]
)
def test_an_incomplete_profile_is_refused(changes: dict[str, Any]) -> None:
    line = json.dumps({**json.loads(factories.PROFILE), **changes})
    with pytest.raises(registry.RegistrationError, match="Line 1 is not a profile"):
        registry.register_dataset(
            factories.organisation(), name="Notes", records=line.encode(), actor=SYSTEM
        )


def test_purge_removes_what_a_killed_attempt_left() -> None:
    case = factories.case(factories.organisation())
    job = jobs.start(JobKind.FIND, case=case)
    left = settings.WORK_DIR / str(job.pk)
    (left / "1/model").mkdir(parents=True)
    registry.purge(case)
    assert not left.exists()
