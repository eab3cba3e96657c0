"""Plots that the report and the pages share."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from reports import plots
from tests.reports import verifications

NAMES = "{http://www.w3.org/2000/svg}"
TABLES, LENS = verifications.tables(), verifications.memory()["lens"]


def read(svg: str) -> ElementTree.Element:
    """Return the root of a plot."""
    return ElementTree.fromstring(svg)  # noqa: S314 -- written by us


@pytest.mark.parametrize("width", [plots.WIDE, plots.NARROW])
@pytest.mark.parametrize(
    "draw",
    [
        lambda width: plots.rates(TABLES["leak"], "Leaks", stays=False, width=width),
        lambda width: plots.rates(TABLES["neighbours"], "Others", stays=True, width=width),
        lambda width: plots.lens(LENS, "Layers", width=width),
    ],
    ids=["leak", "neighbours", "lens"],
)
def test_plot_has_words_for_ears_no_style_and_stays_inside(draw, width) -> None:
    root = read(draw(width))
    title, told = root.findtext(f"{NAMES}title"), root.findtext(f"{NAMES}desc")
    assert (root.get("role"), root.get("aria-label")) == ("img", title)
    assert told
    assert told.count("%") >= 5
    _, _, wide, high = (float(one) for one in str(root.get("viewBox")).split())
    assert wide == width
    for element in root.iter():
        assert "style" not in element.attrib
        for name, most in (("cx", wide), ("cy", high), ("x", wide), ("y", high)):
            assert 0 <= float(element.get(name, 0)) <= most


def test_rates_mark_chance_and_tell_both_sides() -> None:
    svg = plots.rates(TABLES["leak"], "Leaks", stays=False)
    dashed = [
        one for one in read(svg).iter(f"{NAMES}path") if one.get("stroke-dasharray") != "none"
    ]
    assert len(dashed) == 2, "the line of chance and its key"
    assert "Question: 32 probes, before 75.0 %, after 3.1 %, at most 14.0 %" in svg
    without = [row for row in TABLES["leak"] if row["key"] != "control"]
    assert "3 2.4" not in plots.rates(without, "Leaks", stays=False)


def test_axis_starts_at_the_half_only_where_nothing_lies_below() -> None:
    near = plots.rates(TABLES["neighbours"], "Others", stays=True)
    rows = [*TABLES["neighbours"], verifications.part("namesake", ("lost", 12, 12, 5))]
    far = plots.rates(rows, "Others", stays=True)
    told = "The axis begins at 50 %."
    assert [told in near, told in far] == [True, False]


def test_hostile_label_stays_text() -> None:
    row = TABLES["leak"][0] | {"label": '<script>"&'}
    root = read(plots.rates([row], "<b>", stays=False))
    assert root.findtext(f"{NAMES}title") == "<b>"
    assert [one.tag for one in root.iter() if "script" in one.tag] == []


def test_lens_below_chance_says_so() -> None:
    below = LENS | {"chance": [0.3] * 6}
    assert "No layer shows more than chance" in plots.told_lens(below)
    assert "most beyond chance" not in plots.lens(below, "Layers")
    assert "chance" not in plots.lens(LENS | {"chance": []}, "Layers").partition("most beyond")[0]
