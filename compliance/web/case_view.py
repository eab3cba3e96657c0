"""The case page's parts as its templates show them. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.utils import timezone

from compliance.law import law
from compliance.models import (
    Application,
    Case,
    Dataset,
    Decision,
    DecisionOutcome,
    Job,
    JobState,
    Kind,
    Target,
)
from compliance.policy import Suggestion, suggest
from compliance.statuses import STEP_NAMES, Status
from compliance.steps import step2_identity, step4_method
from reports.typography import percent

from .charts import HeatMap, heat_map
from .forms import ProposeForm
from .measured_view import Measured, measured
from .queries import LIVE, fact_label, fact_labels


@dataclass(frozen=True)
class Step:
    """One of the six steps; `state` is done, current or todo."""

    name: str
    state: str


@dataclass(frozen=True)
class Attempt:
    """A decision on a target with what followed from it."""

    decision: Decision
    application: Application | None
    seconds: float | None
    hashes: list[tuple[str, str]]
    parameters: list[tuple[str, Any]]
    measured: Measured | None


@dataclass(frozen=True)
class TargetView:
    """A target with its evidence, its decisions and, where one may be made, a proposal form."""

    target: Target
    facts: list[dict[str, Any]]
    heat: HeatMap | None
    suggestion: Suggestion | None
    suggested_facts: str
    form: ProposeForm | None
    attempts: list[Attempt]

    @property
    def pending(self) -> Decision | None:
        """The proposal that stands."""
        for attempt in self.attempts:
            if attempt.decision.outcome == DecisionOutcome.PENDING:
                return attempt.decision
        return None


def steps(case: Case) -> list[Step]:
    """The six steps; a case that ended early leaves the later ones undone."""
    status = Status(case.status)
    reached = status.step
    ended_early = status.step > len(STEP_NAMES) and case.outcome != "fulfilled"
    if ended_early:
        reached = _last_step(case)
    return [
        Step(
            name,
            "done"
            if number < reached
            else "current"
            if number == reached and not ended_early
            else "todo",
        )
        for number, name in STEP_NAMES.items()
    ]


def _last_step(case: Case) -> int:
    """The step from which a case ended early."""
    if case.targets.filter(decisions__isnull=False).exists():
        return 4
    if case.targets.exists():
        return 3
    return 2 if case.identity_checks.exists() else 1


def law_of(case: Case) -> dict[str, Any]:
    """Name and article of the case's law."""
    pack = law(case.law)
    article = pack.removal_article if case.kind == Kind.REMOVAL else pack.correction_article
    return {"pack": pack, "article": article}


def latest_jobs(case: Case) -> list[Job]:
    """The newest job of each target (or of the case) in the current step's order."""
    found = case.jobs.select_related("target__model", "target__dataset").order_by("-created_at")
    newest: dict[tuple[str, int | None], Job] = {}
    for job in found:
        newest.setdefault((job.kind, job.target_id), job)
    return list(newest.values())


@dataclass(frozen=True)
class JobLine:
    """A job in the progress panel."""

    job: Job
    seconds: int
    name: str


def job_lines(jobs: list[Job]) -> list[JobLine]:
    """Live and failed jobs with their running time."""
    now = timezone.now()
    shown = [job for job in jobs if job.state in (*LIVE, JobState.FAILED)]
    return [
        JobLine(
            job,
            0
            if job.started_at is None
            else int(((job.finished_at or now) - job.started_at).total_seconds()),
            "" if job.target is None else job.target.name,
        )
        for job in shown
    ]


def refusals(case: Case) -> list[dict[str, Any]]:
    """Every proposed refusal with its ground, the newest first."""
    pack = law(case.law)
    decisions = case.decisions.filter(target__isnull=True).select_related(
        "proposed_by", "decided_by"
    )
    return [
        {"decision": decision, "ground": pack.ground(decision.ground)}
        for decision in decisions.order_by("-pk")
    ]


# --- Identity ---


def namesakes(case: Case) -> list[dict[str, str]]:
    """Those on file who may be the requester, masked."""
    return [
        {
            "id": person.subject_id,
            "email": mask_email(person.email),
            "language": person.profile.language,
        }
        for person in step2_identity.candidates(case)
    ]


def mask_email(address: str) -> str:
    """m•••@example.org"""
    local, _, domain = address.partition("@")
    return f"{local[:1]}•••@{domain}"


def on_file_name(case: Case) -> str:
    """The dataset in which the person was found."""
    on_file: Any = case.subject.on_file
    if on_file is None:
        return ""
    found = Dataset.objects.filter(pk=on_file["dataset"]).first()
    return "" if found is None else f"{found.name}, subject {on_file['subject']}"


# --- Targets ---


def target_views(
    case: Case, *, proposing: bool, bound: dict[int, ProposeForm] | None = None
) -> list[TargetView]:
    """Every target of the case; `bound` holds forms that came back with errors."""
    labels = fact_labels(case.organisation)
    targets = case.targets.select_related("model", "dataset").order_by("pk")
    return [_target(case, target, labels, proposing, bound or {}) for target in targets]


def _target(
    case: Case,
    target: Target,
    labels: dict[str, str],
    proposing: bool,  # noqa: FBT001 -- handed through from a keyword
    bound: dict[int, ProposeForm],
) -> TargetView:
    open_here = target.affected and case.status == Status.METHOD
    suggestion = suggest(case, target) if open_here else None
    form = bound.get(target.pk)
    if form is None and proposing and suggestion is not None:
        form = ProposeForm(
            methods=step4_method.methods_for(case, target),
            prefix=f"target-{target.pk}",
            initial={"method": suggestion.method},
        )
    trace = target.summary.get("trace")
    return TargetView(
        target=target,
        facts=[
            {**fact, "label": fact_label(labels, fact["fact"]), "rate": _rate(fact)}
            for fact in target.summary["facts"]
        ],
        heat=heat_map(trace) if trace else None,
        suggestion=suggestion,
        suggested_facts=", ".join(
            fact_label(labels, fact) for fact in (suggestion.facts if suggestion else [])
        ),
        form=form,
        attempts=_attempts(target, labels),
    )


def _rate(fact: dict[str, Any]) -> str:
    return percent(fact["hits"] / fact["probes"]) if fact["probes"] else "–"


def _attempts(target: Target, labels: dict[str, str]) -> list[Attempt]:
    decisions = target.decisions.select_related("proposed_by", "decided_by").order_by("-pk")
    applications = {
        application.decision_id: application
        for application in Application.objects.filter(target=target).select_related(
            "target",
            "verification",
            "model_before",
            "model_after",
            "dataset_before",
            "dataset_after",
        )
    }
    return [_attempt(decision, applications.get(decision.pk), labels) for decision in decisions]


def _attempt(
    decision: Decision, application: Application | None, labels: dict[str, str]
) -> Attempt:
    if application is None:
        return Attempt(decision, None, None, [], [], None)
    details = application.details
    verification = getattr(application, "verification", None)
    return Attempt(
        decision=decision,
        application=application,
        seconds=details.get("seconds"),
        hashes=_hashes(application),
        parameters=sorted(application.parameters.items()),
        measured=None if verification is None else measured(application, verification, labels),
    )


def _hashes(application: Application) -> list[tuple[str, str]]:
    details = application.details
    before = application.model_before or application.dataset_before
    after = application.model_after or application.dataset_after
    rows = [
        ("Version before", before.digest if before else ""),
        ("Version after", after.digest if after else ""),
        ("Plan of verification, frozen before the change", application.plan_commitment),
        ("Weights before", details.get("hash_before", "")),
        ("Weights after", details.get("hash_after", "")),
        ("Weights after the way back was tried", details.get("hash_reverted", "")),
        ("Weight delta (sealed)", application.delta),
    ]
    return [(label, value) for label, value in rows if value]
