"""Bring a case of an installation to the point where a job of a kind is due.

    python -m proofs.scene find|apply|verify|document [RECORDS]

Run inside the installation's environment. The office has one dataset and no model, so that every
heavy step is short; the case is a removal. Prints {"job": id, "case": reference, "others": digest}.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import django

if TYPE_CHECKING:
    from compliance.models import Case
    from compliance.permissions import Actor

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

RECORDS = 120


def main() -> int:
    """Make office and case, and do what comes before the job."""
    django.setup()
    from compliance import jobs
    from compliance.models import Case, JobState
    from compliance.steps import step4_method

    stage = sys.argv[1]
    case, officer, legal = _case(int(sys.argv[2]) if len(sys.argv) > 2 else RECORDS)
    while (job := case.jobs.filter(state=JobState.READY).first()) is None or job.kind != stage:
        if job is not None:
            jobs.run(job.pk)
        elif case.status == "targets":
            step4_method.open_selection(case, actor=officer)
            target = case.targets.get()
            reasons = "The person's rows are to go from the data."
            step4_method.propose(target, actor=officer, method="delete_rows", reasons=reasons)
            step4_method.submit(case, actor=officer)
            step4_method.approve(case, actor=legal, reasons="Checked and agreed to it.")
        case = Case.objects.get(pk=case.pk)
    sys.stdout.write(json.dumps({"job": str(job.pk), "case": case.reference}) + "\n")
    return 0


def _case(records: int) -> tuple[Case, Actor, Actor]:
    from compliance import registry
    from compliance.models import Organisation, Role, User
    from compliance.permissions import SYSTEM, staff
    from compliance.rehearsal import code_from_mail
    from compliance.steps import step1_intake, step2_identity
    from demo.corpus import as_jsonl
    from demo.corpus import records as corpus
    from demo.people import people

    office = Organisation.objects.create(
        slug="proofs", name="Proofs", address="1 Road", contact="dpo@proofs.example"
    )
    officer, legal = (
        staff(User.objects.create_user(role.value, role=role, organisation=office))
        for role in (Role.OFFICER, Role.LEGAL)
    )
    person = people()[0]
    rows = corpus()
    own = [row for row in rows if row["subject"] == people()[0].id]
    others = [row for row in rows if row["subject"] != people()[0].id]
    registry.register_dataset(
        office,
        name="Notes",
        records=as_jsonl([*own, *others[:records]]).encode(),
        actor=SYSTEM,
    )
    request = step1_intake.Request(kind="removal", name=person.name, contact=person.email)
    case, _ = step1_intake.receive(office, request)
    step2_identity.send_code(case, actor=officer)
    step2_identity.enter_code(case, code_from_mail(case))
    case = step2_identity.confirm(case, actor=officer)
    return case, officer, legal


if __name__ == "__main__":
    sys.exit(main())
