"""Ask all open duties again of the versions in force, by hand or on a schedule."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from compliance import child, duties, registry
from compliance.key_files import KeyUnavailable
from compliance.models import DutyOutcome, DutyRun, LanguageModel

NOT_ASKED = (child.StepFailed, child.StepCrashed, child.StepHindered, KeyUnavailable)
BROKEN, UNKNOWN = 1, 2


class Command(BaseCommand):
    help = (
        "Ask the questions of every finished case again of the model versions in force, and say "
        "where a value comes out again, and which duties keep open cases from their change. Meant "
        "for a schedule, such as once a week. Exit status 1: a duty does not hold, 2: unknown."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        runs: list[DutyRun] = []
        not_asked = 0
        for model in LanguageModel.objects.order_by("pk"):
            if not duties.open_duties(model).exists():
                continue
            try:
                found = duties.rerun(registry.current_model(model))
            except NOT_ASKED as error:
                not_asked += 1
                self.stdout.write(f"{model.name}: the questions were not put. {error}")
            else:
                runs += found
                self._tell(model, found)
            self._tell_what_is_in_the_way(model)
        outcomes = [run.outcome for run in runs]
        self._conclude(
            outcomes.count(DutyOutcome.RESURFACED), outcomes.count(DutyOutcome.UNKNOWN), not_asked
        )

    def _tell(self, model: LanguageModel, found: list[DutyRun]) -> None:
        others = [run for run in found if run.outcome != DutyOutcome.HELD]
        self.stdout.write(f"{model.name}: {len(found) - len(others)} of {len(found)} held.")
        for run in others:
            self.stdout.write(f"  {run.duty.reference}: {run.get_outcome_display()}. {run.reason}")

    def _tell_what_is_in_the_way(self, model: LanguageModel) -> None:
        for case, run in duties.in_the_way(model):
            self.stdout.write(
                f"  The change of {case.reference} was kept out of force by the duty of "
                f"{run.duty.reference}: {run.get_outcome_display()}. {run.reason}"
            )

    def _conclude(self, broken: int, unknown: int, not_asked: int) -> None:
        """Raise CommandError unless every duty was asked and held."""
        told = [
            *_told(broken, "1 duty does not hold. Open a case for it.",
                   "{} duties do not hold. Open a case for each."),
            *_told(unknown, "1 duty is unknown, for the reason above.",
                   "{} duties are unknown, for the reasons above."),
            *_told(not_asked, "1 model was not asked.", "{} models were not asked."),
        ]  # fmt: skip
        if told:
            raise CommandError(" ".join(told), returncode=BROKEN if broken else UNKNOWN)
        self.stdout.write("Every open duty holds.")


def _told(number: int, one: str, many: str) -> list[str]:
    return [one if number == 1 else many.format(number)] if number else []
