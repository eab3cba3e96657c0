"""`make demo`: three requests by three fictional people, from intake to signed report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from compliance.demonstration import prepare_office
from compliance.rehearsal import Rehearsal
from compliance.rehearsal_summary import failures, summarise, table
from compliance.services import celery_worker, stop

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    help = "Run three requests through the real worker and write summary.json and the PDFs."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--out", type=Path, required=True, help="folder of the results")

    def handle(self, *args: Any, **options: Any) -> None:
        for former in (*options["out"].glob("L*.pdf"), *options["out"].glob("summary.json")):
            former.unlink()
        worker = celery_worker(concurrency=2)
        try:
            office = prepare_office()
            rehearsal = Rehearsal(office, self.stdout.write)
            rehearsal.run(worker)
        finally:
            # Every case is closed, or the demonstration failed: nothing is worth waiting for.
            stop(worker, patience=0.5)
        summary = summarise(rehearsal, options["out"])
        (options["out"] / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
        self.stdout.write(table(summary))
        self.stdout.write(f"Results: {options['out'] / 'summary.json'}, PDFs beside it")
        wrong = failures(summary)
        if wrong:
            raise CommandError("The demonstration did not reach its figures: " + "; ".join(wrong))
