"""`make serve`: web server and worker on this machine, until Ctrl-C."""

from __future__ import annotations

import logging
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
    from collections.abc import Callable

log = logging.getLogger(__name__)

# A process that ends sooner would end again: its settings are wrong.
SOON_SECONDS = 10.0


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
        kept = [
            _Kept("web server", lambda: web_server(options["bind"])),
            _Kept("worker", lambda: celery_worker(options["workers"])),
        ]
        try:
            while True:
                time.sleep(0.5)
                for process in kept:
                    process.keep()
        except KeyboardInterrupt:
            self.stdout.write("Ending.")
        finally:
            for process in kept:
                stop(process.process)


class _Kept:
    """A process that is started anew when it ends, unless it ends at once."""

    def __init__(self, name: str, start: Callable[[], subprocess.Popen]) -> None:
        self.name = name
        self.start = start
        self.begin()

    def begin(self) -> None:
        self.process = self.start()
        self.begun = time.monotonic()

    def keep(self) -> None:
        """Start it anew if it ended. Raises CommandError when that would only end again."""
        if self.process.poll() is None:
            return
        if time.monotonic() - self.begun < SOON_SECONDS:
            raise CommandError(
                f"The {self.name} ended with status {self.process.returncode}. "
                "Is the port taken, or the broker away? See the lines above."
            )
        log.warning("The %s ended (%s); it is started anew.", self.name, self.process.returncode)
        self.begin()
