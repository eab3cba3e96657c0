"""`make serve`: web server and worker on this machine, until Ctrl-C."""

from __future__ import annotations

import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from compliance.demonstration import ACCOUNTS, prepare_office
from compliance.services import celery_worker, stop, web_server

if TYPE_CHECKING:
    import subprocess
    from argparse import ArgumentParser


class Command(BaseCommand):
    help = "Run the web server and one worker on this machine, with the demonstration office."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--bind", default="127.0.0.1:8000", help="address and port to serve")
        parser.add_argument("--workers", type=int, default=1, help="jobs at a time")

    def handle(self, *args: Any, **options: Any) -> None:
        office = prepare_office()
        self.stdout.write(f"Lethe serves on http://{options['bind']}  (Ctrl-C ends it)")
        for name in ACCOUNTS:
            password = office.passwords.get(name, "(as shown when it was made)")
            self.stdout.write(f"  {name:10} {password}")
        if not office.passwords:
            self.stdout.write("A new password: python manage.py changepassword NAME")
        self.stdout.write(f"E-mails are written to {settings.MAIL_DIR}")
        self.stdout.flush()
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        running = [web_server(options["bind"]), celery_worker(options["workers"])]
        try:
            _watch(running)
        except KeyboardInterrupt:
            self.stdout.write("Ending.")
        finally:
            for process in running:
                stop(process)


def _watch(running: list[subprocess.Popen]) -> None:
    """Wait until one ends; both are needed."""
    while True:
        for process in running:
            if process.poll() is not None:
                raise CommandError(
                    f"The web server or the worker ended with status {process.returncode}. "
                    "Is the port taken, or the broker away? See the lines above."
                )
        time.sleep(0.5)
