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
     r"mask has shape \(4, 6\)"),
])  # fmt: skip
def test_a_mistake_is_told_with_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()
