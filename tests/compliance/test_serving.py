"""The link that inference servers read follows the database, and never to what is not verified."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from django.conf import settings
from django.utils import timezone

from compliance import registry, serving, store, upkeep, vault
from compliance.models import LanguageModel, ModelVersion, Role, VersionState
from language_models.files import manifest_digest, model_digest, sha256_of
from tests.compliance import factories

if TYPE_CHECKING:
    from compliance.permissions import Actor

pytestmark = pytest.mark.django_db(transaction=True)


def _version(content: str) -> str:
    """A small version in the store; what is in it does not matter here."""
    folder = store.model_path("building")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"content": content}))
    digest = manifest_digest({"config.json": sha256_of(folder / "config.json")})
    store.adopt_model(folder, digest)
    return digest


@pytest.fixture
def model() -> LanguageModel:
    made = factories.model(factories.organisation())
    made.versions.all().delete()
    former = _row(made, _version("former"), VersionState.FORMER)
    _row(made, _version("current"), VersionState.CURRENT, former)
    return made


def _row(
    model: LanguageModel, digest: str, state: VersionState, parent: ModelVersion | None = None
) -> ModelVersion:
    return ModelVersion.objects.create(
        model=model, digest=digest, state=state, parent=parent, created_at=timezone.now()
    )


def _steward(model: LanguageModel) -> Actor:
    return factories.actor(Role.STEWARD, model.organisation, "steward")


def test_link_follows_the_version_in_force_and_rolls_back(model: LanguageModel) -> None:
    serving.follow(model)
    current = registry.current_model(model)
    assert serving.serves(model) == current.digest
    assert model_digest(serving.link(model).resolve()) == current.digest
    registry.roll_back(current, actor=_steward(model))
    assert serving.serves(model) == registry.current_model(model).digest == current.parent.digest


def test_link_does_not_move_to_a_changed_version(model: LanguageModel, caplog) -> None:
    former, current = model.versions.order_by("pk")
    serving.point(model, former.digest)
    config = store.model_path(current.digest) / "config.json"
    whole = config.read_text()
    config.write_text("changed on disk")
    serving.follow(model)
    assert serving.serves(model) == former.digest
    assert "still serves its former version" in caplog.text
    config.write_text(whole)
    upkeep.keep_up()
    assert serving.serves(model) == current.digest


def test_roll_back_to_a_changed_version_changes_nothing(model: LanguageModel) -> None:
    former, current = model.versions.order_by("pk")
    serving.follow(model)
    config = store.model_path(former.digest) / "config.json"
    config.write_text("changed on disk")
    with pytest.raises(store.StoreError, match="changed on disk"):
        registry.roll_back(current, actor=_steward(model))
    assert registry.current_model(model) == current
    assert serving.serves(model) == current.digest
    store.remove_model(former.digest)


def test_upkeep_switches_a_link_that_a_crash_left_behind(model: LanguageModel) -> None:
    assert serving.serves(model) is None
    upkeep.keep_up()
    assert serving.serves(model) == registry.current_model(model).digest
    assert not Path(serving.link(model).readlink()).is_absolute()


def test_sweep_removes_what_dead_processes_left_and_nothing_else(model: LanguageModel) -> None:
    store.put(b"Malee Tanaka", vault.house_key())
    digest = store.put_dataset(b'{"id":"kept"}')
    left = [
        settings.STORE_DIR / "artefacts/aa/.aabb.1234abcd",
        settings.STORE_DIR / "models/abc.incoming/config.json",
        settings.CHECKPOINT_DIR / ".000000000001.checkpoint.1234abcd",
        settings.WORK_DIR / "no-such-job/1/model",
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("left behind")
    unknown = settings.STORE_DIR / "datasets/abc.no-key.sealed"
    unknown.write_text("its key may be in a newer database than the one restored")
    assert store.sweep_orphans(set()) == 0  # young: they may belong to somebody who is at work
    for path in settings.VAR_DIR.rglob("*"):
        os.utime(path, (0, 0), follow_symlinks=False)
    kept = {path for path in settings.STORE_DIR.glob("artefacts/??/*") if path not in left}
    assert store.sweep_orphans(set()) >= len(left)
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in (*kept, unknown))
    unknown.unlink()
    assert serving.link(model).parent.parent.is_dir()
    assert store.get_dataset(digest)
