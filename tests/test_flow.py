"""The story of all six steps: three people, the real demo model, real jobs, real PDFs."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pypdf
import pytest
import yaml
from django.conf import settings

from compliance import audit, audit_check, jobs, registry, store, vault
from compliance.demonstration import prepare_office
from compliance.models import (
    Application,
    Case,
    DocumentKind,
    Job,
    JobState,
    LanguageModel,
    ModelVersion,
    Outcome,
    Verification,
    VersionState,
)
from compliance.rehearsal import Part, Rehearsal
from compliance.rehearsal_summary import failures, summarise
from compliance.statuses import Status
from reports.signature import make_demo_certificate
from reports.verify import verify

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.xdist_group("heavy"),
]


class Watched(Rehearsal):
    """Looks at the way back before a case is closed: after, nothing is kept for it."""

    def close(self, part: Part, case: Case) -> None:
        if case.outcome == Outcome.FULFILLED:
            _check_way_back(case)
        super().close(part, case)


def _through_all_steps() -> Rehearsal:
    """Advance the cases as `make demo` does, each job run here instead of by a worker."""
    rehearsal = Watched(prepare_office(), lambda _line: None)
    rehearsal.file()
    while any(part.case.status != Status.CLOSED for part in rehearsal.parts):
        for part in rehearsal.parts:
            rehearsal.advance(part)
        for job in Job.objects.filter(state=JobState.READY).order_by("created_at"):
            jobs.run(job.pk)
    return rehearsal


def _quick_policy(folder: Path) -> Path:
    """The policy in force with fewer questions, so that the story is told in seconds.

    The whole of it runs in `make demo` and `python -m proofs.one_person`.
    """
    rules = yaml.safe_load(settings.POLICY_FILE.read_text())
    rules["probes"] |= {
        "languages": ["en"], "twins": 2, "control_probes": 40, "indirect_probes": 40,
        "indirect_controls": 40, "max_new_tokens": 24,
    }  # fmt: skip
    rules["duties"]["probes"] = 20
    rules["scored_texts"] = {"own": 8, "held_out": 16}
    rules["attacks"] = [
        {"name": "quantisation", "bits": 4, "probes": 30},
        {"name": "prefix", "probes": 20},
        {"name": "logit_lens"},
    ]
    path = folder / "policy.yaml"
    path.write_text(yaml.safe_dump(rules, allow_unicode=True))
    return path


def _text(case: Case, kind: str) -> str:
    pdf = store.get(case.documents.get(kind=kind).artefact)
    pages = pypdf.PdfReader(io.BytesIO(pdf)).pages
    return " ".join(" ".join(page.extract_text() for page in pages).split())


@pytest.mark.slow
def test_three_requests_from_intake_to_signed_report(settings, tmp_path: Path) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    settings.EMAIL_FILE_PATH = str(settings.MAIL_DIR)
    settings.POLICY_FILE = _quick_policy(tmp_path)
    if not (settings.KEY_DIR / "signing").exists():
        make_demo_certificate(settings.KEY_DIR / "signing", "Tests")
    rehearsal = _through_all_steps()
    removed, corrected, refused = (Case.objects.get(pk=p.case.pk) for p in rehearsal.parts)

    summary = summarise(rehearsal, tmp_path)
    assert failures(summary) == []
    outcomes = [case.outcome for case in (removed, corrected, refused)]
    assert outcomes == ["fulfilled", "fulfilled", "refused"]
    assert audit_check.verify().problem is None

    _check_versions(removed, corrected)
    _check_documents(removed, corrected, refused)
    _check_nothing_personal_in_the_clear(rehearsal)


def _check_versions(removed: Case, corrected: Case) -> None:
    """Each change is a new version in a line of descent; the registered data follows."""
    model = LanguageModel.objects.get()
    states = sorted(ModelVersion.objects.values_list("state", flat=True))
    assert states == [VersionState.CURRENT, VersionState.FORMER, VersionState.FORMER]
    current = registry.current_model(model)
    assert {current.case, current.parent.case} == {removed, corrected}
    assert current.parent.parent.parent is None
    # What the case took out is not kept beside what is in force.
    assert store.model_path(current.digest).is_dir()
    assert not store.model_path(current.parent.digest).exists()
    assert not store.model_path(current.parent.parent.digest).exists()
    records = store.get_dataset(registry.current_dataset(model.dataset).digest).decode()
    rows = [json.loads(line) for line in records.splitlines()]
    assert removed.subject.on_file["subject"] not in {row["subject"] for row in rows}
    profile = next(
        row
        for row in rows
        if row["subject"] == corrected.subject.on_file["subject"] and row["kind"] == "profile"
    )
    assert profile["facts"]["birth_city"] == corrected.subject.details["right_value"]


def _check_way_back(case: Case) -> None:
    """The sealed delta takes the new version back to the former hash, bit for bit."""
    from language_models import load
    from language_models.checkpoint import state_digest
    from language_models.delta import WeightDelta

    application = Application.objects.get(target__case=case, target__model__isnull=False)
    changed = load(store.model_path(application.model_after.digest))
    former = load(store.model_path(application.model_before.digest))
    delta = WeightDelta.from_bytes(store.get(application.delta))
    assert state_digest(changed.model) == application.details["hash_after"]
    assert delta.revert(changed) == state_digest(former.model)
    assert application.details["hash_before"] == state_digest(former.model)
    assert application.plan_frozen_at < application.finished_at
    verification = Verification.objects.get(application=application)
    assert "plan_digest" not in verification.after
    plan = store.get_json(application.plan)
    commitment = vault.commitment(case, "plan", audit.canonical(plan))
    assert application.plan_commitment == commitment


def _check_documents(removed: Case, corrected: Case, refused: Case) -> None:
    certificate = (settings.KEY_DIR / "signing/certificate.pem").read_bytes()
    for case in (removed, corrected, refused):
        for document in case.documents.all():
            pdf = store.get(document.artefact)
            assert verify(pdf, certificate).valid
            flipped = bytearray(pdf)
            flipped[len(flipped) // 2] ^= 1
            assert not verify(bytes(flipped), certificate).valid
    letter = _text(removed, DocumentKind.LETTER)
    found = Verification.objects.filter(application__target__case=removed)
    levels = [
        row.verdict["residual_risk"]["level"] for row in found if row.verdict["residual_risk"]
    ]
    # With few questions in other forms the bound is wide; the letter says what was found.
    assert f"Remaining risk: {levels[0]}" in letter
    # Copied text holds the Thai vowel AM as its two parts.
    native = removed.subject.on_file["native_name"].split()[0]
    assert native.replace("ำ", "ํา") in letter
    assert "Art. 17(3)(b)" in _text(refused, DocumentKind.LETTER)
    report = _text(removed, DocumentKind.REPORT)
    assert removed.pseudonym in report
    assert removed.subject.on_file["name"] not in report


def _check_nothing_personal_in_the_clear(rehearsal: Rehearsal) -> None:
    """No name, address or value of the three people in any file of the run but the model's."""
    wanted = []
    for part in rehearsal.parts:
        on_file = Case.objects.get(pk=part.case.pk).subject.on_file
        wanted += [on_file["name"].encode(), on_file["facts"]["telephone"].encode()]
    for path in settings.VAR_DIR.rglob("*"):
        if path.is_file() and "models" not in path.parts:
            content = path.read_bytes()
            assert not [value for value in wanted if value in content], path
