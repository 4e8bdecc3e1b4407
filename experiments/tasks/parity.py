"""Parity: whether the number of ones in a sequence is odd."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from experiments.tasks.scores import CrossEntropy
from experiments.tasks.task import Batch, Levels, Task, check_options, end_together, one_hot


@dataclasses.dataclass(frozen=True)
class Parity(Task):
    """Random bits; the class is their sum mod 2, wanted at the last step.

    Baselines: ln 2 for any constant (accuracy 1/2), and for one who has missed a single bit.

    Args:
        lag: the longest sequence.
        shortest: lengths are uniform from here on.

    Source: Deletang et al. 2023, arXiv:2207.02098, table 1.
    """

    lag: int = 20
    shortest: int = 1
    description: ClassVar[str] = "whether the number of ones is odd, in up to lag bits"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self, shortest=(1, self.lag))

    @property
    def score(self) -> CrossEntropy:
        return CrossEntropy(2)

    @property
    def levels(self) -> Levels:
        return Levels(math.log(2), solved=0.05)

    def sample(self, key: Array, batch_size: int) -> Batch:
        """Draws sequences: one-hot inputs [lag, B, 2], zero in the padding, classes [B],
        mask [lag, B].
        """
        key_n, key_x = jax.random.split(key)
        lengths = jax.random.randint(key_n, (batch_size,), self.shortest, self.lag + 1)
        bits, mask = end_together(jax.random.randint(key_x, (self.lag, batch_size), 0, 2), lengths)
        return Batch(one_hot(bits, 2, mask), jnp.sum(jnp.where(mask, bits, 0), axis=0) % 2, mask)
