"""Models of neurons: what they are related to, their noise, their constraints, what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.cells import LeakyRNNCell, LowRankRNNCell, RNNParams
from jaxrnn.interop import cell_config
from jaxrnn.interop.strict_json import FileFormatError
from jaxrnn.wrappers import DaleLaw, DropConnect, Mask, Sparse

pytestmark = pytest.mark.usefixtures("quick_compilation")
KEY = jax.random.key(3)
XS = jax.random.normal(jax.random.key(4), (20, 3, 5))


def test_with_nothing_left_of_the_old_state_rates_are_those_of_an_elman_network():
    cell = LeakyRNNCell(6, "tanh", tau=10.0, dt=10.0, state="rates")
    params = cell.init(KEY, 5)
    both = [jaxrnn.unroll(c, params, XS)[1] for c in (cell, jaxrnn.RNNCell(6))]
    np.testing.assert_allclose(*both, atol=1e-6)


def test_a_low_rank_network_is_the_leaky_one_with_that_matrix():
    cell = LowRankRNNCell(6, rank=2, tau=3.0, dt=1.0)
    params = cell.init(KEY, 5)
    full = RNNParams(params.w_x[:, None], (params.w_n @ params.w_m / 6)[:, None], None)
    dense = LeakyRNNCell(6, "tanh", tau=3.0, dt=1.0, bias=False)
    both = [jaxrnn.unroll(c, p, XS)[1] for c, p in ((cell, params), (dense, full))]
    np.testing.assert_allclose(*both, atol=1e-6)


@pytest.mark.parametrize("dt", [2.0, 10.0])
def test_noise_alone_moves_the_potentials_as_far_as_is_said(dt):
    cell = LeakyRNNCell(8, tau=10.0, dt=dt, noise_std=0.3, output="potentials")
    params = jax.tree.map(jnp.zeros_like, cell.init(KEY, 1))
    xs = jnp.zeros((2000, 16, 1))
    still, moved = (
        jaxrnn.unroll(cell, params, xs, noise=noise)[1]
        for noise in (None, cell.noise(KEY, 2000, xs[0]))
    )
    assert not still.any()
    np.testing.assert_allclose(moved[100:].std(), 0.3 * np.sqrt(2 / (2 - dt / 10)), rtol=0.03)


def test_units_keep_their_sign_while_they_are_trained_and_balance_at_first():
    cell = DaleLaw(LeakyRNNCell(20, tau=2.0, dt=1.0), excitatory=0.75)
    params = cell.init(KEY, 5)
    first = cell.prepare(params).w_h[:, 0]
    np.testing.assert_allclose(first.sum(), 0, atol=0.15 * abs(first).sum())

    @jax.jit
    def update(params):
        grads = jax.grad(lambda p: ((jaxrnn.unroll(cell, p, XS)[1] - 1) ** 2).mean())(params)
        return jax.tree.map(lambda p, g: p - g, params, grads)

    for _ in range(20):
        params = update(params)
    w_h = cell.prepare(params).w_h[:, 0]
    assert (w_h[:15] >= 0).all() and (w_h[15:] <= 0).all() and abs(w_h - first).max() > 0.05


def test_what_is_not_connected_has_no_gradient_and_no_part_in_the_result():
    mask = np.random.default_rng(0).random((6, 6)) < 0.4
    cell = Sparse(jaxrnn.GRUCell(6), mask, self_connections=False)
    keep = (mask & ~np.eye(6, dtype=bool)).astype(np.float32)[:, None]
    params = cell.init(KEY, 5)
    grads = jax.grad(lambda p: jaxrnn.unroll(cell, p, XS)[1].sum())(params)
    np.testing.assert_array_equal(np.asarray(grads.w_h) != 0, np.broadcast_to(keep > 0, (6, 3, 6)))
    dense = params._replace(w_h=params.w_h * keep)
    both = [jaxrnn.unroll(c, p, XS)[1] for c, p in ((cell, params), (jaxrnn.GRUCell(6), dense))]
    np.testing.assert_allclose(*both, atol=1e-6)


def test_constraints_go_together_and_with_dropped_weights():
    ring = np.roll(np.eye(10), 1, axis=1)
    cell = DropConnect(DaleLaw(Sparse(LeakyRNNCell(10), ring), 0.5), 0.5)
    params = cell.init(KEY, 5)
    w_h = cell.prepare(params).w_h[:, 0]
    np.testing.assert_array_equal(np.sign(w_h), ring * np.repeat([1, -1], 5)[:, None])
    carry, _ = jaxrnn.unroll(cell, params, XS, noise=cell.noise(KEY, 20, XS[0]))
    assert jnp.isfinite(carry.h).all()


def test_a_mask_is_a_plain_value_that_can_be_saved():
    mask = np.random.default_rng(1).random((7, 7)) < 0.5
    cell = Sparse(LeakyRNNCell(7), mask)
    np.testing.assert_array_equal(cell.mask.array(), mask)
    assert cell == Sparse(LeakyRNNCell(7), mask.astype(int)) == Sparse(LeakyRNNCell(7), cell.mask)
    config = cell_config.encode(cell)
    assert cell_config.decode(config, cell_config.CLASSES) == cell
    config["mask"]["bits"] = "zz" + config["mask"]["bits"][2:]
    with pytest.raises(FileFormatError, match="14 hexadecimal digits for 7 units"):
        cell_config.decode(config, cell_config.CLASSES)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: LeakyRNNCell(3, dt=200.0), "dt=200 must be at most tau=100"),
        (lambda: LeakyRNNCell(3, tau=0.0), "tau must be a number above 0, got 0.0"),
        (lambda: LeakyRNNCell(3, noise_std=-1), "noise_std must be a number at least 0, got -1"),
        (lambda: LeakyRNNCell(3, output="rate"), "output must be 'rates' or 'potentials'"),
        (lambda: LeakyRNNCell(3, state="rate"), "state must be 'rates' or 'potentials'"),
        (lambda: LeakyRNNCell(3, state="rates", output="potentials"), "has no potentials to give"),
        (lambda: LowRankRNNCell(3, rank=0), "rank must be an integer of at least 1, got 0"),
        (lambda: DaleLaw(LeakyRNNCell(3), 1.0), "share above 0 and below 1, got 1.0"),
        (lambda: DaleLaw(LowRankRNNCell(3)).init(KEY, 2), "needs a kernel w_h .* no such"),
        (lambda: DaleLaw(jaxrnn.cells.IndRNNCell(3)).init(KEY, 2), r"one of shape \(3,\)"),
        (lambda: Sparse(LeakyRNNCell(3), np.ones((3, 2))), r"square .* got shape \(3, 2\)"),
        (lambda: Sparse(LeakyRNNCell(3), 2 * np.eye(3)), "square array of booleans"),
        (
            lambda: Sparse(LeakyRNNCell(3), np.eye(4)).prepare(LeakyRNNCell(3).init(KEY, 2)),
            "mask is of 4 units, w_h of 3",
        ),
        (lambda: Mask(3, "00"), "4 hexadecimal digits for 3 units"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
