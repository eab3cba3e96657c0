"""What the log of record knows of: every act, read, reveal, download and export has a name here.

Dotted names, stored and never translated; the label is what a person reads.
"""

from __future__ import annotations

ACTIONS = {
    "case.received": "Request received",
    "case.moved": "Case moved",
    "case.withdrawn": "Request withdrawn",
    "case.read": "Case read",
    "case.shredded": "Personal data of the case destroyed",
    "identity.code_sent": "One-time code sent",
    "identity.code_failed": "Wrong code entered",
    "identity.code_matched": "Code entered correctly",
    "identity.confirmed": "Identity confirmed",
    "subject.looked_up": "People on file looked up for a case",
    "subject.searched": "Cases of a person searched",
    "subject.revealed": "Personal data shown to staff",
    "targets.found": "Targets found",
    "measure.proposed": "Measure proposed",
    "measure.approved": "Measure approved",
    "measure.returned": "Measure returned",
    "refusal.proposed": "Refusal proposed",
    "refusal.approved": "Refusal approved",
    "refusal.returned": "Refusal returned",
    "plan.frozen": "Verification plan frozen",
    "change.applied": "Change applied",
    "change.verified": "Change verified",
    "duty.opened": "Duty opened: a value must not come back",
    "duty.rerun": "Duty asked again",
    "duty.ended": "Duty ended, its questions destroyed",
    "version.promoted": "Version promoted",
    "version.discarded": "Candidate version discarded",
    "version.rolled_back": "Version rolled back",
    "document.drafted": "Document drafted",
    "document.made": "Document made",
    "document.sent": "Document sent",
    "document.downloaded": "Document downloaded",
    "document.proved": "Proof of a document downloaded",
    "hold.placed": "Legal hold placed",
    "hold.lifted": "Legal hold lifted",
    "job.failed": "Job failed",
    "job.restarted": "Job started again",
    "jobs.paused": "All jobs paused",
    "jobs.resumed": "Jobs resumed",
    "keys.rotated": "Key-encryption key rotated",
    "log.exported": "Log exported",
    "model.registered": "Model registered",
    "dataset.registered": "Dataset registered",
}

# What concerns every organisation of an installation.
OF_THE_HOUSE = ("jobs.paused", "jobs.resumed", "keys.rotated", "log.exported", "subject.searched")
# What somebody looked at, without changing anything.
READS = (
    "case.read",
    "subject.looked_up",
    "subject.searched",
    "subject.revealed",
    "document.downloaded",
    "document.proved",
)
