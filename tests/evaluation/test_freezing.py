from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from evaluation import freeze, open_frozen
from language_models import RequestError
from tests.evaluation.factories import make_plan

if TYPE_CHECKING:
    from pathlib import Path

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)


def test_a_frozen_plan_is_what_was_saved(tmp_path: Path) -> None:
    frozen = freeze(make_plan(), by=" Anna ", at=NOON)

    frozen.save(tmp_path / "plan.json")

    assert open_frozen(tmp_path / "plan.json") == frozen
    assert (frozen.frozen_by, frozen.digest) == ("Anna", make_plan().digest)


def test_a_frozen_plan_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    freeze(make_plan(), by="Anna", at=NOON).save(path)
    before = path.read_bytes()

    with pytest.raises(RequestError, match="It stays"):
        freeze(make_plan(seed=1), by="Anna", at=NOON).save(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("plan", "max_new_tokens"), 5),
        (("plan", "probes", 0, "prompt"), "Asked otherwise, Person1 Name"),
        (("plan", "probes", 0, "expected"), ["Elsewhere"]),
        (("plan", "thresholds"), {"leak_max": 1.0}),
        (("digest",), "0" * 64),
        (("frozen_by",), "Omar"),
        (("frozen_at",), "2026-11-01T12:00:00.000000+00:00"),
        (("file_digest",), "0" * 64),
        (("more",), 1),
    ],
)
def test_a_plan_changed_on_disk_is_refused(
    tmp_path: Path, path: tuple[Any, ...], value: Any
) -> None:
    file = tmp_path / "plan.json"
    freeze(make_plan(), by="Anna", at=NOON).save(file)
    row = part = json.loads(file.read_text(encoding="utf-8"))
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    file.write_text(json.dumps(row), encoding="utf-8")

    with pytest.raises(RequestError, match="changed after it was frozen"):
        open_frozen(file)


def test_a_plan_that_an_earlier_version_froze_is_frozen_again(tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    freeze(make_plan(), by="Anna", at=NOON).save(file)
    row = json.loads(file.read_text(encoding="utf-8"))
    del row["file_digest"]
    file.write_text(json.dumps(row), encoding="utf-8")

    with pytest.raises(RequestError, match="Freeze its design"):
        open_frozen(file)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"plan": {"probes": [{"prompt": "Malee Tanaka"}]}, "digest": "x"}', "\udcff"],
)
def test_a_file_that_is_no_frozen_plan_is_refused_without_a_word_of_it(
    tmp_path: Path, content: str
) -> None:
    file = tmp_path / "plan.json"
    file.write_bytes(content.encode("utf-8", "surrogateescape"))

    with pytest.raises(RequestError, match="not a frozen plan") as caught:
        open_frozen(file)
    assert "Malee" not in str(caught.value)
    assert caught.value.__cause__ is None
    with pytest.raises(RequestError, match="not a frozen plan"):
        open_frozen(tmp_path / "none.json")


@pytest.mark.parametrize(("name", "value"), [("frozen_by", " "), ("frozen_at", "yesterday"),
                                             ("frozen_at", "2026-11-02T12:00:00")])  # fmt: skip
def test_a_plan_that_nobody_froze_at_a_known_time_is_refused(
    tmp_path: Path, name: str, value: str
) -> None:
    file = tmp_path / "plan.json"
    freeze(make_plan(), by="Anna", at=NOON).save(file)
    file.write_text(json.dumps({**json.loads(file.read_text()), name: value}))

    with pytest.raises(RequestError, match="not a frozen plan"):
        open_frozen(file)


def test_another_person_applies_the_change_later() -> None:
    frozen = freeze(make_plan(), by="Anna", at=NOON)

    frozen.require(applied_by="Somchai", applied_at=NOON + timedelta(seconds=1))
    with pytest.raises(RequestError, match="does not apply the change"):
        frozen.require(applied_by=" ANNA ", applied_at=NOON + timedelta(days=1))
    with pytest.raises(RequestError, match="older than its plan"):
        frozen.require(applied_by="Somchai", applied_at=NOON)
    with pytest.raises(RequestError, match="offset"):
        frozen.require(applied_by="Somchai", applied_at=datetime(2027, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize(("by", "at"), [(" ", NOON), ("Anna", NOON.replace(tzinfo=None))])
def test_a_plan_is_frozen_by_somebody_at_a_time(by: str, at: datetime) -> None:
    with pytest.raises(RequestError, match="frozen by somebody"):
        freeze(make_plan(), by=by, at=at)
