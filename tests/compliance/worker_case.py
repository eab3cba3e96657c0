"""Make a case whose search is due, in the installation of LETHE_VAR. Prints the job's id."""

from __future__ import annotations

import os
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from compliance.demonstration import prepare_office  # noqa: E402
from compliance.models import Job  # noqa: E402
from compliance.permissions import staff  # noqa: E402
from compliance.rehearsal import code_from_mail, parts  # noqa: E402
from compliance.steps import step1_intake, step2_identity  # noqa: E402

office = prepare_office()
officer = staff(office.user("officer"))
case, _ = step1_intake.receive(office.organisation, parts()[0].request)
step2_identity.send_code(case, actor=officer)
step2_identity.enter_code(case, code_from_mail(case))
step2_identity.confirm(case, actor=officer)
sys.stdout.write(str(Job.objects.get().pk))
