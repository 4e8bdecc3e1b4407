"""Multiplication: remember two marked numbers of a long sequence
and give their product at its end.
"""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jax import Array

from experiments.tasks.adding import marked_numbers
from experiments.tasks.scores import SquaredError
from experiments.tasks.task import Batch, Levels, Task


@dataclasses.dataclass(frozen=True)
class Multiplication(Task):
    """The inputs of `adding`, and the product of the two marked numbers instead of their sum.

    Baselines: Var(u v) = 1/9 - 1/16 = 7/144 for the best constant, 1/4; E[u^2] Var(v) = 1/36 for
    one who knows one of the two numbers.

    Args:
        lag: T, the length of the sequence.

    Source: Experiment 5 of Hochreiter & Schmidhuber 1997. Differs: there the length is uniform in T
    to T + T/10, the marks stand among the first ten numbers and in the first half, and the mark of
    the first and the last number is -1. Here one step of each half is marked, as in the uRNN
    paper's adding.
    """

    lag: int = 100
    description: ClassVar[str] = "the product of two marked numbers in a sequence of length lag"

    @property
    def score(self) -> SquaredError:
        return SquaredError()

    @property
    def levels(self) -> Levels:
        # Solved at about a twentieth of the baseline, 0.0024, which is near where adding is solved:
        # 0.01 of 1/6.
        return Levels(
            7 / 144, solved=0.0025, partial=1 / 36, partial_label="one of the two numbers known"
        )

    @property
    def constant(self) -> Array:
        return jnp.full(1, 0.25)

    def sample(self, key: Array, batch_size: int) -> Batch:
        """Draws sequences: inputs [lag, B, 2], targets [B, 1]."""
        inputs, marked = marked_numbers(key, self.lag, batch_size)
        return Batch(inputs, jnp.prod(marked, axis=0)[:, None])
