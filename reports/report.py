"""The accountability report of one case: evidence record in, PDF/A-3 out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from reports import charts, pdf, plots
from reports.evidence import canonical_json, check_report, digest
from reports.record import REPORT_FILE
from reports.wording import refuse_banned_words

if TYPE_CHECKING:
    from reports.figures import FactRank, Group, GroupName
    from reports.record import Fact, Report, Target

# Proper names promise nothing about weights.
NAMES = frozenset({"organisation", "name", "reference"})

STEPS = ("Intake", "Identity", "Targets", "Method", "Application", "Verification")


@dataclass(frozen=True, slots=True)
class Section:
    """One numbered section: template file, heading and the step of the workflow it records."""

    key: str
    title: str
    step: str


@dataclass(frozen=True, slots=True)
class Glance:
    """The groups of one verified target that the cover shows."""

    target: Target
    groups: dict[GroupName, Group]


@dataclass(frozen=True, slots=True)
class Printed:
    """The signed state of the log, as printed: on paper it witnesses the log without any file."""

    origin: str
    size: str
    root: str
    signature: str

    @classmethod
    def of(cls, proof: str) -> Printed:
        """From a C2SP tlog-proof: the checkpoint follows the first empty line."""
        text, _, signatures = proof.partition("\n\n")[2].partition("\n\n")
        origin, size, root = text.split("\n")[:3]
        return cls(origin, size, root, signatures.rsplit(" ", 1)[1].strip())


def render(evidence: object, proof: str | None = None) -> bytes:
    """Return the report as PDF/A-3u bytes with the evidence attached; same input, same bytes.

    proof: that the record stands in the log, attached as well and its checkpoint printed.

    Raises EvidenceError when the record does not fit its schema or uses a banned word.
    """
    html = page(evidence, proof)
    made_at = datetime.fromisoformat(check_report(evidence)["made_at"]).astimezone(UTC)
    attached = pdf.Attached(
        name=REPORT_FILE,
        description="Evidence record of the case, canonical JSON",
        # As given: a record of an earlier schema stands in the log as it was written.
        data=canonical_json(evidence),
        made_at=made_at,
    )
    files = [attached] if proof is None else [attached, pdf.log_proof(proof, made_at)]
    return pdf.to_pdf(html, "report.css", files)


def page(evidence: object, proof: str | None = None) -> str:
    """Return the report as HTML, as `render` prints it; raises what `render` does."""
    report = check_report(evidence)
    refuse_banned_words(report, "report", NAMES)
    checkpoint = None if proof is None else Printed.of(proof)
    values = _values(report, digest(canonical_json(evidence)))
    return pdf.page("report.html.j2", checkpoint=checkpoint, **values)


def _values(report: Report, evidence_sha256: str) -> dict[str, object]:
    glances = [
        Glance(target, {group["group"]: group for group in verification["groups"]})
        for target in report["targets"]
        if (verification := target["verification"]) is not None
    ]
    return {
        "report": report,
        "case": report["case"],
        "evidence_sha256": evidence_sha256,
        "created": datetime.fromisoformat(report["made_at"]).astimezone(UTC).isoformat(),
        "sections": _sections(report),
        "steps": _steps(report),
        "glances": glances,
        "headline": next((item for item in glances if "leak" in item.groups), None),
        "searched": _searched(report),
        "bar": charts.bar,
        "bar_width": charts.BAR_WIDTH,
        "heat_map": charts.heat_map,
        "plots": plots,
        "zero_hits_bound": zero_hits_bound,
        "target_names": {target["id"]: target["name"] for target in report["targets"]},
        "fact_name": _fact_name,
    }


def zero_hits_bound(probes: int) -> float:
    """Return the one-sided 95 % upper bound on the rate after 0 hits in probes.

    The bound of Clopper and Pearson (1934) for no hit: 1 - 0.05 ** (1 / probes); 1 without probes.
    """
    return 1.0 if probes == 0 else float(1 - 0.05 ** (1 / probes))


def _searched(report: Report) -> dict[str, int]:
    findings = [item["findings"] for item in report["targets"] if item["findings"] is not None]
    return {
        "probes": sum(item["probes"] for item in findings),
        "facts": sum(item["facts_given_out"] for item in findings),
        "records": sum(item["records"] or 0 for item in findings),
        "targets": len(findings),
    }


def _fact_name(fact: Fact | FactRank) -> str:
    return fact["fact"].replace("_", " ").capitalize()


def _steps(report: Report) -> list[tuple[str, bool]]:
    """Return the six steps, each with whether the case has a record of it."""
    targets = report["targets"]
    reached = (
        True,
        report["identity"] is not None,
        any(target["findings"] is not None for target in targets),
        any(target["decision"] is not None for target in targets),
        any(target["application"] is not None for target in targets),
        any(target["verification"] is not None for target in targets),
    )
    return list(zip(STEPS, reached, strict=True))


def _sections(report: Report) -> list[Section]:
    """Return the sections that have something to say, in the order of the six steps."""
    _, identity, targets, method, application, verification = (
        reached for _, reached in _steps(report)
    )
    wanted = (
        (True, Section("request", "Request and deadlines", "Step 1, intake")),
        (identity, Section("identity", "Identity of the person", "Step 2, identity")),
        (targets, Section("targets", "Targets and findings", "Step 3, targets")),
        (method, Section("decision", "Choice of measure", "Step 4, method")),
        (
            report["refusal"] is not None,
            Section("refusal", "Refusal and its ground", "Decision on the request"),
        ),
        (application, Section("application", "Application", "Step 5, application")),
        (
            verification or bool(report["attempts"]),
            Section("verification", "Verification", "Step 6, verification"),
        ),
        (
            True,
            Section("limits", "What was not tested, and what this does not show", "Limits"),
        ),
        (True, Section("record", "Notices, log and software", "Record")),
        (True, Section("check", "How to check this document", "Record")),
    )
    return [section for present, section in wanted if present]
