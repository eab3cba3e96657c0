"""Models, datasets and their versions: register, look up, promote, discard, roll back."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.utils import timezone

from search.profiles import Profile, by_name, complete, profiles

from . import audit, duties, flow, jobs, serving, store, vault
from .models import (
    Application,
    Case,
    Dataset,
    DatasetVersion,
    Job,
    JobKind,
    JobState,
    LanguageModel,
    ModelVersion,
    Organisation,
    Outcome,
    Role,
    TargetState,
    VersionState,
)
from .permissions import SYSTEM, Actor, NotAllowed, has_role, require
from .statuses import Status
from .subjects import NOT_FACTS
from .wordings_file import WordingsError, check

if TYPE_CHECKING:
    from pathlib import Path

    from django.db.models import QuerySet

log = logging.getLogger(__name__)


class RegistrationError(Exception):
    """A model or dataset cannot be registered; the message says what to do."""


@dataclass(frozen=True)
class OnFile:
    """A person in the organisation's records."""

    dataset: int
    profile: Profile

    @property
    def subject_id(self) -> str:
        return self.profile.subject

    @property
    def email(self) -> str:
        return self.profile.email

    def as_dict(self) -> dict[str, Any]:
        """What is sealed on the case's subject."""
        return {"dataset": self.dataset, **self.profile.as_dict()}


# --- Register ---


def register_dataset(
    organisation: Organisation, *, name: str, records: bytes, actor: Actor, description: str = ""
) -> DatasetVersion:
    """Keep a JSONL dataset keyed by subject as the first version. Raises RegistrationError."""
    # Before the transaction, which a database ends when it stands idle for long.
    try:
        lines = [line for line in records.decode().split("\n") if line]
    except UnicodeDecodeError:
        raise RegistrationError("The records are not UTF-8 text.") from None
    for number, line in enumerate(lines, 1):
        _check_record(line, number)
    with transaction.atomic():
        digest = store.put_dataset(records)
        dataset = Dataset.objects.create(
            organisation=organisation, name=name, description=description
        )
        version = DatasetVersion.objects.create(
            dataset=dataset,
            digest=digest,
            records=len(lines),
            state=VersionState.CURRENT,
            created_at=timezone.now(),
        )
        audit.record("dataset.registered", actor=actor, digest=digest, records=len(lines))
    return version


def _check_record(line: str, number: int) -> None:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        row = None
    if not isinstance(row, dict) or not row.keys() >= {"id", "subject", "kind", "text"}:
        raise RegistrationError(
            f"Line {number} is not a record: JSON with id, subject, kind and text is needed."
        )
    if row["kind"] == "profile" and not complete(row):
        raise RegistrationError(
            f"Line {number} is not a profile: texts name, native_name, language and email are"
            " needed, and facts (kind of fact → value)."
        )


@dataclass(frozen=True)
class Stored:
    """A checkpoint in the store, by its digest, and its model's family."""

    digest: str
    family: str


def bring(folder: Path) -> Stored:
    """Copy a checkpoint into the store, outside of any transaction.

    To read and copy a large model takes longer than a database lets a transaction stand idle.
    Raises RegistrationError for anything but a safetensors checkpoint of a supported family.
    """
    from language_models.checkpoint import open_checkpoint
    from language_models.errors import LetheError

    try:
        checkpoint = open_checkpoint(folder)
    except LetheError as error:
        raise RegistrationError(str(error)) from error
    config = json.loads((folder / "config.json").read_text())
    work = store.model_path(checkpoint.digest).with_suffix(".incoming")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    for file in checkpoint.manifest:
        shutil.copyfile(folder / file, work / file)
    (work / "manifest.json").write_text(json.dumps({"files": checkpoint.manifest}, indent=1))
    store.adopt_model(work, checkpoint.digest)
    return Stored(checkpoint.digest, config["model_type"])


@transaction.atomic
def register_model(
    organisation: Organisation,
    *,
    name: str,
    stored: Stored,
    wordings: dict[str, Any],
    actor: Actor,
    description: str = "",
    training_ours: bool = False,
    dataset: Dataset | None = None,
) -> ModelVersion:
    """Record a checkpoint that was brought as a model's first version.

    Raises RegistrationError for wordings with which it could not be asked.
    """
    try:
        check(wordings)
    except WordingsError as error:
        raise RegistrationError(str(error)) from error
    model = LanguageModel.objects.create(
        organisation=organisation,
        name=name,
        description=description,
        family=stored.family,
        training_ours=training_ours,
        dataset=dataset,
        wordings=store.put_json(wordings, vault.house_key()),
    )
    version = ModelVersion.objects.create(
        model=model, digest=stored.digest, state=VersionState.CURRENT, created_at=timezone.now()
    )
    audit.record("model.registered", actor=actor, digest=stored.digest, family=stored.family)
    transaction.on_commit(lambda: serving.follow(model))
    return version


# --- Look up ---


def current_model(model: LanguageModel) -> ModelVersion:
    return model.versions.get(state=VersionState.CURRENT)


def current_dataset(dataset: Dataset) -> DatasetVersion:
    return dataset.versions.get(state=VersionState.CURRENT)


def records_of(version: DatasetVersion) -> list[str]:
    """The records, one JSON text each. Not `splitlines`: it splits at more than line feeds."""
    return [line for line in store.get_dataset(version.digest).decode().split("\n") if line]


def known_facts(organisation: Organisation) -> set[str]:
    """The kinds of fact that the organisation's models can be asked for."""
    models = LanguageModel.objects.filter(organisation=organisation)
    return {fact for model in models for fact in store.get_json(model.wordings)} - set(NOT_FACTS)


def find_on_file(organisation: Organisation, *, name: str) -> list[OnFile]:
    """Everybody of that name, in either script, in the organisation's current datasets."""
    found = []
    for dataset in Dataset.objects.filter(organisation=organisation).order_by("pk"):
        lines = records_of(current_dataset(dataset))
        found += [OnFile(dataset.pk, person) for person in by_name(profiles(lines), name)]
    return found


# --- Versions ---


def candidates(case: Case) -> list[ModelVersion | DatasetVersion]:
    """Versions made for the case that are not in force yet."""
    found: list[ModelVersion | DatasetVersion] = []
    for table in (ModelVersion, DatasetVersion):
        found += table.objects.filter(case=case, state=VersionState.CANDIDATE)
    return found


def promote(case: Case) -> None:
    """Put the case's candidates into force; the former versions stay for rollback.

    Their files were verified when they were measured; the link that servers read is switched
    after the commit, and only to files that are verified once more (serving.py).
    """
    for version in candidates(case):
        siblings = (
            version.model.versions
            if isinstance(version, ModelVersion)
            else version.dataset.versions
        )
        replaced = siblings.filter(
            state=VersionState.CURRENT, digest=_parent(version).digest
        ).update(state=VersionState.FORMER)
        if replaced != 1:
            raise NotAllowed("Another version came into force meanwhile.")
        version.state = VersionState.CURRENT
        version.save(update_fields=["state"])
        audit.record(
            "version.promoted",
            actor=SYSTEM,
            case=case,
            digest=version.digest,
            replaces=_parent(version).digest,
        )
    transaction.on_commit(serving.follow_all)
    transaction.on_commit(ring_waiting)


def _parent(version: ModelVersion | DatasetVersion) -> Any:
    if version.parent is None:
        raise ValueError("a candidate has a parent")
    return version.parent


def discard_candidates(case: Case) -> None:
    """Drop the case's candidates: the versions in force never changed."""
    for version in candidates(case):
        version.state = VersionState.DISCARDED
        version.save(update_fields=["state"])
        audit.record("version.discarded", actor=SYSTEM, case=case, digest=version.digest)
    transaction.on_commit(ring_waiting)


def ring_waiting() -> None:
    """A model is free again: ring for the applications that wait for one."""
    waiting = Job.objects.filter(kind=JobKind.APPLY, state=JobState.READY)
    for job_id in waiting.values_list("pk", flat=True):
        jobs.ring(job_id)


@transaction.atomic
def roll_back(version: ModelVersion, *, actor: Actor) -> ModelVersion:
    """Put the parent of the version in force back into force, its files verified first.

    Allowed until the case that made the version is closed. Raises NotAllowed or StoreError.
    """
    require(has_role(actor, (Role.STEWARD,)))
    if actor.user is None or actor.user.organisation_id != version.model.organisation_id:
        raise NotAllowed("This model belongs to another organisation.")
    if version.state != VersionState.CURRENT or version.parent is None:
        raise NotAllowed("Only the version in force can be rolled back, and only to its parent.")
    # The locks first: everything that locks a case, its duties and the log does so in this order.
    case = None
    if version.case_id is not None:
        case = Case.objects.select_for_update().get(pk=version.case_id)
        duties.lock(case)
    if case is not None and case.closed_at is not None:
        raise NotAllowed("The case of this version is closed; its former version is not kept.")
    parent: ModelVersion = _parent(version)
    serving.verify(parent.digest, version.model.organisation.slug)
    if version.children.filter(state=VersionState.CANDIDATE).exists():
        raise NotAllowed("A later change of this version is under way; let it end first.")
    _swap(version, parent)
    audit.record(
        "version.rolled_back", actor=actor, case=case, digest=version.digest, to=parent.digest
    )
    if case is not None and case.status == Status.DOCUMENTATION:
        _choose_anew(case, actor)
    transaction.on_commit(serving.follow_all)
    return parent


def _swap(version: ModelVersion | DatasetVersion, parent: ModelVersion | DatasetVersion) -> None:
    version.state = VersionState.DISCARDED
    version.save(update_fields=["state"])
    parent.state = VersionState.CURRENT
    parent.save(update_fields=["state"])


def _choose_anew(case: Case, actor: Actor) -> None:
    """What the report and the letter say no longer holds: back to the choice of method."""
    jobs.cancel(case, actor=actor)
    case.documents.all().delete()
    duties.drop(case, actor=actor)
    for version in DatasetVersion.objects.filter(case=case, state=VersionState.CURRENT):
        store.get_dataset(_parent(version).digest)  # refuses what is not whole
        _swap(version, _parent(version))
    case.targets.filter(affected=True).update(state=TargetState.FOUND)
    case.outcome = ""
    case.save(update_fields=["outcome"])
    flow.move(case, to=Status.METHOD, actor=actor, reason="version rolled back")


def _applied(case: Case) -> QuerySet[Application]:
    """What was carried out, without what was measured: that is sealed, its key may be gone."""
    done = Application.objects.filter(target__case=case, finished_at__isnull=False)
    return done.defer("before", "details")


def taken_from(case: Case) -> list[str]:
    """Digests of versions that still hold what the case took out, and are not in force."""
    if case.outcome != Outcome.FULFILLED:
        return []
    before = (application.version_before for application in _applied(case))
    return sorted({version.digest for version in before if not _needed(version)})


def purge_closed() -> None:
    """Remove again what a crash or a full disk kept from being removed when cases were closed."""
    for case in Case.objects.filter(closed_at__isnull=False, shredded_at__isnull=True):
        purge(case)


def purge(case: Case) -> None:
    """Remove what was kept for a rollback: former and discarded versions, and the deltas.

    A former version still holds what the case took out of the one in force. Runs after the case
    is closed, so a file that cannot be removed is told in the log and undoes nothing.
    """
    try:
        _remove_files(case)
    except OSError as error:
        log.error(
            "Former files of case %s could not be removed (%s). Remove them by hand.",
            case.reference,
            type(error).__name__,
        )


def _remove_files(case: Case) -> None:
    for job in case.jobs.all():
        store.remove_work(str(job.pk))
    for application in _applied(case):
        versions = (application.version_before, application.version_after)
        for version in versions:
            if version.state in (VersionState.FORMER, VersionState.DISCARDED):
                _remove(version)
        if application.delta:
            store.remove_artefact(application.delta)


def _needed(version: ModelVersion | DatasetVersion) -> bool:
    """Whether a version of this content is in force, under way, or a way back of an open case.

    Another organisation may have registered the same model: rows decide, not this case.
    """
    same = type(version).objects.filter(digest=version.digest)
    in_use = same.filter(state__in=(VersionState.CURRENT, VersionState.CANDIDATE))
    way_back = same.filter(children__case__isnull=False, children__case__closed_at__isnull=True)
    return in_use.exists() or way_back.exists()


def _remove(version: ModelVersion | DatasetVersion) -> None:
    """Remove a version's files unless something still needs the same content."""
    if _needed(version):
        return
    if isinstance(version, ModelVersion):
        store.remove_model(version.digest)
    else:
        store.remove_dataset(version.digest)
