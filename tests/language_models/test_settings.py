from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from editing import METHODS
from editing.rome import RomeConfig
from language_models import RequestError
from language_models.settings import config_of, read_settings

if TYPE_CHECKING:
    from pathlib import Path

ROME = METHODS["rome"]


def test_settings_of_files_and_assignments_make_a_config(tmp_path: Path) -> None:
    (tmp_path / "rome.json").write_text('{"steps": 7, "lead_ins": ["So ", "Then "], "clamp": 2}')

    found = read_settings(
        METHODS,
        [str(tmp_path / "rome.json")],
        ["rome.steps=9", "rome.role=last", "rome.layer=1", "rome.compat=true", "memit.seed=1"],
    )

    assert list(found) == ["rome", "memit"]
    expected = RomeConfig(
        steps=9, lead_ins=("So ", "Then "), clamp=2, role="last", layer=1, compat=True
    )
    assert config_of(ROME, found["rome"]) == expected
    assert config_of(ROME, {}) == RomeConfig()


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"step": 1}, "rome has no setting 'step'. It has: "),
        ({"steps": "many"}, "rome.steps must be of the type int"),
        ({"steps": 2.5}, "rome.steps"),
        ({"steps": True}, "rome.steps"),
        ({"clamp": "2"}, "rome.clamp must be of the type float"),
        ({"compat": 1}, "rome.compat must be of the type bool"),
        ({"lead_ins": "So"}, "rome.lead_ins"),
        ({"lead_ins": ["So", 1]}, "rome.lead_ins"),
        ({"layer": "1", "role": "last"}, "rome.layer"),
        ({"steps": -1}, "steps must be above zero"),
    ],
)
def test_wrong_setting_is_refused(values: dict[str, Any], told: str) -> None:
    with pytest.raises(RequestError) as error:
        config_of(ROME, values)

    assert told in str(error.value)


@pytest.mark.parametrize("assignment", ["rome", "rome.steps", "steps=2", ".steps=2", "rome.=2"])
def test_wrong_assignment_is_refused(assignment: str) -> None:
    with pytest.raises(RequestError):
        read_settings(METHODS, [], [assignment])


@pytest.mark.parametrize(("name", "content"), [("rome", "[1]"), ("rome", "{"), ("roma", "{}")])
def test_wrong_file_of_settings_is_refused(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / f"{name}.json"
    path.write_text(content)

    with pytest.raises(RequestError, match="rome"):
        read_settings(METHODS, [str(path)], [])
