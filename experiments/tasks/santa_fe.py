"""Santa Fe: predict the intensity of a chaotic laser."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.tasks import data
from experiments.tasks.scores import SquaredError
from experiments.tasks.task import Batch, Levels, Task, check_options

TRAINING = 7000  # values of the 10,093
HELD_OUT = 1000  # behind them
WASHOUT = 20  # steps that are not scored: about two and a half of the oscillations


@dataclasses.dataclass(frozen=True)
class SantaFe(Task):
    """The laser of the Santa Fe competition, standardised by its first 7,000 values.

    Training draws windows of `lag` steps at random places of these; it is checked on the whole
    windows of the next 1,000, and the evaluation is those that the rest holds, each of which begins
    20 steps before the last one ends, so that no value is scored twice. Every step of a window but
    the first 20 is asked for the value `horizon` steps later.

    Baselines: the variance of the scored values over all windows of the training part, where those
    near its ends are in fewer of them than others; the best constant is their mean.

    Args:
        lag: T, the length of the window.
        horizon: how many steps ahead.

    Source: Weigend & Gershenfeld 1994, "Time series prediction", data set A with its continuation.
    """

    lag: int = 100
    horizon: int = 1
    description: ClassVar[str] = "the intensity of a chaotic laser, by default one step ahead"
    least_lag: ClassVar[int] = WASHOUT + 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self, lag=(WASHOUT + 1, 500), horizon=(1, 500))

    @property
    def score(self) -> SquaredError:
        return SquaredError(within=0.1)

    @property
    def levels(self) -> Levels:
        return Levels(self.moments()[1], solved=0.02)

    @property
    def constant(self) -> Array:
        return jnp.full(1, self.moments()[0])

    def moments(self) -> tuple[float, float]:
        """Mean and variance of the scored values over all windows of the training part."""
        starts = np.arange(TRAINING - self.lag - self.horizon + 1)
        scored = standardised()[starts[:, None] + np.arange(WASHOUT, self.lag) + self.horizon]
        return float(scored.mean()), float(scored.var())

    def sample(self, key: Array, batch_size: int) -> Batch:
        """Draws windows: inputs [lag, B, 1], targets [lag, B, 1]."""
        return self.windows(
            jax.random.randint(key, (batch_size,), 0, TRAINING - self.lag - self.horizon + 1)
        )

    def held_out(self) -> Batch:
        return self.whole(TRAINING, TRAINING + HELD_OUT)

    def evaluation(self) -> Batch:
        """The windows of the part that is kept for it."""
        return self.whole(TRAINING + HELD_OUT, len(standardised()))

    def whole(self, begin: int, end: int) -> Batch:
        """All windows between two values, of which each is scored once."""
        last = end - self.lag - self.horizon
        return self.windows(jnp.arange(begin, last + 1, self.lag - WASHOUT))

    def windows(self, starts: Array) -> Batch:
        """The windows that begin there, [B]."""
        values = jnp.asarray(standardised(), jnp.float32)
        steps = starts + jnp.arange(self.lag)[:, None]
        scored = jnp.broadcast_to(jnp.arange(self.lag)[:, None] >= WASHOUT, steps.shape)
        return Batch(
            values[steps][..., None], values[steps + self.horizon][..., None], scored=scored
        )


def standardised() -> np.ndarray:
    """The series, [10093], with mean 0 and variance 1 in the training part."""
    values = data.santa_fe()
    return (values - values[:TRAINING].mean()) / values[:TRAINING].std()
