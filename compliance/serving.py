"""Which version of a model serves: `var/store/serving/<model number>` is a link to its folder.

The database decides which version is current; the link follows it, so that an inference server
needs no database. A link is replaced by one rename after every file of the version was hashed; a
reader that resolves it once reads one whole version, because a version's folder never changes.
"""

from __future__ import annotations

import logging
import secrets
from pathlib import Path

from django.conf import settings

from language_models.files import model_digest

from . import store
from .durable import sync_folder
from .models import LanguageModel, ModelVersion, VersionState

log = logging.getLogger(__name__)


def link(model: LanguageModel) -> Path:
    """Where an inference server finds the version in force."""
    return settings.STORE_DIR / "serving" / str(model.pk)


def serves(model: LanguageModel) -> str | None:
    """The digest that the link leads to, or None."""
    try:
        return link(model).readlink().name
    except FileNotFoundError:
        return None


def verify(digest: str, organisation: str | None = None) -> None:
    """Hash every file of a version. Raises StoreError when missing, changed or taken back."""
    store.refuse_taken_back(digest, organisation)
    folder = store.model_path(digest)
    if not folder.is_dir() or model_digest(folder) != digest:
        raise store.StoreError(
            "A model version is missing or was changed on disk. Restore var/store from a backup."
        )


def point(model: LanguageModel, digest: str) -> None:
    """Let the link lead to a version, verified first. Raises StoreError."""
    verify(digest, model.organisation.slug)
    path = link(model)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    aside.symlink_to(Path("..") / "models" / digest)
    aside.rename(path)
    sync_folder(path.parent)


def follow(model: LanguageModel) -> None:
    """Let the link follow the database; what hinders it is told in the log, and tried again."""
    # Asked again after each switch: a process that slept in between may have switched it back.
    while (wanted := _in_force(model)) is not None and serves(model) != wanted:
        try:
            point(model, wanted)
        except (store.StoreError, OSError) as error:
            log.error("Model %s still serves its former version: %s", model.pk, _told(error))
            return


def _in_force(model: LanguageModel) -> str | None:
    found = ModelVersion.objects.filter(model=model, state=VersionState.CURRENT)
    return found.values_list("digest", flat=True).first()


def _told(error: Exception) -> str:
    # The message of an OSError holds a path.
    return str(error) if isinstance(error, store.StoreError) else type(error).__name__


def follow_all() -> None:
    """After a crash between the commit and the switch of a link."""
    for model in LanguageModel.objects.all():
        follow(model)
