"""Bring several cases of one office to where their documents are due.

    python -m proofs.cases COUNT

Run inside the installation's environment. Prints {"jobs": [id, …]}.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import django

if TYPE_CHECKING:
    from compliance.models import Case, Organisation

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

OTHERS = 120


def main() -> int:
    """Make the office, then one case after the other."""
    django.setup()
    from compliance.models import Job, JobKind

    count = int(sys.argv[1])
    office = _office(count)
    for number in range(count):
        _to_documents(_confirmed(office, number))
    jobs = Job.objects.filter(kind=JobKind.DOCUMENT).values_list("pk", flat=True)
    sys.stdout.write(json.dumps({"jobs": [str(pk) for pk in jobs]}) + "\n")
    return 0


def _office(count: int) -> Organisation:
    from compliance import registry
    from compliance.models import Organisation, Role, User
    from compliance.permissions import SYSTEM
    from demo.corpus import as_jsonl, records
    from demo.people import people

    office = Organisation.objects.create(
        slug="proofs", name="Proofs", address="1 Road", contact="dpo@proofs.example"
    )
    for role in (Role.OFFICER, Role.LEGAL):
        User.objects.create_user(role.value, role=role, organisation=office)
    chosen = {person.id for person in people()[:count]}
    rows = records()
    kept = [row for row in rows if row["subject"] in chosen]
    kept += [row for row in rows if row["subject"] not in chosen][:OTHERS]
    content = as_jsonl(kept).encode()
    registry.register_dataset(office, name="Notes", records=content, actor=SYSTEM)
    return office


def _confirmed(office: Organisation, number: int) -> Case:
    """The case of the person of this number, its identity confirmed."""
    from compliance.models import User
    from compliance.permissions import staff
    from compliance.rehearsal import code_from_mail
    from compliance.steps import step1_intake, step2_identity
    from demo.people import people

    person = people()[number]
    officer = staff(User.objects.get(username="officer"))
    request = step1_intake.Request(kind="removal", name=person.name, contact=person.email)
    case, _ = step1_intake.receive(office, request)
    step2_identity.send_code(case, actor=officer)
    step2_identity.enter_code(case, code_from_mail(case))
    return step2_identity.confirm(case, actor=officer)


def _to_documents(case: Case) -> None:
    """Search, choose the measure, carry it out and verify it."""
    from compliance import jobs
    from compliance.models import Case, User
    from compliance.permissions import staff
    from compliance.steps import step4_method

    officer, legal = (staff(User.objects.get(username=name)) for name in ("officer", "legal"))
    jobs.run(case.jobs.get(kind="find").pk)
    case.refresh_from_db()
    step4_method.open_selection(case, actor=officer)
    reasons = "The person's rows are to go from the data."
    for target in case.targets.all():
        step4_method.propose(target, actor=officer, method="delete_rows", reasons=reasons)
    step4_method.submit(case, actor=officer)
    step4_method.approve(case, actor=legal, reasons="Checked and agreed to it.")
    for kind in ("apply", "verify"):
        jobs.run(Case.objects.get(pk=case.pk).jobs.get(kind=kind).pk)


if __name__ == "__main__":
    sys.exit(main())
