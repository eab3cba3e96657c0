"""The geometry of the charts."""

from __future__ import annotations

from compliance.web.charts import bars, heat_map
from tests.web import results


def test_heat_map_has_a_cell_for_each_role_and_layer():
    drawn = heat_map(results.trace())
    assert len(drawn.cells) == 4 * 6
    assert [cell.title for cell in drawn.cells if cell.chosen] == [
        "end of the prompt, layer 2: 0.81"
    ]
    assert drawn.cells[-1].chosen, "the framed cell is drawn last, over its neighbours"


def test_heat_map_of_many_layers_drops_figures_and_thins_labels():
    trace = results.trace()
    trace["layers"] = list(range(40))
    trace["grid"] = [[0.5] * 40 for _ in trace["roles"]]
    drawn = heat_map(trace)
    assert {cell.text for cell in drawn.cells} == {""}
    assert [label.text for label in drawn.layers][:3] == ["0", "3", "6"]


def test_flat_trace_is_drawn_pale():
    trace = results.trace() | {"low": 0.5, "high": 0.5, "warning": "The trace is flat."}
    drawn = heat_map(trace)
    assert {cell.fill for cell in drawn.cells} == {"#eef3f6"}
    assert drawn.warning == "The trace is flat."


def test_bars_are_lengths_on_an_axis_to_one_hundred():
    drawn = bars(0.5, 0.02, 0.1)
    assert (drawn.before, drawn.after, drawn.bound) == (100.0, 4.0, 20.0)
    assert bars(None, 0.0, 0.0).before is None
