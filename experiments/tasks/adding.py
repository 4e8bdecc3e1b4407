"""Adding: remember two marked numbers of a long sequence and give their sum at its end."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from experiments.tasks.scores import SquaredError
from experiments.tasks.task import Batch, Levels, Task


@dataclasses.dataclass(frozen=True)
class Adding(Task):
    """The adding problem in the form of the uRNN paper.

    Feature 0 is U[0, 1) at each step. Feature 1 marks one step of the first half and one of the
    second with a 1. The target is the sum of the two marked numbers, the loss the squared error at
    the last step.

    Baselines: Var(u + v) = 2/12 = 1/6 for the best constant, 1; Var(u) = 1/12 for one who knows one
    of the two numbers.

    Args:
        lag: T, the length of the sequence.

    Source: Arjovsky et al. 2016, arXiv:1511.06464, section 4.2 (its code); the problem is
    Experiment 4 of Hochreiter & Schmidhuber 1997, from which the metric is taken: the share of
    sequences with an error below 0.04.
    """

    lag: int = 200
    description: ClassVar[str] = "the sum of two marked numbers in a sequence of length lag"

    @property
    def score(self) -> SquaredError:
        return SquaredError()

    @property
    def levels(self) -> Levels:
        return Levels(
            1 / 6, solved=0.01, partial=1 / 12, partial_label="one of the two numbers known"
        )

    @property
    def constant(self) -> Array:
        return jnp.ones(1)

    def sample(self, key: Array, batch_size: int) -> Batch:
        """Draws sequences: inputs [lag, B, 2], targets [B, 1]."""
        inputs, marked = marked_numbers(key, self.lag, batch_size)
        return Batch(inputs, jnp.sum(marked, axis=0)[:, None])


def marked_numbers(key: Array, T: int, batch_size: int) -> tuple[Array, Array]:
    """Uniform numbers, two of which are marked, one in each half: inputs [T, B, 2],
    and the two numbers [2, B].
    """
    half = T // 2
    key_x, key_i, key_j = jax.random.split(key, 3)
    values = jax.random.uniform(key_x, (T, batch_size))
    i = jax.random.randint(key_i, (batch_size,), 0, half)
    j = jax.random.randint(key_j, (batch_size,), half, T)
    steps = jnp.arange(T)[:, None]
    marked = (steps == i) | (steps == j)
    inputs = jnp.stack([values, marked.astype(values.dtype)], axis=-1)
    return inputs, jnp.take_along_axis(values, jnp.stack([i, j]), axis=0)
