"""Cells as C headers: compiled without a warning, and equal to `unroll` over many steps."""

import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import slow
from oracles import EVERY

import jaxrnn
from experiments.shipping import MAIN
from jaxrnn import wrappers
from jaxrnn.interop import ConversionError, to_c

cc = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler is installed")
INPUTS = 3
VECTORS = {case[0]: case[1] for case in EVERY if case[1].feature_axes == 1 and case[1].causal}
QUICK = {"lem", "mlstm", "s5"}
TORCH = {
    "rnn": jaxrnn.RNNCell(8),
    "relu": jaxrnn.RNNCell(8, "relu", init_scheme="torch"),
    "lstm": jaxrnn.LSTMCell(8),
    "gru": jaxrnn.GRUCell(8),
    "no_bias": jaxrnn.GRUCell(8, bias=False),
    "stack": jaxrnn.Stack(
        (jaxrnn.LSTMCell(8), jaxrnn.GRUCell(6), jaxrnn.RNNCell(5, init_scheme="torch"))
    ),
}


def run(folder, text, xs, main=MAIN):
    """The outputs of the compiled header over inputs [T, I], as float32."""
    (folder / "model.h").write_text(text)
    (folder / "main.c").write_text(main)
    flags = "-Wall -Wextra -Werror -std=c99 -O2".split()
    command = ["cc", *flags, "-o", "model", "main.c", "-lm"]
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    ran = subprocess.run(folder / "model", input=xs.tobytes(), capture_output=True, check=True)
    return np.frombuffer(ran.stdout, np.float32).reshape(len(xs), -1)


def made(cell):
    """Parameters as they begin, with noise on all of them, biases too."""
    rng = np.random.default_rng(0)
    params = cell.init(jax.random.key(0), INPUTS)
    return jax.tree.map(lambda a: a + 0.1 * jnp.asarray(rng.normal(size=a.shape), a.dtype), params)


def inputs(steps):
    return np.random.default_rng(1).normal(size=(steps, INPUTS)).astype(np.float32)


@cc
@pytest.mark.parametrize("name", TORCH)
def test_over_a_thousand_steps_it_is_unroll_to_a_millionth(name, tmp_path):
    cell = TORCH[name]
    params = made(cell)
    xs = inputs(1000)
    _, ys = jaxrnn.unroll(cell, params, xs)
    np.testing.assert_allclose(run(tmp_path, to_c(cell, params), xs), ys, atol=1e-6)


@cc
@pytest.mark.parametrize("name", slow.some(VECTORS, QUICK.__contains__, "one of many cells"))
def test_any_cell_of_vectors_compiles_without_a_warning_and_gives_its_numbers(name, tmp_path):
    cell = VECTORS[name]
    params = made(cell)
    xs = inputs(30)
    _, ys = jaxrnn.unroll(cell, params, xs)
    got = run(tmp_path, to_c(cell, params), xs)
    np.testing.assert_allclose(got, np.asarray(ys).reshape(got.shape), rtol=1e-4, atol=1e-5)


@cc
def test_a_learned_beginning_and_a_head_are_in_it(tmp_path):
    cell = wrappers.LearnedInitialCarry(jaxrnn.GRUCell(4))
    params = made(cell)
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(4, 2)), rng.normal(size=2)
    xs = inputs(20)
    _, ys = jaxrnn.unroll(cell, params, xs)
    for given in (bias, None):
        got = run(tmp_path, to_c(cell, params, head=(kernel, given)), xs)
        want = np.asarray(ys) @ kernel + (0 if given is None else given)
        np.testing.assert_allclose(got, want, atol=1e-5)


@cc
def test_dropout_and_zoneout_are_as_they_are_without_noise(tmp_path):
    cell = jaxrnn.Stack(
        (wrappers.Zoneout(jaxrnn.LSTMCell(4), 0.1), wrappers.Residual(jaxrnn.GRUCell(4))),
        dropout=0.5,
    )
    params = made(cell)
    xs = inputs(20)
    _, ys = jaxrnn.unroll(cell, params, xs)
    np.testing.assert_allclose(run(tmp_path, to_c(cell, params), xs), ys, atol=1e-5)


@cc
@pytest.mark.parametrize("cell", [jaxrnn.cells.QRNNCell(4), jaxrnn.GRUCell(4)], ids=["qrnn", "gru"])
def test_a_block_may_be_written_where_it_was_read(cell, tmp_path):
    params = jax.tree.map(lambda a: a + 0.1, cell.init(jax.random.key(0), 1))
    kernel = np.random.default_rng(0).normal(size=(4, 1)).astype(np.float32)
    text = to_c(cell, params, head=(kernel, None))
    xs = inputs(20)[:, :1].copy()
    _, ys = jaxrnn.unroll(cell, params, xs)
    main = (
        MAIN.replace("x, y);", "x, x);")
        .replace("fwrite(y", "fwrite(x")
        .replace(", y[MODEL_OUTPUT_SIZE]", "")
    )
    np.testing.assert_allclose(run(tmp_path, text, xs, main), np.asarray(ys) @ kernel, atol=1e-5)


@cc
def test_whole_numbers_are_cut_and_what_floats_cannot_say_is_refused(tmp_path):
    def coarse(a):
        return (jnp.tanh(a) * 100).astype(jnp.int32).astype(a.dtype) / 100

    cell = jaxrnn.RNNCell(4, coarse)
    params = made(cell)
    xs = inputs(20)
    _, ys = jaxrnn.unroll(cell, params, xs)
    np.testing.assert_allclose(run(tmp_path, to_c(cell, params), xs), ys, atol=1e-6)
    for other, said in [
        (lambda a: a.astype(jnp.float16).astype(a.dtype), "rounds to float16"),
        (lambda a: (a.astype(jnp.int32) & 1).astype(a.dtype), "'and' of whole numbers"),
    ]:
        with pytest.raises(ConversionError, match=said):
            to_c(jaxrnn.RNNCell(4, other), params)


def test_the_same_weights_stand_in_it_once_and_its_head_says_how_many():
    cell = jaxrnn.GRUCell(8)
    params = made(cell)
    text = to_c(cell, params, "voice")
    count = sum(a.size for a in jax.tree.leaves(params))
    # r's bias of the recurrent part is none, so that all of the others are numbers in the file
    assert f"Weights {4 * count:,} bytes" in text
    assert text.count("static const float") == 4
    assert "#define VOICE_INPUT_SIZE 3" in text and "#define VOICE_OUTPUT_SIZE 8" in text
    assert "malloc" not in text and text.count("#include") == 1
    assert to_c(cell, params, "voice") == text


def test_numbers_are_written_so_that_they_are_read_as_they_were():
    cell = jaxrnn.RNNCell(2)
    params = made(cell)
    odd = jnp.array([[[1e-38, 3.0]], [[-0.1, 16777216.0]], [[2**-30, -7.25]]], jnp.float32)
    text = to_c(cell, params._replace(w_x=odd))
    body = text.split("/* 3 x 1 x 2 */")[1].split("}")[0]
    read = [np.float32(word.strip().rstrip("f")) for word in body.split(",") if word.strip()]
    np.testing.assert_array_equal(np.array(read), np.asarray(odd).ravel())


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (
            dict(cell=jaxrnn.Stack((jaxrnn.GRUCell(4),), bidirectional=True)),
            ConversionError,
            "both",
        ),
        (dict(cell=jaxrnn.cells.ConvLSTMCell(2, (3, 3))), ConversionError, "size of its inputs"),
        (dict(name="My model"), ValueError, "name in C"),
        (dict(name="9lives"), ValueError, "name in C"),
        (dict(head=(np.zeros((5, 2)), None)), ValueError, "kernel of head"),
        (dict(head=(np.zeros((4, 2)), np.zeros(3))), ValueError, "bias of head"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_is_refused(change, error, said):
    given = dict(cell=jaxrnn.GRUCell(4), name="model", head=None) | change
    cell = given.pop("cell")
    params = cell.init(jax.random.key(0), INPUTS)
    with pytest.raises(error, match=said):
        to_c(cell, params, **given)


def test_an_equation_without_a_form_is_named():
    cell = jaxrnn.RNNCell(4, jnp.sort)
    with pytest.raises(ConversionError, match="'sort'"):
        to_c(cell, cell.init(jax.random.key(0), INPUTS))
