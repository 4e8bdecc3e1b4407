"""Closed loops: what is fed back, when, and with which derivatives."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.testing import check_cell
from jaxrnn.wrappers import Feedback, LayerNormInput

KEY = jax.random.key(5)
T, B, O, E = 9, 3, 2, 4
CELLS = [
    jaxrnn.GRUCell(5),
    jaxrnn.LSTMCell(5),
    LayerNormInput(jaxrnn.RNNCell(5)),
    jaxrnn.Stack((jaxrnn.GRUCell(4), jaxrnn.RNNCell(5))),
]
FEEDS = ["softmax", "one_hot", jnp.sin]


def given(dtype=jnp.float32):
    keys = jax.random.split(KEY, 3)
    series = jax.random.normal(keys[0], (T, B, O), dtype)
    use = jax.random.bernoulli(keys[1], 0.5, (T, B))
    return series, use, jax.random.normal(keys[2], (T, B, E), dtype)


def loop(cell, params, series, use, beside, window=T):
    """Step by step, in as many words; no gradient goes from one window to the one before."""
    carry = jaxrnn.initial_carry(cell.cell, params.inner, (B,), series.dtype)
    fed = jnp.zeros((B, O), series.dtype)
    outputs = []
    for t in range(T):
        if t % window == 0:
            carry, fed = jax.lax.stop_gradient((carry, fed))
        x = jnp.where(use[t][:, None], series[t], fed)
        carry, y = cell.cell(params.inner, carry, jnp.concatenate([x, beside[t]], -1))
        o = y @ params.w_o + params.b_o
        fed = {
            "linear": o,
            "softmax": jnp.exp(o) / jnp.exp(o).sum(-1, keepdims=True),
            "one_hot": (o == o.max(-1, keepdims=True)).astype(o.dtype),
        }.get(cell.feed if isinstance(cell.feed, str) else "", jnp.sin(o))
        outputs.append(o)
    return jnp.stack(outputs)


@pytest.mark.parametrize(
    "inner, feed", [*((c, "linear") for c in CELLS), *((CELLS[0], f) for f in FEEDS)]
)
def test_values_and_gradients_are_those_of_a_loop_in_as_many_words(inner, feed, x64):
    cell = Feedback(inner, O, feed=feed)
    params = cell.init(KEY, O + 1 + E, jnp.float64)
    params = params._replace(b_o=params.b_o + 0.3)
    series, use, beside = given(jnp.float64)
    weights = jax.random.normal(KEY, (T, B, O), jnp.float64)

    def ours(params, series):
        return jaxrnn.unroll(cell, params, cell.inputs(series, use, beside))[1]

    def theirs(params, series):
        return loop(cell, params, series, use, beside)

    runs = [
        jax.jit(jax.value_and_grad(lambda *a, f=f: (f(*a) * weights).sum(), (0, 1)))(params, series)
        for f in (ours, theirs)
    ]
    for a, b in zip(*map(jax.tree.leaves, runs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_teacher_forcing_is_the_cell_with_its_readout():
    cell = Feedback(jaxrnn.LSTMCell(5), O)
    params = cell.init(KEY, O + 1 + E)
    series, _, beside = given()
    _, ours = jaxrnn.unroll(cell, params, cell.inputs(series, beside=beside))
    _, ys = jaxrnn.unroll(cell.cell, params.inner, jnp.concatenate([series, beside], -1))
    np.testing.assert_allclose(ours, ys @ params.w_o + params.b_o, atol=1e-6)


def test_what_is_not_used_may_be_nan_and_has_no_gradient():
    cell = Feedback(jaxrnn.GRUCell(5), O)
    params = cell.init(KEY, O + 1)
    series, use, _ = given()
    holes = jnp.where(use[..., None], series, jnp.nan)

    def loss(params, series):
        return (jaxrnn.unroll(cell, params, cell.inputs(series, use))[1] ** 2).sum()

    runs = [jax.value_and_grad(loss, (0, 1))(params, s) for s in (series, holes)]
    for a, b in zip(*map(jax.tree.leaves, runs), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.asarray(runs[1][1][1])[~np.asarray(use)].any()


def test_two_windows_are_one_and_a_reset_forgets_the_last_output():
    cell = Feedback(jaxrnn.GRUCell(5), O)
    params = cell.init(KEY, O + 1)
    xs = cell.inputs(*given()[:2])
    after, whole = jaxrnn.unroll(cell, params, xs)
    middle, first = jaxrnn.unroll(cell, params, xs[:4])
    end, second = jaxrnn.unroll(cell, params, xs[4:], middle)
    np.testing.assert_allclose(jnp.concatenate([first, second]), whole, atol=1e-6)
    np.testing.assert_allclose(end.fed, after.fed, atol=1e-6)
    reset = jnp.zeros((T, B), bool).at[4].set(True)
    _, again = jaxrnn.unroll(cell, params, xs, reset=reset)
    _, fresh = jaxrnn.unroll(cell, params, xs[4:])
    np.testing.assert_allclose(again[4:], fresh, atol=1e-6)


def test_scheduled_sampling_under_truncated_backpropagation(x64):
    cell = Feedback(jaxrnn.GRUCell(5), O)
    params = cell.init(KEY, O + 1 + E, jnp.float64)
    series, use, beside = given(jnp.float64)
    weights = jax.random.normal(KEY, (T, B, O), jnp.float64)

    def ours(params):
        ys = jaxrnn.unroll_windows(cell, params, cell.inputs(series, use, beside), window=4)[1]
        return jnp.sum(weights * ys)

    def theirs(params, window):
        return jnp.sum(weights * loop(cell, params, series, use, beside, window))

    found = jax.grad(ours)(params)
    chex.assert_trees_all_close(found, jax.grad(theirs)(params, 4), rtol=1e-9)
    whole = jax.grad(theirs)(params, T)
    assert not np.allclose(found.inner.w_h, whole.inner.w_h, rtol=1e-3)


def test_samples_have_the_chances_of_the_softmax():
    cell = Feedback(jaxrnn.RNNCell(3), 3, feed="one_hot", sample=True)
    params = jax.tree.map(jnp.zeros_like, cell.init(KEY, 4))
    logits = jnp.log(jnp.array([0.6, 0.3, 0.1]))
    params = params._replace(b_o=logits)
    xs = cell.inputs(jnp.zeros((400, 50, 3)), use=False)
    noise = cell.noise(KEY, 400, xs[0])
    carries, _ = jaxrnn.running.unroll_carries(cell, params, xs, noise=noise)
    np.testing.assert_allclose(carries.fed.mean((0, 1)), [0.6, 0.3, 0.1], atol=0.01)
    assert (carries.fed.sum(-1) == 1).all()
    largest, _ = jaxrnn.running.unroll_carries(cell, params, xs)
    assert (largest.fed[..., 0] == 1).all()


def test_a_free_running_gru_has_the_fast_backward_pass():
    cell = Feedback(jaxrnn.GRUCell(32), 8)
    (told,) = jaxrnn.explain(cell, (50, 16, 9))
    assert told.method == "fused"


@pytest.mark.parametrize("feed", ["linear", "one_hot"])
def test_it_keeps_the_contract(feed):
    check_cell(Feedback(jaxrnn.GRUCell(4), O, feed=feed, sample=feed == "one_hot"), O + 1 + E)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Feedback(jaxrnn.GRUCell(4), 0), "output_size must be an integer of at least 1"),
        (lambda: Feedback(jaxrnn.GRUCell(4), 2, feed="tanh"), "'one_hot' or a function, got 'tan"),
        (lambda: Feedback(jaxrnn.GRUCell(4), 2, sample=True), "goes with feed='one_hot'"),
        (lambda: Feedback(jaxrnn.cells.ConvGRUCell(4, 3), 2), "a cell for vectors"),
        (
            lambda: Feedback(jaxrnn.Stack((jaxrnn.GRUCell(4),), bidirectional=True), 2),
            "runs in one direction",
        ),
        (lambda: Feedback(jaxrnn.GRUCell(4), 2).init(KEY, 2), "input_size .* at least 3, got 2"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_equal_feedbacks_are_equal():
    made = Feedback(jaxrnn.GRUCell(4), 2, feed="softmax")
    assert made == dataclasses.replace(made) and hash(made) == hash(dataclasses.replace(made))
