"""Singular values, Lyapunov exponents, effective memory and memory capacity,
held against closed forms in float64.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.nn import sigmoid

import jaxrnn
from jaxrnn import diagnostics

T, H = 60, 8
KEY = jax.random.key(3)
RNN, LSTM, GRU = jaxrnn.RNNCell(H), jaxrnn.LSTMCell(H), jaxrnn.GRUCell(H)

exponent = jax.jit(
    diagnostics.largest_lyapunov_exponent, static_argnums=0, static_argnames="washout"
)
singular_values = jax.jit(diagnostics.carry_jacobian_singular_values, static_argnums=0)
capacity = jax.jit(diagnostics.memory_capacity, static_argnums=(0, 3), static_argnames="steps")


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


class OneCarry(NamedTuple):
    h: jax.Array  # [..., H]


class LinearParams(NamedTuple):
    w_x: jax.Array  # [I, H]
    w_h: jax.Array  # [H, H]


@dataclasses.dataclass(frozen=True)
class Linear(jaxrnn.Cell):
    """h' = x W_x + h W_h."""

    def project(self, params, xs, noise=None):
        return jaxrnn.dot(xs, params.w_x)

    def init_carry(self, params, like):
        return OneCarry(jaxrnn.zeros(like, params.w_h.shape[0]))

    def step(self, params, carry, u, dot=jaxrnn.dot):
        h = u + dot(carry.h, params.w_h)
        return OneCarry(h), h


@dataclasses.dataclass(frozen=True)
class Logistic(Linear):
    """h' = 4 h (1 - h), whatever the input."""

    def step(self, params, carry, u, dot=jaxrnn.dot):
        h = 4 * carry.h * (1 - carry.h)
        return OneCarry(h), h


def shift(size=H):
    """The input enters at the first unit and moves on by one unit per step."""
    return LinearParams(w_x=jnp.eye(1, size), w_h=jnp.eye(size, k=1))


def zeros(cell, bias):
    """No recurrent kernel, and a bias on gate 1: the forget gate of an LSTM,
    the update gate of a GRU.
    """
    params = cell.init(KEY, 2, jnp.float64)
    b = jnp.zeros_like(params.b).at[H : 2 * H].set(bias)
    return params._replace(w_h=jnp.zeros_like(params.w_h), b=b)


def test_the_singular_values_of_a_tanh_rnn_at_zero_are_those_of_its_kernel():
    values = jnp.array([2.0, 1.5, 1.0, 0.9, 0.5, 0.2, 0.1, 0.0])
    params = RNN.init(KEY, 2, jnp.float64)
    left, right = (
        jnp.linalg.qr(jax.random.normal(key, (H, H)))[0] for key in jax.random.split(KEY)
    )
    params = params._replace(w_h=(left @ jnp.diag(values) @ right)[:, None], b=jnp.zeros(H))
    found = singular_values(RNN, params, jnp.zeros((T, 2)))
    np.testing.assert_allclose(found, np.tile(values, (T, 1)), atol=1e-12)


def test_the_singular_values_change_with_the_state():
    params = RNN.init(KEY, 2, jnp.float64)
    found = singular_values(RNN, params, jnp.ones((T, 2)))
    assert found.shape == (T, H) and float(found[1:, 0].max()) < 0.99995  # tanh' < 1 away from zero
    assert np.all(np.diff(found, axis=1) <= 0)


@pytest.mark.parametrize("g", [0.5, 1.0, 1.1])
def test_a_tanh_rnn_at_zero_grows_by_ln_g_per_step(g):
    params = RNN.init(KEY, 2, jnp.float64)
    found = exponent(RNN, params._replace(w_h=g * params.w_h, b=jnp.zeros(H)), jnp.zeros((T, 2)))
    np.testing.assert_allclose(found, np.log(g), atol=1e-12)


@pytest.mark.parametrize("bias", [-1.0, 0.0, 3.0])
@pytest.mark.parametrize("cell", [LSTM, GRU], ids=["lstm", "gru"])
def test_a_gated_cell_without_recurrent_kernels_shrinks_by_its_gate(cell, bias):
    found = exponent(cell, zeros(cell, bias), jnp.zeros((T, 2)), washout=5)
    np.testing.assert_allclose(found, np.log(sigmoid(bias)), atol=1e-10)


def test_the_logistic_map_is_chaotic_with_exponent_ln_2():
    params = LinearParams(w_x=jnp.zeros((1, 1)), w_h=jnp.zeros((1, 1)))
    found = exponent(Logistic(), params, jnp.zeros((100_000, 1)), OneCarry(jnp.array([0.3])))
    assert abs(float(found) - np.log(2)) < 0.005


def test_the_largest_exponent_is_found_whatever_the_direction_it_starts_from():
    params = LinearParams(w_x=jnp.zeros((1, 3)), w_h=jnp.diag(jnp.array([0.3, 0.95, 0.8])))
    found = [
        float(exponent(Linear(), params, jnp.zeros((400, 1)), key=jax.random.key(k), washout=200))
        for k in range(3)
    ]
    np.testing.assert_allclose(found, np.log(0.95), atol=1e-10)


def test_a_difference_that_vanishes_altogether_has_the_exponent_minus_infinity():
    assert float(exponent(Linear(), shift(3), jnp.zeros((10, 1)))) == -np.inf


def test_a_washout_that_leaves_no_step_is_refused():
    with pytest.raises(ValueError, match="washout must be from 0 to T - 1 = 9, got 10"):
        diagnostics.largest_lyapunov_exponent(Linear(), shift(3), jnp.zeros((10, 1)), washout=10)


@pytest.mark.parametrize(
    ("g", "share", "lags"),
    [(0.5, 0.01, 6), (0.9, 0.01, 43), (0.9, 0.5, 6), (1.0, 0.01, 99), (1.1, 0.01, 99)],
)
def test_gradients_that_decay_as_g_to_the_lag_reach_as_far_as_they_exceed_the_share(g, share, lags):
    curve = np.arange(100) * np.log10(g) + 3.0
    assert int(diagnostics.effective_memory(jnp.asarray(curve), share)) == lags


def test_the_effective_memory_of_a_cell_is_that_of_its_curve():
    params = RNN.init(KEY, 2, jnp.float64)
    curve = diagnostics.carry_jacobian_norms(
        RNN, params._replace(w_h=0.8 * params.w_h, b=jnp.zeros(H)), jnp.zeros((T, 2))
    )
    assert int(diagnostics.effective_memory(curve)) == 20  # 0.8^20 = 0.0115, 0.8^21 = 0.0092
    two = diagnostics.effective_memory(jnp.stack([curve, curve / 2]))
    assert two.tolist() == [20, 41]


def test_a_share_outside_0_and_1_is_refused():
    with pytest.raises(ValueError, match="share must be between 0 and 1, got 1"):
        diagnostics.effective_memory(jnp.zeros(3), 1.0)


def test_a_shift_register_remembers_what_it_holds_and_nothing_else():
    found = capacity(Linear(), shift(), KEY, 12)
    # the last of its units is the input H - 1 steps back
    np.testing.assert_allclose(found.delays[: H - 1], 1, atol=1e-6)
    assert np.all(np.asarray(found.delays[H - 1 :]) < 0.01)
    np.testing.assert_allclose(found.total, np.sum(found.delays), rtol=1e-12)


def test_no_linear_network_remembers_more_than_it_has_units():
    kernel = jnp.linalg.qr(jax.random.normal(KEY, (H, H)))[0]
    for g in (0.3, 0.99, 0.9):
        params = LinearParams(w_x=jax.random.normal(jax.random.key(1), (1, H)), w_h=g * kernel)
        total = float(capacity(Linear(), params, KEY, 40).total)
        assert total <= H * 1.02
    assert total > 0.85 * H  # near the bound, for what is left of it after 40 steps is little


def test_a_contractive_reservoir_remembers_less_than_an_orthogonal_one():
    totals = []
    for g in (0.3, 0.95):
        params = LinearParams(
            w_x=jax.random.normal(jax.random.key(1), (1, H)), w_h=g * jnp.eye(H)[:, ::-1]
        )
        params = params._replace(w_h=g * jnp.linalg.qr(jax.random.normal(KEY, (H, H)))[0])
        totals.append(float(capacity(Linear(), params, KEY, 40, ridge=1e-4).total))
    assert totals[0] < 0.8 * totals[1]


def test_outputs_that_know_nothing_have_no_capacity_and_no_nan():
    found = capacity(Linear(), LinearParams(w_x=jnp.zeros((1, H)), w_h=jnp.eye(H)), KEY, 5)
    assert found.total == 0 and found.delays.tolist() == [0] * 5


def test_parameters_of_16_bits_are_measured_in_32():
    params = jax.tree.map(lambda a: a.astype(jnp.bfloat16), shift())
    found = capacity(Linear(), params, KEY, 2 * H)
    assert found.delays.dtype == jnp.float32
    assert jnp.abs(found.delays[: H - 1] - 1).max() < 1e-3 and found.delays[H:].max() < 0.05


def test_delays_and_steps_below_one_are_refused():
    with pytest.raises(ValueError, match="delays must be an integer of at least 1, got 0"):
        diagnostics.memory_capacity(Linear(), shift(), KEY, 0)
