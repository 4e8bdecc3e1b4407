"""Fixed points of networks whose fixed points are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.cells import GRUCarry, LeakyRNNCell, LowRankRNNCell, LSTMCarry, RNNCarry, RNNParams
from jaxrnn.diagnostics import fixed_points

KEY = jax.random.key(0)


def tanh_network(weights):
    """A tanh RNN of these weights [from, to] without inputs, in float64."""
    weights = jnp.asarray(weights, jnp.float64)
    H = weights.shape[0]
    params = RNNParams(jnp.zeros((1, 1, H), jnp.float64), weights[:, None], jnp.zeros(H))
    return jaxrnn.RNNCell(H), jax.tree.map(lambda a: a.astype(jnp.float64), params)


def starts(H, many=64):
    return RNNCarry(h=jax.random.uniform(KEY, (many, H), jnp.float64, -1, 1))


@pytest.mark.parametrize("gain, count", [(0.8, 1), (2.0, 3)])
def test_one_unit_is_bistable_where_its_gain_is_above_1(gain, count, x64):
    cell, params = tanh_network([[gain]])
    found = fixed_points(cell, params, jnp.zeros(1), starts(1))
    ends = sorted(found.points.h[:, 0])
    assert len(ends) == count and found.counts.sum() == 64
    for h, value in zip(found.points.h[:, 0], found.eigenvalues[:, 0], strict=True):
        np.testing.assert_allclose(np.tanh(gain * h), h, atol=1e-7)
        np.testing.assert_allclose(value, gain * (1 - h**2), atol=1e-6)
    assert sum(found.stable) == max(1, count - 1)


def test_two_units_that_inhibit_each_other_choose_one(x64):
    cell, params = tanh_network([[1.2, -0.6], [-0.6, 1.2]])
    found = fixed_points(cell, params, jnp.zeros(1), starts(2))
    stable = found.points.h[found.stable]
    np.testing.assert_allclose(stable.sum(-1), 0, atol=1e-6)  # (h, -h) and (-h, h)
    assert len(stable) == 2 and abs(stable).min() > 0.5
    (middle,) = np.flatnonzero(abs(found.points.h).max(-1) < 1e-6)
    np.testing.assert_allclose(sorted(found.eigenvalues[middle].real), [0.6, 1.8], atol=1e-6)
    assert found.unstable_directions[middle] == 1


def test_a_ring_of_fixed_points_is_found_all_around_and_thinned_out(x64):
    # two vectors at right angles, all of whose mixtures are kept as large by the nonlinearity
    H = 40
    angles = 2 * np.pi * np.arange(H) / H
    around = np.stack([np.cos(angles), np.sin(angles)], 1)
    cell = LowRankRNNCell(H, rank=2, tau=1.0, dt=1.0, output="potentials")
    params = cell.init(KEY, 1, jnp.float64)
    params = params._replace(w_n=jnp.asarray(around), w_m=jnp.asarray(4 * around.T))
    turned = 2 * np.pi * np.random.default_rng(0).random(60)
    first = 1.5 * np.stack([np.cos(turned), np.sin(turned)], 1) @ around.T
    found = fixed_points(cell, params, jnp.zeros(1), RNNCarry(h=jnp.asarray(first)), distance=1.0)
    radii = np.linalg.norm(found.points.h @ around / H * 2, axis=-1)
    np.testing.assert_allclose(radii, radii.mean(), rtol=1e-6)
    assert 10 < len(radii) < 60
    np.testing.assert_allclose(abs(found.eigenvalues[:, 0]), 1, atol=1e-5)  # along the ring
    assert (abs(found.eigenvalues[:, 1]) < 0.9).all()


def test_a_line_of_fixed_points_has_an_eigenvalue_of_1(x64):
    cell = LeakyRNNCell(3, "linear", tau=2.0, dt=1.0, output="potentials", bias=False)
    direction = np.array([1.0, 2.0, -1.0]) / np.sqrt(6)
    params = cell.init(KEY, 1, jnp.float64)
    params = params._replace(w_h=jnp.asarray(np.outer(direction, direction))[:, None])
    found = fixed_points(cell, params, jnp.zeros(1), starts(3), distance=0.05)
    across = found.points.h - np.outer(found.points.h @ direction, direction)
    assert abs(across).max() < 1e-3 and len(found.speeds) > 10
    np.testing.assert_allclose(found.eigenvalues[:, 0], 1, atol=1e-9)
    np.testing.assert_allclose(found.eigenvalues[:, 1:], 0.5, atol=1e-9)


def test_a_point_that_is_only_slow_is_told_from_a_fixed_one_by_its_speed(x64):
    # a bias at which the curves h and tanh(1.5 h + b) no longer touch, on one side
    cell, params = tanh_network([[1.5]])
    touching = np.arccosh(np.sqrt(1.5))  # where the slope of tanh(1.5 h + b) is 1
    edge = 1.5 * np.tanh(touching) - touching
    params = params._replace(b=jnp.array([edge + 0.01], jnp.float64))
    every = fixed_points(cell, params, jnp.zeros(1), starts(1), speed=1e-3)
    fixed = fixed_points(cell, params, jnp.zeros(1), starts(1))
    assert len(fixed.speeds) == 1 and fixed.speeds[0] < 1e-20 and fixed.points.h[0, 0] > 0.8
    assert len(every.speeds) == 2 and 1e-6 < every.speeds[1] < 1e-3
    np.testing.assert_allclose(every.points.h[1, 0], -np.tanh(touching), atol=0.02)


@pytest.mark.parametrize("cell", [jaxrnn.GRUCell(5), jaxrnn.LSTMCell(5)])
def test_every_point_of_a_gated_cell_stands_still_with_its_input(cell):
    params = cell.init(KEY, 2)
    params = params._replace(w_h=3 * params.w_h)
    x = jnp.array([0.3, -0.7])
    h = jax.random.uniform(KEY, (100, 5), minval=-1)
    carries = GRUCarry(h=h) if isinstance(cell, jaxrnn.GRUCell) else LSTMCarry(h=h, c=2 * h)
    found = fixed_points(cell, params, x, carries)
    assert len(found.speeds) >= 1
    for k, stable in enumerate(found.stable):
        point = jax.tree.map(lambda a, k=k: jnp.asarray(a[k]), found.points)
        after, _ = jaxrnn.unroll(cell, params, jnp.tile(x, (1, 1)), point)
        for a, b in zip(after, point, strict=True):
            np.testing.assert_allclose(a, b, atol=3e-4)
        off = jax.tree.map(lambda a: a + 1e-3, point)
        later, _ = jaxrnn.unroll(cell, params, jnp.tile(x, (400, 1)), off)
        if stable and abs(found.eigenvalues[k, 0]) < 0.97:
            np.testing.assert_allclose(later.h, point.h, atol=1e-3)


def test_a_stack_has_fixed_points_too():
    stack = jaxrnn.Stack((jaxrnn.RNNCell(3), jaxrnn.GRUCell(2)))
    params = stack.init(KEY, 2)
    carries = jax.vmap(
        lambda s: jax.tree.map(lambda a: a + s, jaxrnn.initial_carry(stack, params))
    )(jnp.linspace(-1, 1, 9))
    found = fixed_points(stack, params, jnp.ones(2), carries)
    assert len(found.speeds) >= 1 and found.eigenvalues.shape[1] == 5


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"speed": 0.0}, ValueError, "speed must be a finite number above 0"),
        ({"distance": -1.0}, ValueError, "distance must be a finite number above 0"),
        ({"iterations": 0}, ValueError, "iterations must be an integer of at least 1"),
        ({"starts": RNNCarry(h=jnp.zeros(()))}, ValueError, "one leading axis"),
        ({"starts": RNNCarry(h=jnp.zeros((0, 3)))}, ValueError, "one leading axis"),
        ({"starts": RNNCarry(h=jnp.zeros((4, 2)))}, ValueError, "carry"),
        ({"x": jnp.zeros(3)}, ValueError, "features"),
    ],
)
def test_what_cannot_be_is_refused(change, error, message):
    cell = jaxrnn.RNNCell(3)
    given = {"x": jnp.zeros(2), "starts": RNNCarry(h=jnp.zeros((4, 3)))} | change
    with pytest.raises(error, match=message):
        fixed_points(cell, cell.init(KEY, 2), **given)
