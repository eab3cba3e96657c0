"""Kill -9 of the web server while requests are filed: acknowledged requests lost 0 of 1,000.

    python -m proofs.intake [--set-up NAME] [--requests N]

The web server runs as `compliance.services.web_server` starts it. Four threads file requests over
HTTP until N were answered with 201; meanwhile one of gunicorn's workers is killed at random
moments, and every sixth time the whole of gunicorn, which is then started again. In the end every
acknowledged request must have its case, subject and clock and one `case.received` in the log, must
open with the secret of its answer, and the log must verify.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import random
import signal
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import watch
from .installations import SET_UPS, Installation, keep, kill, make, wait_until

if TYPE_CHECKING:
    import subprocess

REQUESTS = 1000
THREADS = 4
LONGEST_SECONDS = 240
EVERY_SERVER = 6
# So that two runs draw the same pauses.
SEED = 2026
FACTS = """
SELECT c.reference,
  (SELECT count(*) FROM compliance_subject s WHERE s.case_id = c.id),
  (SELECT count(*) FROM compliance_clock k WHERE k.case_id = c.id),
  (SELECT count(*) FROM compliance_auditevent e
   WHERE e.case_id = c.id AND e.action = 'case.received')
FROM compliance_case c
"""
WHOLE = (1, 1, 1)


class Server:
    """gunicorn on a free port; it can be killed in part or whole."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        bind = f"127.0.0.1:{self.port}"
        options = ("--bind", bind, "--workers", "2", "--no-control-socket")
        return self.installation.start("-m", "gunicorn", "config.wsgi:application", *options)

    def answers(self) -> bool:
        return self.ask("GET", "/api/requests/none/")[0] == 404

    def ask(self, method: str, path: str, body: str = "", secret: str = "") -> tuple[int, Any]:
        """Status and JSON of the answer; status 0 when none came, or none that is whole."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        headers = {"Content-Type": "application/json", "Authorization": f"Secret {secret}"}
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, http.client.HTTPException, json.JSONDecodeError):
            return 0, None
        finally:
            connection.close()

    def kill_worker(self, draw: random.Random) -> bool:
        """Kill one of its workers; False when there is none just now."""
        group = self.process.pid
        children = Path(f"/proc/{group}/task/{group}/children")
        with contextlib.suppress(OSError, IndexError):
            os.kill(int(draw.choice(children.read_text().split())), signal.SIGKILL)
            return True
        return False

    def kill_all(self) -> None:
        """Kill it whole and start it again."""
        kill(self.process)
        self.process = self._start()


class Filing:
    """Threads that file until enough was acknowledged."""

    def __init__(self, server: Server, wanted: int) -> None:
        self.server, self.wanted = server, wanted
        self.lock = threading.Lock()
        self.filed = self.unanswered = self.refused = 0
        self.acknowledged: dict[str, str] = {}
        self.until = time.monotonic() + LONGEST_SECONDS

    @property
    def over(self) -> bool:
        return len(self.acknowledged) >= self.wanted or time.monotonic() > self.until

    def run(self) -> None:
        """File one request after the other."""
        while not self.over:
            with self.lock:
                self.filed += 1
                number = self.filed
            request = {
                "kind": "removal",
                "name": f"Person {number}",
                "contact": f"person{number}@proofs.example",
            }
            status, answer = self.server.ask("POST", "/api/requests/", json.dumps(request))
            with self.lock:
                if status == 201:
                    self.acknowledged[answer["reference"]] = answer["secret"]
                elif status:
                    self.refused += 1
                else:
                    self.unanswered += 1
            if not status:
                time.sleep(0.05)


def file_under_fire(server: Server, wanted: int) -> tuple[Filing, dict[str, int]]:
    """File while the server is killed again and again."""
    draw = random.Random(SEED)  # noqa: S311 -- moments of a test
    filing = Filing(server, wanted)
    threads = [threading.Thread(target=filing.run) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    kills = {"workers": 0, "servers": 0}
    while not filing.over:
        time.sleep(draw.uniform(0.5, 3))
        if sum(kills.values()) % EVERY_SERVER == EVERY_SERVER - 1:
            server.kill_all()
            kills["servers"] += 1
        elif server.kill_worker(draw):
            kills["workers"] += 1
    for thread in threads:
        thread.join()
    return filing, kills


def try_set_up(set_up: str, wanted: int) -> dict[str, Any]:
    """File, kill, and count what is there afterwards."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lethe-intake-") as folder:
        installation = make(set_up, Path(folder) / "base")
        office = ("--slug=proofs", "--name=Proofs", "--address=1 Road", "--contact=a@b.example")
        installation.run("manage.py", "create_office", *office)
        server = Server(installation)
        try:
            wait_until(server.answers, 30, "the web server")
            filing, kills = file_under_fire(server, wanted)
            seconds = round(time.monotonic() - begun)
            server.kill_all()
            wait_until(server.answers, 30, "the web server")
            result = _found(installation, server, filing)
        finally:
            kill(server.process)
            watch.clear(installation)
    return result | {"killed": kills, "seconds_under_fire": seconds}


def _found(installation: Installation, server: Server, filing: Filing) -> dict[str, Any]:
    found = {reference: facts for reference, *facts in watch.rows(installation, FACTS)}
    acknowledged = filing.acknowledged
    opened = sum(
        server.ask("GET", f"/api/requests/{reference}/", secret=secret)[0] == 200
        for reference, secret in acknowledged.items()
    )
    verdict = installation.ask("proofs.judge")
    return {
        "acknowledged": len(acknowledged),
        "lost": sum(reference not in found for reference in acknowledged),
        "not_opened": len(acknowledged) - opened,
        "incomplete": sum(tuple(facts) != WHOLE for facts in found.values()),
        "stored_without_an_answer": len(found.keys() - acknowledged.keys()),
        "filed": filing.filed,
        "unanswered": filing.unanswered,
        "refused": filing.refused,
        "log": verdict["log"],
    }


def main() -> int:
    """Print a line for each set-up; 0 when nothing acknowledged was lost."""
    parser = argparse.ArgumentParser(prog="python -m proofs.intake")
    parser.add_argument("--set-up", choices=SET_UPS, action="append")
    parser.add_argument("--requests", type=int, default=REQUESTS)
    options = parser.parse_args()
    results: dict[str, Any] = {}
    for set_up in options.set_up or SET_UPS:
        result = results[set_up] = try_set_up(set_up, options.requests)
        sys.stdout.write(
            f"{set_up:<20} acknowledged {result['acknowledged']:,}  lost {result['lost']}  "
            f"incomplete {result['incomplete']}  not opened {result['not_opened']}  "
            f"unanswered {result['unanswered']}  refused {result['refused']}  killed "
            f"{result['killed']['workers']} workers, {result['killed']['servers']} servers  "
            f"log {result['log'] or 'verified'}  ({result['seconds_under_fire']} s)\n"
        )
        sys.stdout.flush()
        keep("intake", results)
    wrong = ("lost", "incomplete", "not_opened")
    held = all(
        result["acknowledged"] >= options.requests
        and result["log"] is None
        and not any(result[name] for name in wrong)
        for result in results.values()
    )
    return int(not held)


if __name__ == "__main__":
    sys.exit(main())
