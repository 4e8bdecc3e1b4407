"""Cells around cells: statistics of what they draw, their means at evaluation,
and what they refuse.

That their equations hold, alone and in combination, step by step and with every method, is tested
with all other cells.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import assert_close, inputs, parameters

import jaxrnn
from jaxrnn.cells import ConvLSTMCell, LSTMCarry
from jaxrnn.wrappers import (
    DropConnect,
    LayerNormInput,
    LearnedInitialCarry,
    RecurrentDropout,
    Residual,
    Skip,
    VariationalDropout,
    Zoneout,
)

pytestmark = pytest.mark.usefixtures("quick_compilation", "x64")
T, BATCH = 6, (5,)
LSTM = jaxrnn.LSTMCell(4)


def drawn(cell, key=0, steps=T, batch=BATCH, size=3):
    return cell.noise(jax.random.key(key), steps, jnp.zeros((*batch, size), jnp.float32))


def assert_rate(keep, probability):
    """Within five standard deviations."""
    n = keep.size
    assert abs(float(keep.mean()) - probability) < 5 * math.sqrt(
        probability * (1 - probability) / n
    )


def test_every_rate_is_the_share_of_what_is_drawn_and_every_mask_has_its_axes():
    zoned = drawn(Zoneout(LSTM, h=0.2, c=0.6), steps=200).keep
    assert zoned.h.shape == zoned.c.shape == (200, 5, 4)
    assert_rate(zoned.h, 0.2)
    assert_rate(zoned.c, 0.6)
    kept = drawn(VariationalDropout(LSTM, 0.1, 0.3, 0.5), batch=(999,)).keep
    assert [a.shape for a in kept] == [(1, 999, 3), (1, 999, 4), (1, 999, 4)]
    for keep, rate in zip(kept, (0.1, 0.3, 0.5), strict=True):
        assert_rate(keep, 1 - rate)
    candidate = drawn(RecurrentDropout(LSTM, 0.3), steps=200).keep
    assert candidate.shape == (200, 5, 4)
    assert_rate(candidate, 0.7)
    weights = drawn(DropConnect(jaxrnn.LSTMCell(32), 0.3, ("w_h", "w_x"))).keep
    assert {name: a.shape for name, a in weights.items()} == {
        "w_h": (1, 32, 4, 32),
        "w_x": (1, 3, 4, 32),
    }
    assert_rate(weights["w_h"], 0.7)


def test_masks_of_steps_rows_and_places_differ():
    zoned = np.asarray(drawn(Zoneout(jaxrnn.LSTMCell(40), 0.5, 0.5)).keep.h)
    assert not np.array_equal(zoned[0], zoned[1]) and not np.array_equal(zoned[:, 0], zoned[:, 1])
    keep = drawn(Zoneout(jaxrnn.LSTMCell(40), 0.5, 0.5)).keep
    assert not np.array_equal(keep.h, keep.c)
    kept = drawn(VariationalDropout(jaxrnn.LSTMCell(40), 0.0, 0.5, 0.5)).keep
    assert kept.input is None and not np.array_equal(kept.recurrent, kept.output)


@pytest.mark.parametrize("cell", [
    Zoneout(LSTM, 0.3, 0.3), VariationalDropout(LSTM, 0.3, 0.3, 0.3),
    RecurrentDropout(LSTM, 0.3), DropConnect(LSTM, 0.3),
], ids=lambda cell: type(cell).__name__)  # fmt: skip
def test_the_same_key_replays_a_run_and_another_key_does_not(cell):
    p, xs = parameters(cell), inputs(cell, T, BATCH)
    a, b, c = (jaxrnn.unroll(cell, p, xs, noise=drawn(cell, key))[1] for key in (0, 0, 1))
    assert_close(a, b)
    assert not np.allclose(a, c)


def test_zoneout_at_evaluation_is_the_expectation_of_a_step():
    cell = Zoneout(LSTM, h=0.3, c=0.2)
    p, xs = parameters(cell), inputs(cell, 1, (1,))
    carry = LSTMCarry(h=np.full((1, 4), 0.5), c=np.full((1, 4), -0.5))
    many = 4000
    wide = jax.tree.map(lambda a: np.repeat(a, many, 0), carry)
    noise = drawn(cell, steps=1, batch=(many,))
    trained, _ = jaxrnn.unroll(cell, p, np.repeat(xs, many, 1), wide, noise=noise)
    mean, _ = jaxrnn.unroll(cell, p, xs, carry)
    # 4000 draws
    assert_close(
        jax.tree.map(lambda a: a.mean(0), trained), jax.tree.map(lambda a: a[0], mean), 0.02
    )


def test_without_noise_dropout_is_the_cell_inside_and_a_rate_of_zero_draws_nothing():
    for make in (RecurrentDropout, DropConnect):
        p, xs = parameters(LSTM), inputs(LSTM, T, BATCH)
        assert_close(jaxrnn.unroll(make(LSTM, 0.5), p, xs), jaxrnn.unroll(LSTM, p, xs))
        assert drawn(make(LSTM, 0.0)) is None
    cell = VariationalDropout(LSTM, 0.5, 0.5, 0.5)
    assert_close(jaxrnn.unroll(cell, p, xs), jaxrnn.unroll(LSTM, p, xs))
    none = VariationalDropout(LSTM)
    assert not jax.tree.leaves(drawn(none))
    assert_close(jaxrnn.unroll(none, p, xs, noise=drawn(none)), jaxrnn.unroll(LSTM, p, xs))


def test_a_zoneout_of_everything_holds_the_carry():
    cell = Zoneout(LSTM, h=1.0, c=1.0)
    p, xs = parameters(cell), inputs(cell, T, BATCH)
    carry = LSTMCarry(h=np.full((5, 4), 0.5), c=np.full((5, 4), -0.5))
    for noise in (None, drawn(cell)):
        assert_close(
            jaxrnn.unroll(cell, p, xs, carry, noise=noise), (carry, np.full((T, 5, 4), 0.5))
        )


def test_a_dropped_weight_is_dropped_for_all_steps_and_gets_no_gradient():
    cell = DropConnect(LSTM, 0.5)
    p, xs, noise = parameters(cell), inputs(cell, T, BATCH), drawn(cell)
    slope = jax.grad(lambda p: (jaxrnn.unroll(cell, p, xs, noise=noise)[1] ** 2).sum())(p).w_h
    assert np.array_equal(np.asarray(slope != 0), np.asarray(noise.keep["w_h"][0]))


def test_weights_are_dropped_inside_a_stack_that_runs_step_by_step():
    stack = jaxrnn.Stack([LSTM, DropConnect(LSTM, 0.5)], dropout=0.5)
    cell = LearnedInitialCarry(stack)
    p, xs, noise = parameters(cell), inputs(cell, T, BATCH), drawn(cell)
    first = jax.tree.map(lambda a: np.broadcast_to(a, (5, 4)), p.first)
    assert_close(
        jaxrnn.unroll(cell, p, xs, noise=noise),
        jaxrnn.unroll(stack, p.inner, xs, first, noise=noise),
    )
    slope = (
        jax.grad(lambda p: (jaxrnn.unroll(cell, p, xs, noise=noise)[1] ** 2).sum())(p).inner[1].w_h
    )
    assert np.array_equal(np.asarray(slope != 0), np.asarray(noise.cells[1].keep["w_h"][0]))


def test_wrappers_around_one_that_draws_nothing_train():
    for around in (
        Zoneout,
        VariationalDropout,
        lambda cell: DropConnect(cell, 0.2),
    ):
        cell = around(DropConnect(LSTM, 0.0))
        p, xs = parameters(cell), inputs(cell, T, BATCH)
        assert_close(
            jaxrnn.unroll(cell, p, xs, noise=drawn(cell)),
            jaxrnn.unroll(around(LSTM), p, xs, noise=drawn(cell)),
        )


def test_rates_of_numpy_change_no_dtype():
    cell = VariationalDropout(LSTM, 0.0, np.float64(0.5), np.linspace(0, 1, 3)[1])
    p, xs = (
        jax.tree.map(lambda a: np.asarray(a, np.float32), a)
        for a in (parameters(cell), inputs(cell, T, BATCH))
    )
    assert jaxrnn.unroll(cell, p, xs, noise=drawn(cell))[1].dtype == np.float32
    assert cell == VariationalDropout(LSTM, 0.0, 0.5, 0.5)


@pytest.mark.parametrize("around", [Residual, Skip, LayerNormInput])
def test_connections_go_around_a_bidirectional_stack_and_stay_out_of_padding(around):
    inner = jaxrnn.Stack([jaxrnn.GRUCell(3)] * 2, bidirectional=True, merge="sum")
    cell = around(inner)
    p, xs = parameters(cell), inputs(cell, T, BATCH)
    mask = np.asarray(jaxrnn.lengths_to_mask([6, 2, 0, 1, 3], T))
    carry, ys = jaxrnn.unroll(cell, p, np.where(mask[..., None], xs, np.nan), mask=mask)
    seen, q = xs, p
    if around is LayerNormInput:
        centred = xs - xs.mean(-1, keepdims=True)
        seen, q = (
            p.scale * centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) + p.bias,
            p.inner,
        )
    after, want = jaxrnn.unroll(inner, q, seen, mask=mask)
    if around is not LayerNormInput:
        want = want + xs if around is Residual else np.concatenate([want, xs], -1)
    assert_close((carry, ys), (after, np.where(mask[..., None], want, 0)))


def test_a_stack_of_wrapped_layers_runs_step_by_step_as_well():
    stack = jaxrnn.Stack(
        [
            Skip(LayerNormInput(LSTM)),
            Residual(jaxrnn.GRUCell(7)),
            jaxrnn.RNNCell(2),
        ]
    )
    p, xs = parameters(stack), inputs(stack, T, BATCH)
    carry, ys = jaxrnn.unroll(stack, p, xs)
    state, outputs = None, []
    for x in xs:
        state, y = stack(p, state, x)
        outputs.append(y)
    assert_close((state, jnp.stack(outputs)), (carry, ys))


BOTH = LearnedInitialCarry(jaxrnn.Stack([LSTM], bidirectional=True))
AROUND = VariationalDropout(Skip(LSTM), output=0.5)


@pytest.mark.parametrize("make, error, message", [
    (lambda: Zoneout(LSTM, h=1.5), ValueError, "h is a probability from 0 to 1, got 1.5"),
    (lambda: VariationalDropout(LSTM, recurrent=1.0), ValueError,
     "recurrent is a probability from 0 to below 1, got 1.0"),
    (lambda: RecurrentDropout(jaxrnn.RNNCell(4), 0.1), TypeError,
     "candidate of an LSTMCell or a GRUCell, got RNNCell"),
    (lambda: DropConnect(LSTM, "half"), ValueError, "rate is a probability"),
    (lambda: drawn(DropConnect(LSTM, 0.1, ("w_hh",))), ValueError,
     r"has no parameters \['w_hh'\]; it has \('w_x',"),
    (lambda: drawn(VariationalDropout(jaxrnn.Stack([LSTM]), 0.1)), TypeError,
     "a carry with a field h"),
    (lambda: jaxrnn.unroll(Zoneout(Skip(LSTM)), parameters(LSTM), inputs(LSTM, T)),
     TypeError, "around Zoneout"),
    (lambda: jaxrnn.unroll(Residual(LSTM), parameters(LSTM), inputs(LSTM, T)), ValueError,
     r"\(6, 4\) and \(6, 3\)"),
    (lambda: jaxrnn.unroll(LearnedInitialCarry(LSTM), parameters(LSTM), inputs(LSTM, T)),
     ValueError,
     r"params of LearnedInitialCarry are LearnedParams\(inner=.*got LSTMParams"),
    (lambda: jaxrnn.unroll(BOTH, parameters(BOTH), inputs(LSTM, T)), ValueError,
     "wrap the cell of each of its layers"),
    (lambda: jaxrnn.unroll(AROUND, parameters(AROUND), inputs(LSTM, T),
                           noise=drawn(AROUND, batch=())), TypeError, "around it"),
])  # fmt: skip
def test_a_mistake_is_told_with_what_was_expected(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_noise_of_another_cell_batch_or_length_is_told_what_was_expected():
    cell = Zoneout(jaxrnn.GRUCell(4), h=0.3)
    p, xs = parameters(cell), inputs(cell, 5, (2,))
    noise = cell.noise(jax.random.key(0), 5, xs[0])
    stack = jaxrnn.Stack((cell, cell), dropout=0.5)
    for wrong in (
        jax.tree.map(lambda n: n[:, :1], noise),
        jax.tree.leaves(noise)[0],
        stack.noise(jax.random.key(0), 5, xs[0]),
    ):
        with pytest.raises(
            ValueError, match=r"noise does not fit Zoneout and xs of shape \(5, 2, 3\): .* expected"
        ):
            jaxrnn.unroll(cell, p, xs, noise=wrong)
    with pytest.raises(ValueError, match="noise does not fit Stack"):
        jaxrnn.unroll(stack, parameters(stack), xs, noise=noise)
    with pytest.raises(ValueError, match="first axis must be T=5 or 1"):
        jaxrnn.unroll(cell, p, xs, noise=jax.tree.map(lambda n: n[:3], noise))


def test_a_learned_state_of_a_convolution_without_padding_is_one_for_all_pixels():
    cell = LearnedInitialCarry(ConvLSTMCell(4, 3, padding="valid"))
    p = jax.tree.map(lambda a: a + 0.1, cell.init(jax.random.key(0), 2, jnp.float64))
    xs = np.random.default_rng(0).normal(size=(3, 2, 6, 6, 2))
    start = jax.tree.map(lambda a: jnp.broadcast_to(a, (2, 4, 4, 4)), p.first)
    assert_close(jaxrnn.unroll(cell, p, xs), jaxrnn.unroll(cell.cell, p.inner, xs, start))
