"""Tables only. The rules live in flow.py and steps/."""

from .audit import AuditEvent
from .case import Case, Clock, IdentityCheck, Kind, Outcome, Subject
from .data_key import DataKey, KeyPurpose
from .decision import Decision, DecisionOutcome
from .document import Document, DocumentKind
from .duty import Duty, DutyEnd, DutyOutcome, DutyRun
from .job import Job, JobKind, JobPause, JobState, JobStep
from .organisation import Organisation, Role, User
from .registry import Dataset, DatasetVersion, LanguageModel, ModelVersion, VersionState
from .retention import LegalHold
from .target import Application, Target, TargetKind, TargetState, Verification

__all__ = [
    "Application",
    "AuditEvent",
    "Case",
    "Clock",
    "DataKey",
    "Dataset",
    "DatasetVersion",
    "Decision",
    "DecisionOutcome",
    "Document",
    "DocumentKind",
    "Duty",
    "DutyEnd",
    "DutyOutcome",
    "DutyRun",
    "IdentityCheck",
    "Job",
    "JobKind",
    "JobPause",
    "JobState",
    "JobStep",
    "KeyPurpose",
    "Kind",
    "LanguageModel",
    "LegalHold",
    "ModelVersion",
    "Organisation",
    "Outcome",
    "Role",
    "Subject",
    "Target",
    "TargetKind",
    "TargetState",
    "User",
    "Verification",
    "VersionState",
]
