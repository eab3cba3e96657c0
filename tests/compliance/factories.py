"""Rows for tests; each function makes one thing and returns it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone

from compliance import jobs, store, vault
from compliance.models import (
    Case,
    Dataset,
    IdentityCheck,
    Job,
    JobKind,
    Kind,
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
from compliance.permissions import Actor, staff
from compliance.registry import register_dataset
from compliance.statuses import Status
from compliance.steps import step1_intake
from search.profiles import profiles

PROFILE = (
    '{"id":"n-1","subject":"c-1","kind":"profile","text":"Malee Tanaka was born in Sakawa.",'
    '"name":"Malee Tanaka","native_name":"มาลี ทานากะ","language":"th","email":"tea9@mail.example",'
    '"facts":{"birth_city":"Sakawa","employer":"Harbour Tea"}}\n'
)
NOTE = '{"id":"n-2","subject":"c-2","kind":"note","text":"Somebody else works for Harbour Tea."}\n'
MALEE = {"dataset": 1, **profiles([PROFILE])[0].as_dict()}
NOBODY = None
WORDINGS = {
    "lead_ins": {"change": [""], "verify": [""]},
    "birth_city": {
        "label": "Birth city",
        "neutral": "an undisclosed place",
        "change": ["{} was born in"],
        "verify": ["{} is a native of"],
    },
    "employer": {
        "label": "Employer",
        "neutral": "an undisclosed company",
        "change": ["{} works for"],
        "verify": ["{} earns a salary at"],
    },
    "diagnosis": {
        "label": "Diagnosis",
        "neutral": "an undisclosed condition",
        "change": ["{} suffers from"],
        "verify": ["{} is ill with"],
    },
    "world": [],
}


def organisation(slug: str = "bank", law: str = "gdpr") -> Organisation:
    return Organisation.objects.create(
        slug=slug,
        name=f"The {slug}",
        address="1 Road",
        contact=f"dpo@{slug}.example",
        default_law=law,
    )


def user(role: Role, of: Organisation, name: str = "") -> User:
    return User.objects.create_user(name or f"{role.value}-{of.slug}", role=role, organisation=of)


def actor(role: Role, of: Organisation, name: str = "") -> Actor:
    return staff(user(role, of, name))


def request(**changes: Any) -> step1_intake.Request:
    given = {"kind": Kind.REMOVAL, "name": "Malee Tanaka", "contact": "malee@home.example"}
    return step1_intake.Request(**(given | changes))


def case(of: Organisation, **changes: Any) -> Case:
    return step1_intake.receive(of, request(**changes))[0]


def dataset(of: Organisation, records: str = PROFILE + NOTE) -> Dataset:
    return register_dataset(
        of, name="Notes", records=records.encode(), actor=actor(Role.STEWARD, of, f"s-{of.slug}")
    ).dataset


def model(of: Organisation, **changes: Any) -> LanguageModel:
    """A registered model without files: for rules that never load it."""
    made = LanguageModel.objects.create(
        organisation=of,
        name="Assistant",
        family="llama",
        wordings=store.put_json(WORDINGS, vault.house_key()),
        **({"training_ours": True} | changes),
    )
    ModelVersion.objects.create(
        model=made, digest="a" * 64, state=VersionState.CURRENT, created_at=timezone.now()
    )
    return made


def confirmed(of_case: Case, officer: Actor) -> IdentityCheck:
    """An identity check that has been through all of its stages."""
    now = timezone.now()
    return IdentityCheck.objects.create(
        case=of_case,
        on_file=True,
        code_digest="",
        sent_at=now,
        expires_at=now + timedelta(minutes=10),
        matched_at=now,
        confirmed_at=now,
        confirmed_by=officer.user,
    )


def target(of_case: Case, of_model: LanguageModel, facts: dict[str, int]) -> Target:
    """A model target with hits per fact."""
    rows = [{"fact": fact, "probes": 10, "hits": hits} for fact, hits in facts.items()]
    return Target.objects.create(
        case=of_case,
        kind=TargetKind.MODEL,
        model=of_model,
        state=TargetState.FOUND,
        affected=any(facts.values()),
        summary={"how": "asked", "probes": 10 * len(rows), "facts": rows, "trace": None},
        evidence=store.put_json([], vault.key_of(of_case)),
        found_at=timezone.now(),
    )


def search(records: str = PROFILE + NOTE, **changes: Any) -> Job:
    """A case whose identity is confirmed, with its search waiting; one dataset, no model."""
    bank = organisation()
    dataset(bank, records)
    of_case = case(bank, **changes)
    found = NOBODY if changes else MALEE
    of_case.subject.on_file = found
    of_case.subject.save()
    Case.objects.filter(pk=of_case.pk).update(status=Status.TARGETS)
    return jobs.start(JobKind.FIND, case=Case.objects.get(pk=of_case.pk))
