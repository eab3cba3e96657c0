"""Ask all open duties again of the versions in force, by hand or on a schedule."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from compliance import child, duties, registry
from compliance.models import LanguageModel


class Command(BaseCommand):
    help = (
        "Ask the questions of every finished case again of the model versions in force, and say "
        "where a value comes out again. Meant for a schedule, such as once a week."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        broken = 0
        for model in LanguageModel.objects.order_by("pk"):
            count = duties.open_duties(model).count()
            if not count:
                continue
            try:
                runs = duties.rerun(registry.current_model(model))
            except (child.StepFailed, child.StepCrashed, child.StepHindered) as error:
                raise CommandError(f"{model.name}: the questions were not put. {error}") from error
            broken += len(runs)
            self.stdout.write(f"{model.name}: {count - len(runs)} of {count} duties hold.")
            for run in runs:
                told = run.get_outcome_display()
                self.stdout.write(f"  {run.duty.reference}: {told}. {run.reason}")
        if broken:
            raise CommandError(f"{broken} duties do not hold. Open a case for each.")
        self.stdout.write("Every open duty holds.")
