"""Report and letter of cases that end without a change, written by the real child process."""

from __future__ import annotations

import base64
import hashlib
import io
import json

import pypdf
import pytest
from django.conf import settings

from compliance import audit, jobs, store
from compliance.models import AuditEvent, Case, Document, Job, JobKind, Outcome, Role
from compliance.permissions import PERSON, NotAllowed
from compliance.statuses import Status
from compliance.steps import documentation, ending
from reports.signature import make_demo_certificate
from reports.transparency_log import check_pdf, open_proof
from reports.verify import verify
from tests.compliance import factories

pytestmark = pytest.mark.django_db
FACTS = "The loan of Malee Tanaka ended this year; its records are kept for five years."


@pytest.fixture(scope="module", autouse=True)
def _certificate() -> None:
    if not (settings.KEY_DIR / "signing").exists():
        make_demo_certificate(settings.KEY_DIR / "signing", "Tests")


def _text(pdf: bytes) -> str:
    pages = pypdf.PdfReader(io.BytesIO(pdf)).pages
    return " ".join(" ".join(page.extract_text() for page in pages).split())


def _write(case: Case) -> dict[str, bytes]:
    jobs.run(Job.objects.get(kind=JobKind.DOCUMENT).pk)
    assert Job.objects.get(kind=JobKind.DOCUMENT).error == ""
    return {
        document.kind: store.get(document.artefact)
        for document in Document.objects.filter(case=case)
    }


def _refused() -> Case:
    bank = factories.organisation()
    factories.dataset(bank)
    case = factories.case(bank)
    case.subject.on_file = factories.MALEE
    case.subject.save()
    officer, legal = (factories.actor(role, bank) for role in (Role.OFFICER, Role.LEGAL))
    decision = ending.propose_refusal(case, actor=officer, ground="legal_obligation", facts=FACTS)
    ending.decide_refusal(decision, actor=legal, approve=True, reasons="Checked and correct.")
    return Case.objects.get(pk=case.pk)


def test_refusal_names_ground_facts_and_complaint_and_closes() -> None:
    case = _refused()
    pdfs = _write(case)
    letter, report = _text(pdfs["letter"]), _text(pdfs["report"])
    assert "Art. 17(3)(b)" in letter
    assert "supervisory authority" in letter
    assert "Malee Tanaka" in letter
    assert case.pseudonym in report
    certificate = (settings.KEY_DIR / "signing/certificate.pem").read_bytes()
    for kind, pdf in pdfs.items():
        assert verify(pdf, certificate).valid
        # The auditor's program finds record and proof in the signed file, and holds them together.
        assert f'"kind":"{kind}"' in " ".join(check_pdf(pdf, audit.verifier_key()))
    officer = factories.actor(Role.OFFICER, case.organisation, "closer")
    documentation.close(case, actor=officer)
    case.refresh_from_db()
    assert (case.status, case.outcome) == (Status.CLOSED, Outcome.REFUSED)
    assert case.clocks.get().met_at is not None


def test_report_carries_its_evidence_and_the_log_without_names() -> None:
    case = _refused()
    report = _write(case)["report"]
    attachments = pypdf.PdfReader(io.BytesIO(report)).attachments
    (attached,), (proof,) = attachments["evidence.json"], attachments["log.tlog-proof"]
    leaf, _, checkpoint = open_proof(proof.decode(), audit.verifier_key())
    drafted = json.loads(leaf)["facts"]
    assert drafted == {"kind": "report", "evidence_sha256": hashlib.sha256(attached).hexdigest()}
    assert base64.b64encode(checkpoint.root).decode() in _text(report).replace(" ", "")
    evidence = json.loads(attached)
    assert evidence["case"]["reference"] == case.reference
    assert evidence["refusal"]["ground"] == "legal_obligation"
    actions = [event["action"] for event in evidence["events"]]
    assert actions[:2] == ["Request received", "Refusal proposed"]
    evidence["refusal"]["facts"] = ""  # what staff wrote; the form warns them
    assert "Malee" not in json.dumps(evidence)


def test_withdrawn_case_gets_its_letter() -> None:
    bank = factories.organisation()
    case = factories.case(bank)
    ending.withdraw(case, actor=PERSON)
    assert "You have withdrawn your request" in _text(_write(case)["letter"])


def test_nothing_found_letter_says_how_it_was_searched() -> None:
    bank = factories.organisation()
    factories.dataset(bank)
    case = factories.case(bank, name="Nobody Known")
    officer = factories.actor(Role.OFFICER, bank)
    Case.objects.filter(pk=case.pk).update(status=Status.TARGETS)
    case.refresh_from_db()
    jobs.run(jobs.start(JobKind.FIND, case=case).pk)
    ending.nothing_found(case, actor=officer)
    letter = _text(_write(case)["letter"])
    assert "We found nothing about you" in letter
    assert "All 2 records were read" in letter


def test_close_needs_both_documents() -> None:
    bank = factories.organisation()
    case = ending.withdraw(factories.case(bank), actor=PERSON)
    with pytest.raises(NotAllowed, match="not written yet"):
        documentation.close(case, actor=factories.actor(Role.OFFICER, bank))


def test_download_is_logged() -> None:
    case = _refused()
    _write(case)
    auditor = factories.actor(Role.AUDITOR, case.organisation)
    document = Document.objects.get(case=case, kind="report")
    assert documentation.download(document, actor=auditor).startswith(b"%PDF")
    assert AuditEvent.objects.last().action == "document.downloaded"


def test_signing_key_readable_by_others_ends_the_job_with_what_to_do() -> None:
    case = _refused()
    key = settings.KEY_DIR / "signing/key.pem"
    key.chmod(0o644)
    try:
        jobs.run(Job.objects.get(kind=JobKind.DOCUMENT).pk)
    finally:
        key.chmod(0o600)
    job = Job.objects.get(kind=JobKind.DOCUMENT)
    assert (job.state, job.error) == ("failed", "key.pem can be read by others: chmod 600 it")
    assert not Document.objects.filter(case=case).exists()


def test_two_tries_of_the_documents_log_one_draft() -> None:
    """The first step is on record when the second fails; it is not logged again."""
    case = _refused()
    job = Job.objects.get(kind=JobKind.DOCUMENT)
    key = settings.KEY_DIR / "signing/key.pem"
    key.rename(key.with_suffix(".away"))
    jobs.run(job.pk)
    key.with_suffix(".away").rename(key)
    Job.objects.filter(pk=job.pk).update(state="ready")
    jobs.run(job.pk)
    assert AuditEvent.objects.filter(action="document.drafted").count() == 2  # report and letter
    assert Document.objects.filter(case=case).count() == 2
