"""Rows for the pages: real steps where they are quick, results.py where a model would run."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import timedelta
from itertools import count
from typing import Any

from django.db import transaction
from django.utils import timezone

from compliance import audit, store, vault
from compliance.models import (
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
    Role,
    Target,
    TargetKind,
    TargetState,
    User,
    VersionState,
)
from compliance.permissions import SYSTEM, Actor, staff
from compliance.secret import new_code
from compliance.steps import (
    documentation,
    step1_intake,
    step2_identity,
    step3_targets,
    step4_method,
    step6_verification,
)
from compliance.vault import keyed_digest
from tests.web.results import (
    PDF,
    counted,
    dataset_finding,
    dataset_verdict,
    measurement,
    model_finding,
    plan,
    sha,
    verdict,
)

_number = count(1)
REASONS = "The data was used without a ground that still holds; the smallest change suffices."
WORDINGS = {
    "birth_city": {"label": "Birth city", "neutral": "an undisclosed place"},
    "employer": {"label": "Employer", "neutral": "an undisclosed company"},
    "diagnosis": {"label": "Diagnosis", "neutral": "an undisclosed condition"},
    "lead_ins": {},
    "world": [],
}


# --- Who and what ---


def organisation(slug: str = "meridian", name: str = "Meridian Bank (fictional)") -> Organisation:
    return Organisation.objects.create(
        slug=slug,
        name=name,
        address="1 River Road, Bangkok",
        contact=f"privacy@{slug}.example",
    )


def user(role: Role, place: Organisation | None, *, password: str | None = None) -> User:
    account = User(
        username=f"{role.value}-{next(_number)}",
        role=role,
        organisation=place,
    )
    account.set_password(password) if password else account.set_unusable_password()
    account.save()
    return account


def actor(role: Role, place: Organisation) -> Actor:
    """Somebody of that role: the first there is, or a new account."""
    found = User.objects.filter(role=role, organisation=place).order_by("pk").first()
    return staff(found or user(role, place))


def person(subject: str, name: str, email: str) -> dict[str, Any]:
    """A profile record."""
    return {
        "id": f"n-{subject}",
        "subject": subject,
        "kind": "profile",
        "text": f"{name} was born in Pakse.",
        "name": name,
        "native_name": "",
        "language": "lo",
        "email": email,
        "facts": {"birth_city": "Pakse", "employer": "Mekong Freight", "diagnosis": "asthma"},
    }


def dataset(place: Organisation) -> Dataset:
    """Customer notes of three people, two of the same name."""
    rows = [
        person("c-001", "Malee Tanaka", "malee@post.example"),
        person("c-002", "Anou Vong", "anou.v@mail.example"),
        person("c-003", "Anou Vong", "vong@post.example"),
    ]
    table = Dataset.objects.create(
        organisation=place, name="Customer notes", description="Notes of the branches since 2019."
    )
    DatasetVersion.objects.create(
        dataset=table,
        digest=store.put_dataset("\n".join(json.dumps(row) for row in rows).encode()),
        records=len(rows),
        state=VersionState.CURRENT,
        created_at=timezone.now(),
    )
    return table


@transaction.atomic
def model(place: Organisation, trained_on: Dataset) -> LanguageModel:
    """A registered model; its files are not needed by the pages."""
    table = LanguageModel.objects.create(
        organisation=place,
        name="Customer assistant",
        description="Answers questions of branch staff.",
        family="llama",
        training_ours=True,
        dataset=trained_on,
        wordings=store.put_json(WORDINGS, vault.house_key()),
    )
    version = ModelVersion.objects.create(
        model=table,
        digest=sha(f"model of {place.slug}"),
        state=VersionState.CURRENT,
        created_at=timezone.now(),
    )
    audit.record("model.registered", actor=SYSTEM, digest=version.digest, family="llama")
    return table


def registry(place: Organisation) -> LanguageModel:
    return model(place, dataset(place))


# --- A case, step by step ---


def received(
    place: Organisation, *, name: str = "Malee Tanaka", days: int = 0, **fields: str
) -> tuple[Case, str]:
    """A case filed `days` ago, with its secret."""
    request = step1_intake.Request(
        **{
            "kind": "removal",
            "name": name,
            "contact": "malee@post.example",
            "statement": "The assistant told a clerk my diagnosis.",
            **fields,
        }
    )
    case, secret = step1_intake.receive(place, request)
    if days:
        back = timedelta(days=days)
        case.received_at -= back
        case.save(update_fields=["received_at"])
        for clock in case.clocks.all():
            clock.started_at -= back
            clock.due_at -= back
            clock.save()
    return case, secret


def code_sent(case: Case) -> str:
    """Send the code; returns what the e-mail would have said."""
    step2_identity.send_code(case, actor=actor(Role.OFFICER, case.organisation))
    code = new_code()
    case.identity_checks.update(
        code_digest=keyed_digest("one-time code", f"{case.reference}:{code}")
    )
    return code


def code_entered(case: Case) -> None:
    step2_identity.enter_code(case, code_sent(case))


def searching(case: Case) -> Job:
    """Identity confirmed; the search waits for a worker."""
    code_entered(case)
    step2_identity.confirm(case, actor=actor(Role.OFFICER, case.organisation))
    return case.jobs.get(kind=JobKind.FIND)


def finished(*jobs: Job) -> None:
    now = timezone.now()
    Job.objects.filter(pk__in=[job.pk for job in jobs]).update(
        state=JobState.DONE, attempt=1, started_at=now - timedelta(seconds=4), finished_at=now
    )


@transaction.atomic
def searched(case: Case, *, affected: bool = True) -> None:
    """The search is done: one model, one dataset."""
    job = searching(case)
    place = case.organisation
    step3_targets.record(
        job,
        {
            "models": [
                model_finding(table, affected=affected)
                for table in LanguageModel.objects.filter(organisation=place)
            ],
            "datasets": [
                dataset_finding(table, affected=affected)
                for table in Dataset.objects.filter(organisation=place)
            ],
        },
    )
    finished(job)


def selecting(case: Case) -> None:
    searched(case)
    step4_method.open_selection(case, actor=actor(Role.OFFICER, case.organisation))


def proposed(case: Case, by: User | None = None) -> None:
    """Every target has a proposal, handed in for approval."""
    selecting(case)
    propose_all(case, by)


def propose_all(case: Case, by: User | None = None) -> None:
    officer = staff(by) if by else actor(Role.OFFICER, case.organisation)
    for target in case.targets.all():
        method = "npo" if target.kind == TargetKind.MODEL else "delete_rows"
        step4_method.propose(target, actor=officer, method=method, reasons=REASONS)
    step4_method.submit(case, actor=officer)


def approved(case: Case) -> None:
    proposed(case)
    step4_method.approve(case, actor=actor(Role.LEGAL, case.organisation), reasons=REASONS)


# --- The change and its measurement ---


def _candidate(target: Target, number: int) -> dict[str, Any]:
    if target.model is not None:
        before = target.model.versions.get(state=VersionState.CURRENT)
        after: Any = ModelVersion(model=target.model, digest=sha(f"candidate {target.pk} {number}"))
        names = ("model_before", "model_after")
    else:
        before = target.dataset.versions.get(state=VersionState.CURRENT)
        # The person stays on file here, so that further cases of theirs can be made.
        note = {"id": f"w-{target.pk}", "subject": None, "kind": "world", "text": "A note."}
        rows = store.get_dataset(before.digest).decode() + "\n" + json.dumps(note)
        after = DatasetVersion(
            dataset=target.dataset,
            digest=store.put_dataset(rows.encode()),
            records=before.records + 1,
        )
        names = ("dataset_before", "dataset_after")
    after.parent, after.state, after.made_for = before, VersionState.CANDIDATE, target
    after.case = target.case
    after.created_at = timezone.now()
    after.save()
    return dict(zip(names, (before, after), strict=True))


@transaction.atomic
def applied(case: Case) -> None:
    """Every measure is carried out; the verification begins."""
    from compliance import flow
    from compliance.statuses import Status

    approved(case)
    now = timezone.now()
    for number, target in enumerate(case.targets.order_by("pk")):
        Application.objects.create(
            target=target,
            decision=target.decisions.get(outcome="approved"),
            plan=store.put_json(plan(), vault.key_of(case)),
            plan_commitment=sha("plan"),
            plan_frozen_at=now,
            before=measurement(leak=331, upper=0.94) if target.model else counted(9),
            delta=sha("delta") if target.model else "",
            parameters={"beta": 0.1, "steps": 40, "seed": 0} if target.model else {},
            details={
                "details": {},
                "seconds": 9.84 if target.model else 0.2,
                "hash_before": sha("weights"),
                "hash_after": sha("new weights"),
                "hash_reverted": sha("weights"),
            },
            started_at=now,
            finished_at=now,
            **_candidate(target, number),
        )
    case.targets.update(state=TargetState.APPLIED)
    finished(*case.jobs.filter(kind=JobKind.APPLY))
    flow.move(case, to=Status.VERIFICATION, actor=SYSTEM)


@transaction.atomic
def verified(case: Case, *, passed: bool = True) -> None:
    """Measured: into force, or back to method selection."""
    applied(case)
    for job in case.jobs.filter(kind=JobKind.VERIFY).order_by("target_id"):
        is_model = job.target.kind == TargetKind.MODEL
        job.case = case
        job.target.case = case
        step6_verification.record(
            job,
            {
                "after": measurement(
                    leak=1 if passed else 41, upper=0.0131 if passed else 0.146, attacked=True
                )
                if is_model
                else counted(0),
                "verdict": verdict(passed=passed) if is_model else dataset_verdict(),
                "duties": [],
            },
        )
        finished(job)


@transaction.atomic
def documented(case: Case) -> None:
    """Report and letter lie in the store."""
    job = case.jobs.get(kind=JobKind.DOCUMENT)
    made = {
        "pdf": base64.b64encode(PDF).decode(),
        "sha256": hashlib.sha256(PDF).hexdigest(),
        "signature_valid": True,
    }
    documentation.record(job, {"report": made, "letter": made})
    finished(job)


def closed(case: Case) -> None:
    verified(case)
    documented(case)
    documentation.close(case, actor=actor(Role.OFFICER, case.organisation))
