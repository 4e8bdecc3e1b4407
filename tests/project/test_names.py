"""What stands where: names at the top, in the modules, and the options of cells."""

import dataclasses
import functools
import importlib.metadata

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import slow
from oracles import assert_close, inputs, parameters

import jaxrnn
from jaxrnn import cells, wrappers
from jaxrnn.interop import (
    ConversionError,
    as_common_cell,
    to_equinox,
    to_haiku,
    to_torch,
    to_torch_cell,
)
from jaxrnn.wrappers import DropConnect, MultiHead, RecurrentDropout, Zoneout

pytestmark = pytest.mark.usefixtures("quick_compilation", "x64")

TOP = """Cell RNNCell LSTMCell GRUCell Stack unroll unroll_windows unroll_carries stepper
initial_carry generate affine_scan lengths_to_mask explain split_batch Chrono dot linear gates zeros
carry_dtype __version__"""
MODULES = "cells wrappers sequences methods initializers interop diagnostics online testing"
FIRST = {jaxrnn.LSTMCell, jaxrnn.GRUCell, cells.LiGRUCell, cells.JANETCell}
GATED = [  # the class, and what stands for tanh by default
    (jaxrnn.LSTMCell, "tanh"),
    (jaxrnn.GRUCell, "tanh"),
    (cells.GRUResetBeforeCell, "tanh"),
    (cells.PeepholeLSTMCell, "tanh"),
    (cells.CIFGCell, "tanh"),
    (cells.JANETCell, "tanh"),
    (cells.MGUCell, "tanh"),
    (cells.MGUResetAfterCell, "tanh"),
    (cells.UGRNNCell, "tanh"),
    (cells.LiGRUCell, "relu"),
    (cells.LayerNormLSTMCell, "tanh"),
    (cells.LayerNormGRUCell, "tanh"),
    (functools.partial(cells.LSTMPCell, proj_size=2), "tanh"),
    (functools.partial(cells.ConvLSTMCell, kernel_size=(2,)), "tanh"),
    (functools.partial(cells.ConvGRUCell, kernel_size=(2,)), "tanh"),
]


def name_of(make):
    return getattr(make, "__name__", None) or make.func.__name__


def test_the_top_has_a_few_names_and_the_modules():
    assert set(jaxrnn.__all__) == {*TOP.split(), *MODULES.split()}
    assert jaxrnn.__version__ == importlib.metadata.version("jaxrnn")


def test_every_cell_and_wrapper_is_in_its_module_and_nowhere_else():
    for module in (cells, wrappers):
        for name in module.__all__:
            value = getattr(module, name)
            if isinstance(value, type) and dataclasses.is_dataclass(value):
                assert issubclass(value, jaxrnn.Cell), name
    assert not {*cells.__all__} & {*wrappers.__all__}


# --- activations ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case",
    slow.some(
        GATED,
        lambda case: case[0] in FIRST,
        "they take their activations from the same function",
        name=lambda case: name_of(case[0]),
    ),
)
def test_a_gated_cell_takes_its_activations_by_name_or_as_functions(case):
    make, default = case
    plain, named = make(4), make(4, activation=default, recurrent_activation="sigmoid")
    assert plain == named
    own = make(4, activation=jnp.sin, recurrent_activation=jax.nn.hard_sigmoid)
    by_name = make(4, activation=jnp.sin, recurrent_activation="hard_sigmoid")
    p, xs = parameters(plain), inputs(plain, 6, (2,))
    ys = [jaxrnn.unroll(cell, p, xs)[1] for cell in (plain, named, own, by_name)]
    np.testing.assert_array_equal(ys[0], ys[1])
    assert_close(ys[2], ys[3])
    assert np.abs(ys[0] - ys[2]).max() > 1e-3
    same = [jaxrnn.unroll(own, p, xs, method=method)[1] for method in ("scan", "fused")]
    assert_close(*same)


def test_the_gates_get_one_function_and_candidate_and_output_the_other():
    cell = jaxrnn.LSTMCell(3, activation=lambda a: 2 * a, recurrent_activation=lambda a: a + 1)
    p, x = parameters(cell), inputs(cell, 1, (2,))[0]
    h, c = np.ones((2, 3)), 2 * np.ones((2, 3))
    after, y = cell(p, cells.LSTMCarry(h=h, c=c), x)
    a = np.einsum("bi,igh->bgh", x, p.w_x) + np.einsum("bi,igh->bgh", h, p.w_h) + p.b.reshape(4, 3)
    i, f, g, o = np.moveaxis(a, 1, 0)
    want = (f + 1) * c + (i + 1) * 2 * g
    assert_close((after.c, y), (want, (o + 1) * 2 * want))


@pytest.mark.parametrize("field", ["activation", "recurrent_activation"])
def test_an_activation_that_is_none_is_told_those_known(field):
    with pytest.raises(ValueError, match=r"is unknown\. Did you mean 'tanh'"):
        jaxrnn.LSTMCell(3, **{field: "tanhh"})
    with pytest.raises(TypeError, match="must be the name of a function or a function, got 1"):
        jaxrnn.GRUCell(3, **{field: 1})


def test_a_function_that_has_a_name_makes_the_cell_of_that_name():
    named = jaxrnn.LSTMCell(3, activation="relu", recurrent_activation="sigmoid")
    cell = jaxrnn.LSTMCell(3, activation=jax.nn.relu, recurrent_activation=jax.nn.sigmoid)
    assert cell == named and hash(cell) == hash(named)
    assert jaxrnn.RNNCell(3, jnp.tanh) == jaxrnn.RNNCell(3)


def test_an_rnn_takes_any_function():
    cell = jaxrnn.RNNCell(4, jnp.sin)
    p, xs = parameters(cell), inputs(cell, 1, (2,))
    want = np.sin(xs[0] @ p.w_x[:, 0] + p.b)
    assert_close(jaxrnn.unroll(cell, p, xs)[1][0], want)


def test_what_cannot_be_converted_or_run_by_cudnn_says_so():
    relu = jaxrnn.LSTMCell(4, activation="relu")
    p = parameters(relu)
    for to, library in ((to_torch_cell, "torch"), (to_haiku, "haiku"), (to_equinox, "equinox")):
        with pytest.raises(
            ConversionError, match=f"{library} has no LSTMCell with activation='relu'"
        ):
            to(relu, p)
    with pytest.raises(ConversionError, match="torch has no RNNCell with nonlinearity='elu'"):
        to_torch_cell(jaxrnn.RNNCell(4, "elu"), parameters(jaxrnn.RNNCell(4, "elu")))
    stack = jaxrnn.Stack((jaxrnn.LSTMCell(4), relu))
    with pytest.raises(ConversionError, match="torch has no LSTMCell with activation='relu'"):
        to_torch(stack, parameters(stack))
    hard = cells.CIFGCell(4, recurrent_activation="hard_sigmoid")
    with pytest.raises(ConversionError, match=r"1 - f\(a\) is f\(-a\) for sigmoid only"):
        as_common_cell(hard, parameters(hard))
    with pytest.raises(ValueError, match="no LSTM as cuDNN has it"):
        jaxrnn.unroll(relu, p, inputs(relu, 3, (2,)).astype(np.float32), method="cudnn")


def test_a_rewritten_cell_keeps_its_activations():
    for make in (cells.CIFGCell, cells.MGUResetAfterCell):
        cell = make(4, activation="relu")
        p, xs = parameters(cell), inputs(cell, 5, (2,))
        common, q = as_common_cell(cell, p)
        assert_close(jaxrnn.unroll(common, q, xs)[1], jaxrnn.unroll(cell, p, xs)[1])


def test_dropout_of_the_candidate_uses_the_activations_of_its_cell():
    for make in (jaxrnn.LSTMCell, jaxrnn.GRUCell):
        cell = make(4, activation="elu", recurrent_activation="hard_sigmoid")
        p, xs = parameters(cell), inputs(cell, 5, (2,))
        want = jaxrnn.unroll(cell, p, xs)[1]
        assert_close(jaxrnn.unroll(RecurrentDropout(cell, 0.3), p, xs)[1], want)


# --- initialisation -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make, options",
    [
        (jaxrnn.LSTMCell, {"recurrent_init": "glorot_uniform"}),
        (jaxrnn.LSTMCell, {"forget_bias": 0.0}),
        (jaxrnn.GRUCell, {"update_bias": jaxrnn.Chrono(9)}),
        (jaxrnn.RNNCell, {"input_init": "identity"}),
        (cells.LayerNormGRUCell, {"input_init": "identity"}),
        (cells.PeepholeLSTMCell, {"forget_bias": 2.0}),
    ],
)
def test_the_torch_scheme_together_with_another_initialiser_is_refused(make, options):
    (name,) = options
    with pytest.raises(ValueError, match=f"init_scheme='torch' draws every parameter, so {name}="):
        make(4, init_scheme="torch", **options)


# --- heads ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cell, message",
    [
        (cells.UnICORNNCell(4), "those of UnICORNNCell are none"),
        (cells.IndRNNCell(4), "kernels as they are trained, got IndRNNCell"),
        (cells.LSTMPCell(4, 2), r"those of LSTMPCell are \['\(2,\) by \(2, 4, 4\)'"),
        (cells.ExpRNNCell(4), "kernels as they are trained, got ExpRNNCell"),
        (cells.AntisymmetricRNNCell(4), "got AntisymmetricRNNCell"),
        (cells.ConvLSTMCell(4), "got ConvLSTMCell"),
        (Zoneout(jaxrnn.LSTMCell(4)), "got Zoneout; other wrappers go around it"),
        (jaxrnn.Stack((jaxrnn.LSTMCell(4),)), "got Stack"),
    ],
)
def test_a_cell_whose_product_does_not_go_from_its_units_to_its_units_has_no_heads(cell, message):
    with pytest.raises(TypeError, match=message):
        MultiHead(cell, heads=2)


@pytest.mark.parametrize("method", ["scan", "fused"])
@pytest.mark.parametrize("around", [Zoneout, lambda cell: DropConnect(cell, 0.3)])
def test_other_wrappers_go_around_heads(around, method):
    cell = around(MultiHead(jaxrnn.LSTMCell(6), heads=3))
    p, xs = parameters(cell), inputs(cell, 5, (2,))
    noise = cell.noise(jax.random.key(0), 5, xs[0])
    _, ys = jaxrnn.unroll(cell, p, xs, noise=noise, method=method)
    assert ys.shape == (5, 2, 6) and np.all(np.isfinite(ys))
    if isinstance(cell, DropConnect):
        dense = p._replace(w_h=p.w_h * np.asarray(noise.keep["w_h"][0], np.float64) / 0.7)
        want = jaxrnn.unroll(cell.cell, dense, xs)[1]
        assert_close(ys, want, 1e-6)
