from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from PIL import Image

from language_models import RequestError
from language_models.positions import ROLES
from language_models.trace_command import main
from language_models.trace_maps import MAPS, TraceMap, maps, token_labels
from language_models.trace_picture import png, svg
from language_models.tracing import WEAK, Site, TraceCase, trace
from tests.language_models.factories import tiny_checkpoint, tiny_model
from tests.language_models.tokenizers import KINDS, speaker

if TYPE_CHECKING:
    from pathlib import Path

CASE = TraceCase("Malee Tanaka", "Records show that {} was born in")
ONE = TraceMap(
    "block", None, 1, ("subject_last", "last"), ((0.1, 0.456), (0.95, 0.2)), low=0.1, high=0.95
)
SVG = "{http://www.w3.org/2000/svg}"


def _parsed(picture: str) -> ET.Element:
    return ET.fromstring(picture)  # noqa: S314 -- our own text


def _texts(picture: str) -> list[str]:
    return [one.text or "" for one in _parsed(picture).iter(f"{SVG}text")]


def test_maps_are_five_by_role_and_the_first_is_the_traces_own_grid() -> None:
    lm = tiny_model()

    found = maps(lm, [CASE], seed=3)

    assert [(one.kind, one.severed) for one in found] == list(MAPS)
    assert all(one.rows == ROLES and len(one.values[0]) == 3 for one in found)
    grid = trace(lm, [CASE], seed=3).grid
    for role, values in zip(found[0].rows, found[0].values, strict=True):
        assert list(values) == pytest.approx(grid[role])


def test_maps_by_token_name_no_text_unless_asked() -> None:
    lm = tiny_model()

    plain = maps(lm, [CASE], seed=0, tokens=True)
    labels = token_labels(lm, CASE)
    named = maps(lm, [CASE], seed=0, tokens=True, labels=labels)

    assert plain[0].rows[0] == "subject_first"
    assert plain[0].rows[-1] == "last"
    assert "Malee" in "".join(labels).replace("␣", "")
    assert named[0].rows == tuple(labels)
    assert named[0].values == plain[0].values
    assert len(named[0].values) == len(labels)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_row_by_token_has_its_label_with_any_tokenizer(kind: str) -> None:
    lm = tiny_model(tokenizer=speaker(kind).tokenizer)
    case = TraceCase("Malee Tanaka", "{} was born in", "Kyoto")

    labels = token_labels(lm, case)

    assert len(maps(lm, [case], seed=0, tokens=True)[0].rows) == len(labels)
    assert "".join(labels).replace("␣", "").replace(" ", "") == "MaleeTanakawasbornin"


def test_maps_in_training_mode_are_without_dropout() -> None:
    lm = tiny_model("gpt2")
    expected = maps(lm, [CASE], seed=0)
    lm.model.train()

    assert maps(lm, [CASE], seed=0) == expected
    assert lm.model.training


def test_maps_by_token_of_several_statements_are_refused() -> None:
    with pytest.raises(RequestError, match="one statement"):
        maps(tiny_model(), [CASE, CASE], seed=0, tokens=True)


def test_map_of_a_window_restores_several_layers_together() -> None:
    lm = tiny_model()

    one, three = (maps(lm, [CASE], seed=0, window=size)[1] for size in (1, 3))

    assert (one.window, three.window) == (1, 3)
    assert one.values != three.values


def test_svg_is_valid_told_in_words_and_marks_the_site() -> None:
    picture = svg([ONE, ONE], Site("last", 0), WEAK)

    root = _parsed(picture)
    assert root.find(f"{SVG}title") is not None
    described = root.findtext(f"{SVG}desc") or ""
    assert "Site: last, layer 0." in described
    assert WEAK in described
    assert "script" not in picture
    assert "href" not in picture
    assert _texts(picture).count("46") == 2
    marks = [one for one in root.iter(f"{SVG}rect") if one.get("stroke")]
    cells = [one for one in root.iter(f"{SVG}rect") if one.get("height") == "24"]
    assert [(one.get("x"), one.get("y")) for one in marks[:1]] == [
        (cells[2].get("x"), cells[2].get("y"))
    ]
    assert len(marks) == 2


def test_svg_escapes_labels_of_any_script() -> None:
    rows = ('<&"', "สมชาย")

    picture = svg([TraceMap("mlp", None, 2, rows, ONE.values, 0.1, 0.95)])

    assert set(rows) <= set(_texts(picture))
    assert "MLP output restored, 2 layers together" in _texts(picture)


def test_svg_gets_darker_with_the_probability_also_in_grey() -> None:
    values = ((0.1, 0.3, 0.5, 0.7, 0.95),)
    root = _parsed(svg([TraceMap("block", None, 1, ("last",), values, 0.1, 0.95)]))
    fills = [one.get("fill") or "" for one in root.iter(f"{SVG}rect") if one.get("height") == "24"]

    grey = [
        0.299 * int(fill[1:3], 16) + 0.587 * int(fill[3:5], 16) + 0.114 * int(fill[5:7], 16)
        for fill in fills
    ]

    assert len(grey) == 5
    assert grey == sorted(grey, reverse=True)


def test_png_has_the_size_of_the_svg_twice_and_its_words() -> None:
    root = _parsed(svg([ONE], Site("last", 0)))

    image = Image.open(io.BytesIO(png([ONE], Site("last", 0))))
    image.load()

    assert image.width == round(2 * float(root.get("width") or 0))
    assert image.height == round(2 * float(root.get("height") or 0))
    assert image.info["Description"] == root.findtext(f"{SVG}desc")
    assert len(image.getcolors(1 << 16) or []) > 20


def test_png_with_a_broken_font_and_a_picture_of_nothing_are_refused(tmp_path: Path) -> None:
    broken = tmp_path / "font.ttf"
    broken.write_bytes(b"no font")

    with pytest.raises(RequestError, match="font"):
        png([TraceMap("mlp", None, 1, ("สมชาย",), ((0.1,),), 0.1, 0.9)], font=broken)
    with pytest.raises(RequestError, match="at least one map"):
        svg([])


def test_command_writes_what_it_is_told_and_no_text_of_the_person(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_checkpoint(tmp_path / "model").path
    files = {kind: tmp_path / f"trace.{kind}" for kind in ("svg", "png", "json")}
    named = [item for kind, path in files.items() for item in (f"--{kind}", str(path))]

    said = main(
        [
            "--model",
            str(model),
            "--subject",
            CASE.subject,
            "--prompt",
            CASE.prompt,
            "--prompt",
            "{} works for",
            "--device",
            "cpu",
            "--seed",
            "1",
            *named,
        ]
    )

    assert said == 0
    printed = json.loads(capsys.readouterr().out)
    stored = json.loads(files["json"].read_text())
    assert stored["site"] == printed["site"]
    assert len(stored["maps"]) == 5
    assert files["png"].read_bytes().startswith(b"\x89PNG")
    assert "Malee" not in files["json"].read_text() + files["svg"].read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "model",
        "trace.json",
        "trace.png",
        "trace.svg",
    ]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "--subject"),
        (["--subject", "A", "--prompt", "born"], 'one "{}"'),
        (["--subject", "A", "--prompt", "{} is", "--labels"], "--tokens"),
    ],
)
def test_command_says_what_to_change(
    given: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_checkpoint(tmp_path / "model").path

    assert main(["--model", str(model), "--device", "cpu", *given]) == 2
    assert said in capsys.readouterr().err


def test_command_reads_cases_from_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_checkpoint(tmp_path / "model").path
    cases = tmp_path / "cases.jsonl"
    cases.write_text(json.dumps({"subject": CASE.subject, "prompt": CASE.prompt}) + "\n")

    assert main(["--model", str(model), "--device", "cpu", "--cases", str(cases)]) == 0
    cases.write_text("[]\n")
    assert main(["--model", str(model), "--device", "cpu", "--cases", str(cases)]) == 2
    assert "JSON object" in capsys.readouterr().err
