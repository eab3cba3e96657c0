"""What a worker or a page logs of an unexpected error: its kind and place, never its message."""

from __future__ import annotations

import logging
import uuid

from compliance import jobs, tasks
from compliance.log_filter import PlacesOnly

SECRET = "Key (name)=(Malee Tanaka) already exists"


def _fail(*_: object) -> None:
    raise ValueError(SECRET)


def test_traceback_in_a_log_line_names_places_alone(caplog) -> None:
    try:
        _fail()
    except ValueError:
        logging.getLogger("tests").exception("A page failed.")
    record = caplog.records[-1]
    record.exc_text = None
    line = PlacesOnly("{message}", style="{").format(record)
    assert "ValueError" in line
    assert "in _fail" in line
    assert "Malee" not in line


def test_root_handler_of_the_product_uses_it() -> None:
    from config import settings

    assert settings.LOGGING["formatters"]["line"]["class"].endswith("PlacesOnly")
    assert settings.LOGGING["handlers"]["console"]["formatter"] == "line"


def test_worker_tells_of_an_error_by_its_place_and_goes_on(monkeypatch, caplog) -> None:
    monkeypatch.setattr(jobs, "run", _fail)
    job = str(uuid.uuid4())
    tasks.run_job(job)
    assert job in caplog.text
    assert "ValueError in _fail" in caplog.text
    assert "Malee" not in caplog.text
