"""Gradients against the lag, held against closed forms (no training),
all in float64 unless the test is about float32.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.nn import sigmoid

import jaxrnn
from jaxrnn import diagnostics
from jaxrnn.cells import GRUResetBeforeCell, LSTMPCell, MLSTMCell, RNNCarry

T, H, INPUTS = 60, 5, 2
KEY = jax.random.key(3)

carry_gradients = jax.jit(diagnostics.carry_gradients, static_argnums=(0, 3))
carry_gradient_norms = jax.jit(diagnostics.carry_gradient_norms, static_argnums=(0, 3))
carry_jacobians = jax.jit(diagnostics.carry_jacobians, static_argnums=0)
carry_jacobian_norms = jax.jit(
    diagnostics.carry_jacobian_norms, static_argnums=0, static_argnames="field"
)
RNN, LSTM, GRU, GRU_BEFORE = (
    jaxrnn.RNNCell(H),
    jaxrnn.LSTMCell(H),
    jaxrnn.GRUCell(H),
    GRUResetBeforeCell(H),
)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def init(cell, bias=None, dtype=jnp.float64):
    """Parameters, with the bias of gate 1 (the forget gate of an LSTM, the update gate of a GRU)
    where given.
    """
    params = cell.init(KEY, INPUTS, dtype)
    return params if bias is None else params._replace(b=params.b.at[H : 2 * H].set(bias))


def scaled(params, g):
    return params._replace(w_h=g * params.w_h)


def steps(T=T):
    return jnp.zeros((T, INPUTS))


def powers(g, T=T):
    return np.arange(T + 1) * np.log10(g)


def last(carry, ys):
    return jnp.sum(carry.h)


@pytest.mark.parametrize("g", [0.5, 1.0, 1.1])
def test_a_tanh_rnn_at_zero_with_a_scaled_orthogonal_kernel_decays_as_g_to_the_lag(g):
    norms = carry_jacobian_norms(RNN, scaled(init(RNN), g), steps())
    np.testing.assert_allclose(norms, powers(g), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("g", [0.5, 1.0])
def test_the_gradient_of_a_loss_decays_as_g_to_the_lag_too(g):
    norms = carry_gradient_norms(RNN, scaled(init(RNN), g), steps(), last).whole[::-1]
    np.testing.assert_allclose(norms, np.sqrt(H) * 10 ** powers(g), rtol=1e-10)


@pytest.mark.parametrize("bias", [0.0, 1.0, 3.0])
def test_without_recurrent_kernels_the_lstm_cell_state_decays_as_sigmoid_of_the_forget_bias(bias):
    norms = carry_jacobian_norms(LSTM, scaled(init(LSTM, bias), 0), steps(), field="c")
    np.testing.assert_allclose(norms, powers(float(sigmoid(bias))), rtol=1e-10)


def test_without_recurrent_kernels_the_gradient_to_c_is_half_of_a_power_of_the_forget_gate():
    norms = carry_gradient_norms(LSTM, scaled(init(LSTM, 1.0), 0), steps(), last)
    lags = np.arange(1, T + 1)
    # c_T reaches the loss through h_T = sigmoid(0) tanh(c_T), which is made in the last step:
    # 1/2 sqrt(H)
    np.testing.assert_allclose(
        norms.fields.c[::-1][1:], 0.5 * np.sqrt(H) * float(sigmoid(1.0)) ** lags, rtol=1e-10
    )
    assert norms.fields.c[-1] == 0
    np.testing.assert_allclose(norms.fields.h[::-1], np.sqrt(H) * (np.arange(T + 1) == 0))
    np.testing.assert_allclose(norms.whole, np.hypot(norms.fields.h, norms.fields.c))


@pytest.mark.parametrize("bias", [0.0, 2.0])
@pytest.mark.parametrize("cell", [GRU, GRU_BEFORE], ids=["GRU", "GRUResetBefore"])
def test_without_recurrent_kernels_a_gru_decays_as_sigmoid_of_the_update_bias(cell, bias):
    norms = carry_jacobian_norms(cell, scaled(init(cell, bias), 0), steps())
    np.testing.assert_allclose(norms, powers(float(sigmoid(bias))), rtol=1e-10)


@pytest.mark.parametrize("bias", [0.0, 1.0, 2.0])
def test_one_step_of_an_lstm_at_a_zero_state_give_the_forget_gate_and_a_quarter_of_the_kernel_of_g(
    bias,
):
    params = init(LSTM, bias)
    # d(h', c') / d(h, c); h = tanh(c) / 2 ties h to c
    matrix = carry_jacobians(LSTM, params, steps(1))[0]
    to_c = matrix[H:, H:] + matrix[H:, :H] / 2
    np.testing.assert_allclose(
        to_c, float(sigmoid(bias)) * np.eye(H) + params.w_h[:, 2].T / 4, atol=1e-12
    )


@pytest.mark.parametrize("bias", [0.0, 1.5])
def test_one_step_of_a_gru_at_a_zero_state_keeps_z_and_takes_half_of_the_kernel_of_n(bias):
    params = init(GRU, bias)
    z = float(sigmoid(bias))
    want = z * np.eye(H) + (1 - z) / 2 * params.w_h[:, 2].T
    np.testing.assert_allclose(carry_jacobians(GRU, params, steps(1))[0], want, atol=1e-12)


def test_an_identity_relu_rnn_on_a_positive_state_keeps_every_gradient():
    cell = jaxrnn.RNNCell(H, "relu", recurrent_init="identity")
    norms = carry_jacobian_norms(cell, init(cell), steps(), RNNCarry(h=jnp.ones(H)))
    np.testing.assert_allclose(norms, np.zeros(T + 1), atol=1e-12)


def test_a_dead_relu_gives_minus_infinity_and_no_nan():
    cell = jaxrnn.RNNCell(H, "relu", recurrent_init="identity")
    norms = carry_jacobian_norms(cell, init(cell), steps(), RNNCarry(h=-jnp.ones(H)))
    assert norms[0] == 0
    assert np.all(np.asarray(norms[1:]) == -np.inf)


def test_the_product_of_jacobians_does_not_underflow_in_float32_where_the_gradient_does():
    params, xs = scaled(init(RNN, dtype=jnp.float32), 0.5), jnp.zeros((300, INPUTS), jnp.float32)
    norms = carry_jacobian_norms(RNN, params, xs)
    assert norms.dtype == jnp.float32
    np.testing.assert_allclose(norms, powers(0.5, 300), rtol=1e-3, atol=1e-4)
    gradients = carry_gradient_norms(RNN, params, xs, last).whole[::-1]
    # squares would end at lag 63; beyond lag 115 numbers that are added lose digits
    np.testing.assert_allclose(gradients[:115], np.sqrt(H) * 10 ** powers(0.5, 114), rtol=1e-3)
    assert gradients[200] == 0


@pytest.mark.parametrize(
    "cell",
    [RNN, LSTM, GRU, GRU_BEFORE, LSTMPCell(H, 3)],
    ids=lambda cell: type(cell).__name__,
)
def test_gradients_of_every_step_are_the_products_of_the_jacobians(cell):
    T = 6
    params = init(cell)
    xs = jax.random.normal(jax.random.key(5), (T, INPUTS), jnp.float64)
    norms = carry_jacobian_norms(cell, params, xs)
    matrices = np.asarray(carry_jacobians(cell, params, xs))
    gradients = carry_gradients(cell, params, xs, last)
    rows = np.concatenate([np.asarray(leaf) for leaf in gradients], axis=-1)  # [T + 1, S]
    for t in range(T):
        np.testing.assert_allclose(rows[t], rows[t + 1] @ matrices[t], rtol=1e-10, atol=1e-14)
        product = np.linalg.multi_dot([*matrices[t:][::-1], np.eye(len(matrices[0]))])
        np.testing.assert_allclose(
            norms[T - t], np.log10(np.linalg.norm(product, 2)), rtol=1e-8, atol=1e-10
        )


def test_gradients_agree_with_finite_differences_of_the_carry():
    params = init(LSTM)
    xs = jax.random.normal(jax.random.key(5), (4, INPUTS), jnp.float64)
    gradients = carry_gradients(LSTM, params, xs, last)
    middle, _ = jaxrnn.unroll(LSTM, params, xs[:2])
    for k in range(H):
        ends = [
            last(*jaxrnn.unroll(LSTM, params, xs[2:], middle._replace(c=middle.c.at[k].add(d))))
            for d in (1e-5, -1e-5)
        ]
        np.testing.assert_allclose(gradients.c[2, k], (ends[0] - ends[1]) / 2e-5, rtol=1e-6)


def test_each_sequence_of_a_batch_has_its_own_norms():
    params = init(GRU)
    xs = jax.random.normal(jax.random.key(5), (6, 2, INPUTS), jnp.float64)
    norms = carry_gradient_norms(GRU, params, xs, last).whole
    for b in range(2):
        np.testing.assert_allclose(
            norms[:, b], carry_gradient_norms(GRU, params, xs[:, b], last).whole, rtol=1e-10
        )
    assert np.max(np.abs(norms[0, 0] - norms[0, 1])) > 1e-3


def test_a_field_that_is_a_matrix_has_the_norm_of_all_its_numbers():
    cell = MLSTMCell(4, heads=2)
    params = cell.init(KEY, INPUTS, jnp.float64)
    xs = jax.random.normal(KEY, (6, 3, INPUTS))

    def loss(carry, ys):
        return jnp.sum(ys**2)

    slopes = diagnostics.carry_gradients(cell, params, xs, loss)
    norms = diagnostics.carry_gradient_norms(cell, params, xs, loss)
    for slope, norm in zip(slopes, norms.fields, strict=True):
        flat = np.asarray(slope).reshape(7, 3, -1)
        np.testing.assert_allclose(norm, np.linalg.norm(flat, axis=-1), rtol=1e-12)
    assert norms.whole.shape == (7, 3) and np.all(norms.whole[1:-1] > 0)


def test_a_given_initial_carry_is_where_the_sequence_starts():
    params = init(GRU)
    xs = jax.random.normal(jax.random.key(5), (6, INPUTS), jnp.float64)
    middle, _ = jaxrnn.unroll(GRU, params, xs[:3])
    whole = carry_gradient_norms(GRU, params, xs, last).whole[3:]
    np.testing.assert_allclose(
        carry_gradient_norms(GRU, params, xs[3:], last, middle).whole, whole, rtol=1e-10
    )
    np.testing.assert_allclose(
        carry_jacobians(GRU, params, xs[3:], middle),
        carry_jacobians(GRU, params, xs)[3:],
        rtol=1e-10,
    )


def test_an_unknown_field_is_an_error_that_names_the_fields():
    with pytest.raises(ValueError, match="no field 'x'; its fields are h, c"):
        carry_jacobian_norms(LSTM, init(LSTM), steps(), field="x")
