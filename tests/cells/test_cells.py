"""Cells: one step against the papers' equations, unbatched and batched,
and the options that are refused.
"""

import dataclasses
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import BUILT_IN, EVERY, assert_close, inputs, parameters, randomised

import jaxrnn
from jaxrnn.cells import GRUCarry, GRUParams, GRUResetBeforeCell, LSTMPCell, MLSTMCell

pytestmark = pytest.mark.usefixtures("quick_compilation", "x64")


@pytest.mark.parametrize("name, cell, oracle", BUILT_IN, ids=[name for name, _, _ in BUILT_IN])
def test_one_step_equals_the_papers_equations(name, cell, oracle):
    p, x = parameters(cell), inputs(cell, 1, (2,))[0]
    carry = randomised(oracle.first(p, x.shape))
    assert_close(cell(p, carry, x), oracle.step(p, carry, x, None))


def test_an_update_gate_of_one_keeps_the_old_state():
    cell = jaxrnn.GRUCell(4)
    p = parameters(cell)
    p.b[4:8] = 50.0  # sigmoid(50) is 1 to 1e-21
    h = np.ones(4)
    assert_close(cell(p, GRUCarry(h), np.ones(3))[0].h, h)


def test_the_two_grus_differ_where_the_reset_gate_is_not_one():
    p = parameters(GRUResetBeforeCell(4))
    after = GRUParams(*p, b_hn=np.zeros(4))
    carry, x = GRUCarry(np.ones(4)), np.ones(3)
    difference = jaxrnn.GRUCell(4)(after, carry, x)[1] - GRUResetBeforeCell(4)(p, carry, x)[1]
    assert np.abs(difference).max() > 1e-3


def test_a_matrix_lstm_takes_no_rows_and_gates_that_are_far_below_zero():
    cell = MLSTMCell(8, 2)
    p = cell.init(jax.random.key(0), 3)
    assert jaxrnn.unroll(cell, p, jnp.zeros((5, 0, 3), jnp.float32))[1].shape == (5, 0, 8)
    p = p._replace(b_g=jnp.full(4, -200.0, jnp.float32))

    def loss(p, xs):
        return jnp.sum(jaxrnn.unroll(cell, p, xs)[1])

    slopes = jax.grad(loss, (0, 1))(p, jnp.ones((5, 2, 3), jnp.float32))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))


@pytest.mark.parametrize("name, cell, oracle", EVERY, ids=[name for name, _, _ in EVERY])
def test_a_cell_survives_pickle_and_hashes_alike(name, cell, oracle):
    again = pickle.loads(pickle.dumps(cell))
    assert again == cell and hash(again) == hash(cell)


@pytest.mark.parametrize(
    "make", [jaxrnn.RNNCell, jaxrnn.LSTMCell, jaxrnn.GRUCell, GRUResetBeforeCell]
)
@pytest.mark.parametrize("size", [0, -1, 2.0, True, None])
def test_a_hidden_size_that_is_no_positive_integer_is_refused(make, size):
    with pytest.raises(ValueError, match="hidden_size must be an integer of at least 1"):
        make(size)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: jaxrnn.RNNCell(3, "tan"), "nonlinearity='tan' is unknown. Did you mean 'tanh'"),
        (
            lambda: jaxrnn.LSTMCell(3, init_scheme="keras"),
            "init_scheme must be 'jaxrnn' or 'torch', got 'keras'",
        ),
        (
            lambda: jaxrnn.LSTMCell(3, bias=False, forget_bias=jaxrnn.Chrono(9)),
            r"forget_bias=Chrono\(...\) needs bias=True",
        ),
        (lambda: LSTMPCell(3, 3), "proj_size=3 must be below hidden_size=3"),
        (
            lambda: jaxrnn.GRUCell(3).init(jax.random.key(0), 0),
            "input_size must be an integer of at least 1, got 0",
        ),
    ],
)
def test_an_option_that_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_cell_without_its_methods_says_which_one_is_missing():
    @dataclasses.dataclass(frozen=True)
    class Empty(jaxrnn.Cell):
        pass

    with pytest.raises(
        NotImplementedError, match=r"Empty does not define init\(key, input_size, dtype\)"
    ):
        Empty().init(jax.random.key(0), 3)


def test_one_step_checks_its_carry_and_starts_without_one():
    cell = jaxrnn.GRUCell(4)
    params = cell.init(jax.random.key(0), 3)
    x = np.ones((7, 3), np.float32)
    with pytest.raises(ValueError, match=r"carry\.h has shape \(2, 7, 4\), expected \(7, 4\)"):
        cell(params, GRUCarry(np.zeros((2, 7, 4), np.float32)), x)
    with pytest.raises(ValueError, match="carry has structure"):
        cell(params, (np.zeros((7, 4), np.float32),), x)
    first = cell(params, jaxrnn.initial_carry(cell, params, (7,)), x)
    np.testing.assert_array_equal(cell(params, None, x)[1], first[1])


def test_parameters_of_another_cell_are_refused():
    params = jaxrnn.GRUCell(4).init(jax.random.key(0), 3)
    with pytest.raises(
        ValueError, match=r"params have structure .*GRUParams.* but GRUResetBeforeCell"
    ):
        jaxrnn.unroll(GRUResetBeforeCell(4), params, np.ones((5, 2, 3), np.float32))
    with pytest.raises(ValueError, match=r"params\.w_h \(4, 3, 4\), expected \(5, 3, 5\)"):
        jaxrnn.GRUCell(5)(params, None, np.ones((2, 3), np.float32))
