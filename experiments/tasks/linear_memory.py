"""Linear memory: give back each of the last values of a random signal, all at once."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from experiments.tasks.scores import SquaredError
from experiments.tasks.task import Batch, Levels, Task


@dataclasses.dataclass(frozen=True)
class Capacity(SquaredError):
    """As `SquaredError`; the metric is the memory capacity over the number of delays.

    That is the mean over the outputs of their squared correlation with their targets, over all
    scored steps of the batch.
    """

    @property
    def label(self) -> str:
        return "memory capacity over lag"

    def metric(self, outputs: Array, batch: Batch) -> Array:
        assert batch.scored is not None
        where = batch.scored[..., None]
        axes = (0, 1)

        def centred(a: Array) -> Array:
            return a - jnp.mean(a, axes, where=where)

        y = centred(outputs)
        d = centred(batch.targets)
        both = jnp.mean(y * d, axes, where=where) ** 2
        variances = jnp.mean(y * y, axes, where=where) * jnp.mean(d * d, axes, where=where)
        # an output that never changes knows nothing
        return jnp.mean(both / jnp.where(variances > 0, variances, 1.0))


@dataclasses.dataclass(frozen=True)
class LinearMemory(Task):
    """A signal u(t) of independent U[-0.5, 0.5]; output k of lag is asked for u(t - k),
    at every step from `lag` on.

    Baselines: Var(u) = 1/12 for the best constant, 0. A network of N linear units has a capacity of
    at most N.

    Args:
        lag: the number of delays, and the longest; the sequence has 4 lag steps.

    Source: Jaeger 2001, "Short term memory in echo state networks". Differs: the readout learns by
    gradients.
    """

    lag: int = 20
    description: ClassVar[str] = "each of the last lag values of a random signal"
    sized_by_lag: ClassVar[bool] = True

    @property
    def score(self) -> Capacity:
        return Capacity(self.lag, within=0.04)

    @property
    def levels(self) -> Levels:
        return Levels(1 / 12, solved=1 / 240)

    def sample(self, key: Array, batch_size: int) -> Batch:
        """Draws sequences: inputs [4 lag, B, 1], targets [4 lag, B, lag],
        zero before the first step that is scored.
        """
        t = jnp.arange(4 * self.lag)
        u = jax.random.uniform(key, (4 * self.lag, batch_size), minval=-0.5, maxval=0.5)
        # wraps round where nothing is scored
        delayed = jnp.moveaxis(u[t[:, None] - jnp.arange(1, self.lag + 1)], 1, 2)
        scored = jnp.broadcast_to(t[:, None] >= self.lag, u.shape)
        return Batch(u[..., None], jnp.where(scored[..., None], delayed, 0.0), scored=scored)
