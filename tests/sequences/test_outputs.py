"""Last outputs and activation penalties, against plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import assert_close, inputs, parameters

import jaxrnn
from jaxrnn.sequences import (
    activation_regularization,
    last_output,
    temporal_activation_regularization,
)

pytestmark = pytest.mark.usefixtures("quick_compilation", "x64")
T = 6
RNG = np.random.default_rng(5)
YS = RNG.normal(size=(T, 4, 6))
MASK = np.array(jaxrnn.lengths_to_mask([6, 3, 0, 1], T))
HOLES = np.array(
    [[0, 1, 0, 1], [1, 0, 0, 1], [0, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 1], [0, 0, 0, 0]], bool
)


def last(ys, mask, half, first):
    """The last (or first) valid step of each row, one row at a time."""
    rows = [np.flatnonzero(mask[:, b]) for b in range(mask.shape[1])]
    return np.stack(
        [
            ys[at[0 if first else -1], b, half] if at.size else 0 * ys[0, b, half]
            for b, at in enumerate(rows)
        ]
    )


@pytest.mark.parametrize("mask", [MASK, HOLES, MASK | True], ids=["lengths", "holes", "all"])
def test_the_last_output_is_that_of_each_rows_last_valid_step_in_both_directions(mask):
    poisoned = np.where(mask[..., None], YS, np.nan)
    assert_close(last_output(poisoned, mask), last(YS, mask, slice(0, 6), False))
    both = np.concatenate(
        [last(YS, mask, slice(0, 3), False), last(YS, mask, slice(3, 6), True)], -1
    )
    assert_close(last_output(poisoned, mask, bidirectional=True), both)
    slope = jax.grad(lambda ys: last_output(ys, mask, bidirectional=True).sum())(poisoned)
    assert float(slope.sum()) == 6 * mask.any(0).sum() and not np.isnan(slope).any()


def test_without_a_mask_it_is_the_last_step_and_of_no_step_zero():
    assert_close(last_output(YS), YS[-1])
    assert_close(
        last_output(YS[..., None, :], bidirectional=True)[..., 0, :],
        np.concatenate([YS[-1, :, :3], YS[0, :, 3:]], -1),
    )
    assert_close(last_output(YS[:0], MASK[:0]), np.zeros((4, 6)))
    assert_close(last_output(YS[:0]), np.zeros((4, 6)))


@pytest.mark.parametrize("mask", [MASK, HOLES], ids=["lengths", "holes"])
def test_the_last_output_equals_the_final_state_of_each_direction(mask):
    stack = jaxrnn.Stack([jaxrnn.GRUCell(3)], bidirectional=True)
    carry, ys = jaxrnn.unroll(stack, parameters(stack), inputs(stack, T, (4,)), mask=mask)
    # zeros in the row without steps, as the outputs
    want = np.concatenate([c.h for c in carry], -1)
    assert_close(last_output(ys, mask, bidirectional=True), want)


def test_activation_regularisation_is_the_mean_square_over_valid_steps():
    poisoned = np.where(MASK[..., None], YS, np.inf)
    assert_close(activation_regularization(poisoned, MASK), np.mean(YS[MASK] ** 2))
    assert_close(activation_regularization(YS), np.mean(YS**2))
    slope = jax.grad(activation_regularization)(poisoned, MASK)
    assert_close(slope, np.where(MASK[..., None], 2 * YS / YS[MASK].size, 0))


def test_temporal_regularisation_counts_pairs_of_valid_steps_within_a_sequence():
    reset = RNG.random(MASK.shape) < 0.3
    pairs = [
        (t, b)
        for t in range(1, T)
        for b in range(4)
        if MASK[t, b] and MASK[t - 1, b] and not reset[t, b]
    ]
    want = np.mean([(YS[t, b] - YS[t - 1, b]) ** 2 for t, b in pairs])
    poisoned = np.where(MASK[..., None], YS, np.nan)
    assert_close(temporal_activation_regularization(poisoned, MASK, reset), want)
    assert not np.isnan(jax.grad(temporal_activation_regularization)(poisoned, MASK, reset)).any()
    assert_close(temporal_activation_regularization(YS), np.mean(np.diff(YS, axis=0) ** 2))
    inside = np.diff(YS, axis=0)[~reset[1:]]
    assert_close(temporal_activation_regularization(YS, reset=reset), np.mean(inside**2))


@pytest.mark.parametrize(
    "penalty",
    [
        activation_regularization,
        temporal_activation_regularization,
    ],
)
def test_penalties_of_nothing_are_zero_and_those_of_half_precision_wide(penalty):
    assert penalty(YS, MASK & False) == 0 and penalty(YS[:0]) == 0
    assert penalty(jnp.full((300, 300), 8, jnp.bfloat16)).dtype == jnp.float32
    assert activation_regularization(jnp.full((300, 300), 8, jnp.bfloat16)) == 64


@pytest.mark.parametrize("call, message", [
    (lambda: last_output(YS, MASK.T),
     r"mask has shape \(4, 6\), expected the leading axes \(T, \*batch\) .* \(6, 4, 6\)"),
    (lambda: last_output(YS[..., :5], bidirectional=True),
     "5 features, which are not two directions"),
    (lambda: activation_regularization(YS, MASK[:3]), r"mask has shape \(3, 4\)"),
    (lambda: temporal_activation_regularization(YS, None, MASK.T),
     r"reset has shape \(4, 6\)"),
])  # fmt: skip
def test_a_mistake_is_told_with_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- layouts, directions, reversed runs -----------------------------------------------------------


@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
@pytest.mark.parametrize("masked", [False, True])
def test_batch_first_is_the_same_with_time_behind_the_batch(batch, masked):
    ys = RNG.normal(size=(T, *batch, 6))
    mask = RNG.random((T, *batch)) < 0.6 if masked else None
    reset = RNG.random((T, *batch)) < 0.3
    move = lambda a: None if a is None else np.moveaxis(a, 0, len(batch))  # noqa: E731
    for options in ({}, {"bidirectional": True}, {"reverse": True}):
        want = last_output(ys, mask, **options)
        assert_close(last_output(move(ys), move(mask), **options, batch_first=True), want)
    want = activation_regularization(ys, mask)
    assert_close(activation_regularization(move(ys), move(mask), batch_first=True), want)
    want = temporal_activation_regularization(ys, mask, reset)
    got = temporal_activation_regularization(move(ys), move(mask), move(reset), batch_first=True)
    assert_close(got, want)


def test_a_mask_with_time_and_batch_swapped_is_refused_where_both_are_as_long():
    ys = RNG.normal(size=(4, 4, 6))
    mask = np.array(jaxrnn.lengths_to_mask([1, 4, 2, 3], 4))
    for function in (last_output, activation_regularization, temporal_activation_regularization):
        function(ys, mask)
        function(ys, mask.T, batch_first=True)
        with pytest.raises(ValueError, match="batch_first=True says so"):
            function(ys, mask.T)
        with pytest.raises(ValueError, match="batch_first=False says so"):
            function(ys, mask, batch_first=True)
        function(ys, np.eye(4, dtype=bool))  # padded in neither way: any mask is right
        assert_close(jax.jit(function)(ys, mask), function(ys, mask))


def test_lengths_are_not_taken_for_a_mask():
    with pytest.raises(TypeError, match="mask must be boolean, got dtype int"):
        last_output(RNG.normal(size=(4, 4, 6)), np.array([4, 3, 1, 1]))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("merge", ["concat", "apart"])
def test_the_last_outputs_of_both_directions_are_their_final_states(reverse, merge):
    stack = jaxrnn.Stack([jaxrnn.GRUCell(3)], bidirectional=True, merge=merge)
    p, xs = parameters(stack), inputs(stack, T, (4,))
    carry, ys = jaxrnn.unroll(stack, p, xs, mask=MASK, reverse=reverse)
    got = last_output(ys, MASK, bidirectional=True, merge=merge, reverse=reverse)
    join = np.concatenate if merge == "concat" else np.stack
    assert_close(got, join([c.h for c in carry], -1 if merge == "concat" else -2))


def test_the_last_output_of_a_reversed_run_is_its_final_state():
    cell = jaxrnn.GRUCell(3)
    carry, ys = jaxrnn.unroll(
        cell, parameters(cell), inputs(cell, T, (4,)), mask=MASK, reverse=True
    )
    assert_close(last_output(ys, MASK, reverse=True), carry.h)


@pytest.mark.parametrize("merge", ["sum", "mean", "mul"])
def test_directions_that_cannot_be_told_apart_are_refused(merge):
    with pytest.raises(ValueError, match='take the last states from the carry, or merge="apart"'):
        last_output(YS, MASK, bidirectional=True, merge=merge)
    with pytest.raises(ValueError, match="has an axis of 2 before the last"):
        last_output(YS, MASK, bidirectional=True, merge="apart")
