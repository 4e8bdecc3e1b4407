"""Mackey-Glass: predict a chaotic series some steps ahead."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.tasks.scores import SquaredError
from experiments.tasks.task import Batch, Levels, Task, check_options

State = Any  # an array of NumPy or of JAX

TAU = 17  # the delay, in steps of 1
# of 2,000 series of 30,000 steps in float64, without their first 1,000
MEAN = 0.9285
DEVIATION = 0.2281
WARM_UP = 100  # steps from a disturbed start, within which it is on the attractor again
WASHOUT = 20  # steps that are not scored; the next one is known from the last TAU + 1


@dataclasses.dataclass(frozen=True)
class MackeyGlass(Task):
    """The delay equation dx/dt = 0.2 x(t - 17) / (1 + x(t - 17)^10) - 0.1 x(t),
    at steps of 1, standardised.

    Its steps are those of the classic Runge-Kutta method, with the delayed term constant within
    each. Each series starts on the attractor, at a random place of long ones, disturbed by a little
    noise, and runs on for a while before it is seen. Every step but the first 20 is asked for the
    value `horizon` steps later.

    Baselines: about 1 for the best constant, 0, because the series is standardised (with constants
    measured to four digits); the mean square of how far it moves within `horizon` steps, measured
    on the long series, for one who repeats the last value.

    Args:
        lag: T, the length of the sequence.
        horizon: how many steps ahead.

    Source: Mackey & Glass 1977, "Oscillation and chaos in physiological control systems".
    """

    lag: int = 100
    horizon: int = 6
    description: ClassVar[str] = "a chaotic series with a delay of 17 steps, by default 6 ahead"
    least_lag: ClassVar[int] = WASHOUT + 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self, horizon=(1, 500))

    @property
    def score(self) -> SquaredError:
        return SquaredError(within=0.1)

    @property
    def levels(self) -> Levels:
        x = series()
        ahead = np.mean((x[self.horizon :] - x[: -self.horizon]) ** 2) / DEVIATION**2
        return Levels(
            1.0, solved=0.01, partial=float(ahead), partial_label="the last value repeated"
        )

    def sample(self, key: Array, batch_size: int) -> Batch:
        """Draws series: inputs [lag, B, 1], targets [lag, B, 1]."""
        key_t, key_b, key_n = jax.random.split(key, 3)
        x = jnp.asarray(series(), jnp.float32)
        first = jax.random.randint(key_t, (batch_size,), 0, x.shape[0] - TAU)
        which = jax.random.randint(key_b, (batch_size,), 0, x.shape[1])
        past = x[first + jnp.arange(TAU + 1)[:, None], which]
        past = past + 0.02 * jax.random.normal(key_n, past.shape)

        def step(past: Array, _: None) -> tuple[Array, Array]:
            new = follow(past[0], past[-1])
            return jnp.concatenate([past[1:], new[None]]), new

        _, values = jax.lax.scan(step, past, length=WARM_UP + self.lag + self.horizon)
        values = ((values - MEAN) / DEVIATION)[WARM_UP:, :, None]
        scored = jnp.broadcast_to(jnp.arange(self.lag)[:, None] >= WASHOUT, (self.lag, batch_size))
        return Batch(values[: self.lag], values[self.horizon :], scored=scored)


def follow(delayed: State, x: State) -> State:
    """The value one step after x, given the one TAU steps before x."""
    gain = 0.2 * delayed / (1 + delayed**10)
    return runge_kutta(lambda x: gain - 0.1 * x, x, 1.0)


def runge_kutta(slope: Callable[[State], State], x: State, h: float) -> State:
    """One step of the classic method, of fourth order, for dx/dt = slope(x)."""
    k1 = slope(x)
    k2 = slope(x + h / 2 * k1)
    k3 = slope(x + h / 2 * k2)
    k4 = slope(x + h * k3)
    return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


@functools.cache
def series() -> np.ndarray:
    """Long ones on the attractor, from which the starts are drawn, [1000, 256]."""
    x = list(np.full((TAU + 1, 1), 1.0) * np.random.default_rng(0).uniform(0.4, 1.4, 256))
    # after 2,000, the mean over the series no longer swings with the common start
    for _ in range(3000):
        x.append(follow(x[-1 - TAU], x[-1]))
    return np.stack(x[-1000:])
