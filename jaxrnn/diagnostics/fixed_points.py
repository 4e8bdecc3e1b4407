"""Where a network stands still: the fixed and the slow points of its state."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxrnn.cell import Array, Carry, Cell, Params
from jaxrnn.checks import check_number, check_size
from jaxrnn.diagnostics.given import checked, projected

FIRST_DAMPING = 1e-2
MOST_DAMPING = 1e8
LEAST_DAMPING = 1e-10


class FixedPoints(NamedTuple):
    """What `fixed_points` found, P points, the slowest first."""

    points: Carry  # [P, ...] of each leaf
    speeds: np.ndarray  # [P], 1/2 |F(s) - s|^2
    eigenvalues: np.ndarray  # [P, S], complex, of dF / ds, the largest first
    counts: np.ndarray  # [P], how many starts came there

    @property
    def stable(self) -> np.ndarray:
        """[P] booleans: whether a small difference from the point shrinks in every direction."""
        return abs(self.eigenvalues[:, 0]) < 1

    @property
    def unstable_directions(self) -> np.ndarray:
        """[P]: in how many directions a small difference grows."""
        return (abs(self.eigenvalues) > 1).sum(-1)


class _Search(NamedTuple):
    steps: Array
    state: Array  # [S]
    speed: Array
    damping: Array


def fixed_points(
    cell: Cell,
    params: Params,
    x: Array,
    starts: Carry,
    *,
    speed: float = 1e-8,
    distance: float = 1e-2,
    iterations: int = 200,
) -> FixedPoints:
    """States that a constant input leaves where they are, or almost so.

    The speed q(s) = 1/2 |F(s) - s|^2, where F is one step, is minimised from all starts at once, by
    damped Gauss-Newton steps. A minimum of speed 0 is a fixed point; one above it is a slow point,
    which trajectories pass by. Of points that lie next to each other one is kept: along a
    line or a ring of fixed points they stay `distance` apart.

    Args:
        cell: the cell; a stack too.
        params: its parameters.
        x: [I], the input of every step.
        starts: carries with a leading axis, such as those that trained trajectories visited, with
            some noise.
        speed: the most that a point may have.
        distance: Euclidean, within which two points count as one.
        iterations: the most steps for each start.

    Returns:
        `FixedPoints`, NumPy arrays beside the carry. None may be found: P is 0 then.

    Raises:
        TypeError, ValueError: as `unroll`; starts that are no carries with one leading axis.

    Source: Sussillo and Barak 2013, doi:10.1162/NECO_a_00409.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> from jaxrnn.diagnostics import fixed_points
        >>> # one unit that excites itself: both ends are stable, the middle is not
        >>> cell = jaxrnn.RNNCell(hidden_size=1)
        >>> params = cell.init(jax.random.key(0), input_size=1)
        >>> params = params._replace(w_h=jnp.full((1, 1, 1), 2.0))
        >>> starts = jaxrnn.cells.RNNCarry(h=jnp.linspace(-1, 1, 21)[:, None])
        >>> found = fixed_points(cell, params, jnp.zeros(1), starts)
        >>> len(found.speeds), int(found.stable.sum())
        (3, 2)
    """
    for name, value in (("speed", speed), ("distance", distance)):
        check_number(name, value, above=0)
    check_size("iterations", iterations)
    x = jnp.asarray(x)
    one, flat = _flattened(starts)
    cell, params, xs, first = checked(cell, params, x[None], one)
    params, us = projected(cell, params, xs)
    u = jax.tree.map(lambda a: a[0], us)
    _, unravel = ravel_pytree(first)

    def moved(state: Array) -> Array:
        return ravel_pytree(cell.step(params, unravel(state), u)[0])[0]

    flat = flat.astype(ravel_pytree(first)[0].dtype)
    search = jax.vmap(functools.partial(_minimised, moved, iterations))
    _, states, speeds, _ = jax.device_get(search(flat))
    kept, counts = _distinct(states, speeds, speed, distance)
    jacobians = np.asarray(jax.vmap(jax.jacfwd(moved))(jnp.asarray(states[kept])))
    values = np.linalg.eigvals(jacobians)
    order = np.argsort(-abs(values), axis=-1)
    return FixedPoints(
        points=jax.tree.map(np.asarray, jax.vmap(unravel)(jnp.asarray(states[kept]))),
        speeds=speeds[kept],
        eigenvalues=np.take_along_axis(values.astype(np.complex128), order, axis=-1),
        counts=counts,
    )


def _flattened(starts: Carry) -> tuple[Carry, Array]:
    """The first of the starts, and all of them as rows."""
    leaves = jax.tree.leaves(starts)
    sizes = {jnp.shape(leaf)[:1] for leaf in leaves}
    if len(sizes) != 1 or sizes == {()} or sizes == {(0,)}:
        raise ValueError(
            "starts must be carries with one leading axis, got leaves of shapes "
            f"{[jnp.shape(leaf) for leaf in leaves]}."
        )
    starts = jax.tree.map(jnp.asarray, starts)
    one = jax.tree.map(lambda leaf: leaf[0], starts)
    return one, jax.vmap(lambda start: ravel_pytree(start)[0])(starts)


def _minimised(moved: Callable[[Array], Array], iterations: int, state: Array) -> _Search:
    """Levenberg and Marquardt's steps from one start, until no step makes it slower."""
    identity = jnp.eye(state.shape[0], dtype=state.dtype)

    def speed_at(state: Array) -> Array:
        return jnp.sum((moved(state) - state) ** 2) / 2

    def goes_on(now: _Search) -> Array:
        rounding = (jnp.finfo(state.dtype).eps * (1 + jnp.linalg.norm(now.state))) ** 2
        return (now.steps < iterations) & (now.damping < MOST_DAMPING) & (now.speed > rounding)

    def better(now: _Search) -> _Search:
        residual = moved(now.state) - now.state
        jacobian = jax.jacfwd(moved)(now.state) - identity
        normal = jacobian.T @ jacobian + now.damping * identity
        tried = now.state - jnp.linalg.solve(normal, jacobian.T @ residual)
        speed = speed_at(tried)
        slower = speed < now.speed  # False where it is not finite
        damping = jnp.where(slower, now.damping / 4, now.damping * 4)
        return _Search(
            steps=now.steps + 1,
            state=jnp.where(slower, tried, now.state),
            speed=jnp.where(slower, speed, now.speed),
            damping=jnp.clip(damping, LEAST_DAMPING, MOST_DAMPING),
        )

    damping = jnp.full((), FIRST_DAMPING, state.dtype)
    first = _Search(jnp.zeros((), jnp.int32), state, speed_at(state), damping)
    return jax.lax.while_loop(goes_on, better, first)


def _distinct(
    states: np.ndarray, speeds: np.ndarray, speed: float, distance: float
) -> tuple[list[int], np.ndarray]:
    """Which states are kept, the slowest first, and how many others each stands for."""
    kept: list[int] = []
    counts: list[int] = []
    for k in np.argsort(speeds, kind="stable"):
        if not speeds[k] <= speed:
            break
        near = np.linalg.norm(states[kept] - states[k], axis=-1) <= distance
        if near.any():
            counts[int(near.argmax())] += 1
        else:
            kept.append(int(k))
            counts.append(1)
    return kept, np.array(counts, int)
