"""Lorenz: predict a chaotic flow some steps ahead."""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.tasks.mackey_glass import State, runge_kutta
from experiments.tasks.scores import SquaredError
from experiments.tasks.task import Batch, Levels, Task, check_options

# Of 4,000 orbits of 1,500 steps in float64, after 500; by the symmetry of the equations, x and y
# have no mean.
MEAN = np.array([0, 0, 23.553], np.float32)
DEVIATION = np.array([7.925, 9.010, 8.619], np.float32)
WARM_UP = 50  # steps from a disturbed start, within which it is on the attractor again
SUBSTEPS = 2  # of 0.015: after 10 steps they are off by 2e-4, single ones of 0.03 by 4e-3


@dataclasses.dataclass(frozen=True)
class Lorenz(Task):
    """The Lorenz equations at steps of 0.03, all three components standardised.

        dx/dt = 10 (y - x)        dy/dt = x (28 - z) - y        dz/dt = x y - 8/3 z

    integrated by the classic Runge-Kutta method. Each orbit starts on the attractor, at a random
    place of long ones, disturbed by a little noise, and runs on for a while before it is seen.
    Every step is asked for the state `horizon` steps later; one step shows the whole state, so that
    there is nothing to remember, but a function to learn.

    Baselines: about 1 for the best constant, 0, because the state is standardised (with constants
    measured to four digits).

    Args:
        lag: T, the length of the sequence.
        horizon: how many steps ahead.

    Source: Lorenz 1963, "Deterministic nonperiodic flow".
    """

    lag: int = 50
    horizon: int = 10
    description: ClassVar[str] = "the three components of a chaotic flow, by default 10 steps ahead"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self, horizon=(1, 500))

    @property
    def score(self) -> SquaredError:
        return SquaredError(3, within=0.1)

    @property
    def levels(self) -> Levels:
        return Levels(1.0, solved=0.01)

    def sample(self, key: Array, batch_size: int) -> Batch:
        """Draws orbits: inputs [lag, B, 3], targets [lag, B, 3]."""
        key_s, key_n = jax.random.split(key)
        starts = jnp.asarray(states(), jnp.float32)
        state = starts[:, jax.random.randint(key_s, (batch_size,), 0, starts.shape[1])]
        state = state + 0.5 * jax.random.normal(key_n, state.shape)

        def step(state: Array, _: None) -> tuple[Array, Array]:
            new = flow(state)
            return new, new

        _, orbit = jax.lax.scan(step, state, length=WARM_UP + self.lag + self.horizon)
        orbit = (jnp.moveaxis(orbit[WARM_UP:], 1, 2) - MEAN) / DEVIATION
        scored = jnp.full((self.lag, batch_size), True)
        return Batch(orbit[: self.lag], orbit[self.horizon :], scored=scored)


def flow(state: State) -> State:
    """The state one step later, [3, ...]."""
    for _ in range(SUBSTEPS):
        state = runge_kutta(slope, state, 0.03 / SUBSTEPS)
    return state


def slope(state: State) -> State:
    x, y, z = state
    parts = [10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z]
    return np.stack(parts) if isinstance(state, np.ndarray) else jnp.stack(parts)


@functools.cache
def states() -> np.ndarray:
    """Many states on the attractor, from which the starts are drawn, [3, 51200]."""
    x = np.random.default_rng(0).normal([[0.0], [0.0], [24.0]], 10.0, (3, 512))
    kept = []
    # orbits leave the neighbourhood of the two unstable points slowly, and the means settle by
    # 1,000
    for t in range(3000):
        x = flow(x)
        if t >= 1000 and t % 20 == 0:
            kept.append(x)
    return np.concatenate(kept, axis=1)
