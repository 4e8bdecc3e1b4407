"""Adding: remember two marked numbers of a long sequence and give their sum at its end."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from experiments.tasks.task import Batch


@dataclasses.dataclass(frozen=True)
class Adding:
    """The adding problem in the form of the uRNN paper.

    Feature 0 is U[0, 1) at each step. Feature 1 marks one step of the first half and one of the second with a 1. The target is
    the sum of the two marked numbers, the loss the squared error at the last step.

    Baselines: Var(u + v) = 2/12 = 1/6 for the best constant, 1; Var(u) = 1/12 for one who knows one of the two numbers.

    Args:
        lag: T, the length of the sequence.

    Source: Arjovsky et al. 2016, arXiv:1511.06464, section 4.2 (its code); the problem is Experiment 4 of Hochreiter &
    Schmidhuber 1997, from which the metric is taken: the share of sequences with an error below 0.04.
    """

    lag: int = 200
    description: ClassVar[str] = "the sum of two marked numbers in a sequence of length lag"
    spatial_shape: ClassVar[tuple[int, ...]] = ()
    input_size: ClassVar[int] = 2
    output_size: ClassVar[int] = 1
    constant: ClassVar[tuple[float, ...]] = (1.0,)
    baseline: ClassVar[float] = 1 / 6
    partial: ClassVar[float] = 1 / 12
    partial_label: ClassVar[str] = "one of the two numbers known"
    solved: ClassVar[float] = 0.01
    metric_label: ClassVar[str] = "error below 0.04"

    def sample(self, key: Array, batch_size: int) -> Batch:
        """Draws sequences: inputs [lag, B, 2], targets [B, 1]."""
        T, half = self.lag, self.lag // 2
        key_x, key_i, key_j = jax.random.split(key, 3)
        values = jax.random.uniform(key_x, (T, batch_size))
        i = jax.random.randint(key_i, (batch_size,), 0, half)
        j = jax.random.randint(key_j, (batch_size,), half, T)
        steps = jnp.arange(T)[:, None]
        marked = (steps == i) | (steps == j)
        inputs = jnp.stack([values, marked.astype(values.dtype)], axis=-1)
        return Batch(inputs=inputs, targets=jnp.sum(jnp.where(marked, values, 0), axis=0)[:, None])

    def loss(self, outputs: Array, targets: Array) -> Array:
        return jnp.mean((outputs - targets) ** 2)

    def metric(self, outputs: Array, targets: Array) -> Array:
        return jnp.mean(jnp.abs(outputs - targets) < 0.04)
