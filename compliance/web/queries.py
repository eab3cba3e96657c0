"""What the list pages read. Nothing here writes, and no list asks again for each row."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db.models import Exists, F, Min, OuterRef, Prefetch, Q, QuerySet
from django.http import Http404
from django.utils import timezone

from compliance import store
from compliance.duties import in_the_way, open_duties
from compliance.log_actions import ACTIONS, OF_THE_HOUSE
from compliance.models import (
    AuditEvent,
    Case,
    Dataset,
    DatasetVersion,
    Decision,
    DecisionOutcome,
    Duty,
    DutyRun,
    IdentityCheck,
    Job,
    JobState,
    LanguageModel,
    ModelVersion,
    Organisation,
    Role,
)
from compliance.statuses import Status
from compliance.subjects import NOT_FACTS

if TYPE_CHECKING:
    from datetime import datetime

LIVE = (JobState.READY, JobState.RUNNING)
AMBER_DAYS = 7

WITH_OFFICER = (
    Status.TARGETS,
    Status.METHOD,
    Status.APPLICATION,
    Status.VERIFICATION,
    Status.DOCUMENTATION,
)
# Annotations of `cases`; `waits_for` says the same of one row.
WAITS_FOR_OFFICER = Q(refusal_pending=False, job_live=False) & (
    Q(status=Status.RECEIVED)
    | Q(status=Status.IDENTITY, code_matched=True)
    | Q(status__in=WITH_OFFICER)
)
WAITS_FOR_LEGAL = Q(refusal_pending=True) | Q(status=Status.APPROVAL)
OPEN = ~Q(status=Status.CLOSED)


@dataclass(frozen=True)
class Due:
    """A due date in words; the colour only repeats them."""

    text: str
    colour: str
    date: datetime | None


@dataclass(frozen=True)
class QueueRow:
    """A case in a list."""

    case: Case
    status: Status
    due: Due
    waits_for: str


def due(moment: datetime | None, *, closed: bool) -> Due:
    """Green above seven days, amber from there, red when overdue, grey when closed."""
    if closed or moment is None:
        return Due("answered", "secondary", moment)
    days = (timezone.localdate(moment) - timezone.localdate()).days
    if days < 0:
        return Due(f"overdue by {_days(-days)}", "red", moment)
    text = "due today" if days == 0 else f"{_days(days)} left"
    return Due(text, "green" if days > AMBER_DAYS else "yellow", moment)


def _days(count: int) -> str:
    return "1 day" if count == 1 else f"{count} days"


def cases(organisation: Organisation) -> QuerySet[Any]:
    """The organisation's cases, the most urgent first, with what a queue shows of each."""
    jobs = Job.objects.filter(case=OuterRef("pk"), state__in=LIVE)
    matched = IdentityCheck.objects.filter(
        case=OuterRef("pk"), matched_at__isnull=False, confirmed_at__isnull=True
    )
    refusal = Decision.objects.filter(
        case=OuterRef("pk"), target__isnull=True, outcome=DecisionOutcome.PENDING
    )
    return (
        Case.objects.filter(organisation=organisation)
        .annotate(
            due=Min("clocks__due_at", filter=Q(clocks__met_at__isnull=True)),
            job_live=Exists(jobs),
            code_matched=Exists(matched),
            refusal_pending=Exists(refusal),
        )
        .order_by(F("due").asc(nulls_last=True), "-closed_at", "received_at")
    )


def row(case: Any) -> QueueRow:
    """One case of `cases` as a list shows it."""
    status = Status(case.status)
    return QueueRow(case, status, due(case.due, closed=case.closed_at is not None), waits_for(case))


def waits_for(case: Any) -> str:
    """Whose turn it is."""
    if case.status == Status.CLOSED:
        return "nobody"
    if case.refusal_pending or case.status == Status.APPROVAL:
        return "Legal"
    if case.job_live:
        return "Worker"
    if case.status == Status.IDENTITY and not case.code_matched:
        return "Requester"
    return "Officer"


def waiting_for(role: Role) -> Q:
    """The filter of “waiting for me”."""
    return WAITS_FOR_LEGAL if role == Role.LEGAL else WAITS_FOR_OFFICER


def find_case(organisation: Organisation, reference: str) -> Case:
    """One case of the organisation. Another's is not there: Http404."""
    found = (
        Case.objects.filter(organisation=organisation, reference=reference)
        .select_related("organisation", "subject")
        .prefetch_related("clocks")
        .first()
    )
    if found is None:
        raise Http404
    return found


def fact_labels(organisation: Organisation | None) -> dict[str, str]:
    """Kinds of fact that the registered models can be asked for, with their labels."""
    models = LanguageModel.objects.order_by("pk")
    if organisation is not None:
        models = models.filter(organisation=organisation)
    labels: dict[str, str] = {}
    for model in models:
        for fact, wording in store.get_json(model.wordings).items():
            if fact not in NOT_FACTS:
                labels.setdefault(fact, wording["label"])
    return labels


def fact_label(labels: dict[str, str], fact: str) -> str:
    return labels.get(fact, fact.replace("_", " ").capitalize())


# --- Log ---


@dataclass(frozen=True)
class EventLine:
    """An event of the log as a page shows it."""

    seq: int
    at: datetime
    label: str
    actor: str
    account: str
    detail: str
    digest: str
    case: Case | None


def events(organisation: Organisation) -> QuerySet[AuditEvent]:
    """The organisation's events, newest first: of its cases, its registry, and of the house."""
    registered = [
        *ModelVersion.objects.filter(
            model__organisation=organisation, parent__isnull=True
        ).values_list("digest", flat=True),
        *DatasetVersion.objects.filter(
            dataset__organisation=organisation, parent__isnull=True
        ).values_list("digest", flat=True),
    ]
    own = Q(case__organisation=organisation) | Q(case__isnull=True, action__in=OF_THE_HOUSE)
    mine = f'"organisation":"{organisation.slug}"'
    own |= Q(case__isnull=True, action__startswith="duty.", leaf__contains=mine)
    for digest in registered:
        own |= Q(case__isnull=True, leaf__contains=f'"digest":"{digest}"')
    return AuditEvent.objects.filter(own).select_related("case").order_by("-seq")


def event_line(event: AuditEvent) -> EventLine:
    """The words of one event."""
    leaf = json.loads(event.leaf)
    role, _, account = leaf["actor"].partition(" ")
    return EventLine(
        seq=event.seq,
        at=event.at,
        label=ACTIONS[event.action],
        actor=Role(role).label,
        account=account,
        detail=_detail(event.action, leaf["facts"]),
        digest=event.digest,
        case=event.case,
    )


def _detail(action: str, facts: dict[str, Any]) -> str:
    if action == "case.moved":
        moved = f"{Status(facts['source']).label} → {Status(facts['to']).label}"
        reason = facts.get("reason", "").replace("_", " ")
        return f"{moved} ({reason})" if reason else moved
    # A target's number means nothing to a reader.
    told = sorted((key, value) for key, value in facts.items() if key != "target")
    return ", ".join(_fact(key, value) for key, value in told)


def _fact(key: str, value: Any) -> str:
    if isinstance(value, bool):
        value = "yes" if value else "no"
    if isinstance(value, str) and len(value) == 64:
        value = value[:12]
    return f"{key.replace('_', ' ')}: {value}"


# --- Registry ---


@dataclass(frozen=True)
class Lineage:
    """A model or dataset with its versions, newest first."""

    table: LanguageModel | Dataset
    versions: list[Any]


def models(organisation: Organisation) -> list[Lineage]:
    return [
        Lineage(model, sorted(model.versions.all(), key=lambda version: -version.pk))
        for model in LanguageModel.objects.filter(organisation=organisation)
        .select_related("dataset")
        .prefetch_related("versions__parent", "versions__case")
        .order_by("name")
    ]


def datasets(organisation: Organisation) -> list[Lineage]:
    return [
        Lineage(dataset, sorted(dataset.versions.all(), key=lambda version: -version.pk))
        for dataset in Dataset.objects.filter(organisation=organisation)
        .prefetch_related("versions__parent", "versions__case")
        .order_by("name")
    ]


@dataclass(frozen=True)
class DutyRow:
    """An open duty: the newest answer to it, and the open cases that it kept from their change."""

    duty: Duty
    newest: DutyRun | None
    keeps: list[Case]


@dataclass(frozen=True)
class Asked:
    """A model, and what finished cases still ask of it."""

    model: LanguageModel
    duties: list[DutyRow]


def duties(organisation: Organisation) -> list[Asked]:
    """The open duties of each model, the oldest first."""
    return [
        Asked(model, _duties(model))
        for model in LanguageModel.objects.filter(organisation=organisation).order_by("name")
    ]


def _duties(model: LanguageModel) -> list[DutyRow]:
    kept = in_the_way(model)
    runs = DutyRun.objects.select_related("version").order_by("-ran_at", "-pk")
    found = open_duties(model).prefetch_related(Prefetch("runs", runs)).order_by("pk")
    return [
        DutyRow(
            duty,
            next(iter(duty.runs.all()), None),
            [case for case, run in kept if run.duty == duty],
        )
        for duty in found
    ]


def evidence(case: Case) -> list[dict[str, Any]]:
    """What the models answered when they were asked for the person's facts; personal data."""
    return [
        {"target": target, "answers": store.get_json(target.evidence)}
        for target in case.targets.filter(model__isnull=False).select_related("model")
    ]
