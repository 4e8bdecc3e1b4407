"""The gallery shows every cell: what its docstring says, and what was measured."""

import importlib
import re
import sys

import pytest
from places import DOCS

import jaxrnn

sys.path.insert(0, str(DOCS))
gallery = importlib.import_module("gallery")
ENTRIES = gallery.entries()


def test_every_cell_is_in_the_gallery_once():
    cells = [name for name in jaxrnn.cells.__all__ if name.endswith("Cell")]
    # no recurrence: they stand before and after one
    beside = {"CausalConvCell", "DenseCell", "GatedMLPCell"}
    assert sorted(entry.cell for entry in ENTRIES) == sorted(set(cells) - beside)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.cell)
def test_equations_of_a_cell_keep_their_symbols_and_a_source_stands_beside_them(entry):
    lines = gallery.equations(entry.cell)
    assert lines and all(line.count("=") == 1 for line in lines)
    for line in lines:
        maths = gallery.latex(line)
        assert maths.count("(") == line.count("(") == maths.count(")")
        for weight in re.findall(r"W_(\w+)", line):
            assert f"W_{{{weight}}}" in maths
        words = set(re.findall(r"mathrm{(\w+)}", maths))
        assert words <= {"angle", "decay", "lower", "rate", "scale", "window"}, "no sentence"
    assert len(gallery.source(entry.cell)) > 10 and entry.use


def test_latex_is_that_of_the_equation():
    assert (
        gallery.latex("z' = z - dt * sigmoid(c) * W_hn (r * h)")
        == r"z' = z - \Delta t \, \sigma ( c ) \odot W_{hn} ( r \odot h )"
    )
    assert gallery.latex("m' = max(log_sigmoid(f) + m, i)") == (
        r"m' = \max ( \log \sigma ( f ) + m , i )"
    )
    assert gallery.latex("r = W_xr * x", convolution=True) == r"r = W_{xr} \ast x"


def test_parameters_are_counted():
    size = gallery.SIZE
    assert gallery.parameters("LSTMCell") == 4 * (2 * size * size + size)
    assert gallery.parameters("GRUCell") == 3 * (2 * size * size + size) + size
    assert gallery.parameters("ConvLSTMCell") == 4 * (9 * 2 * size * size + size)


def test_a_picture_goes_down_where_the_gradient_does():
    svg = gallery.picture([0.0, -4.0, None], "a cell")
    (points,) = re.findall(r'points="([^"]*)"', svg)
    heights = [float(point.split(",")[1]) for point in points.split()]
    assert heights == [12.0, 36.0, 60.0]
    assert "10 to the -4.0 is left after 1 steps" in svg


def test_every_cell_whose_state_is_a_vector_has_its_curve_and_most_their_time():
    with_curve = {entry.cell for entry in ENTRIES if entry.name in gallery.curves()}
    without = {entry.cell for entry in ENTRIES} - with_curve
    # the Jacobian of a matrix of states is too large
    assert without == {"ConvLSTMCell", "ConvGRUCell", "MLSTMCell"}
    assert gallery.times()["lstm"] == 1 and gallery.times()["rnn_orth"] < gallery.times()["gru"] < 1
