"""Cycle navigation: where one is on a cycle of five after many steps to and fro."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.tasks.scores import CrossEntropy
from experiments.tasks.task import Batch, Levels, Task, check_options, end_together, one_hot

PLACES = 5


@dataclasses.dataclass(frozen=True)
class CycleNavigation(Task):
    """Random actions 0, +1 and -1; the class is their sum mod 5, wanted at the last step.

    Baselines: after n actions place k has the probability

        p_n(k) = 1/5 sum_j lambda_j^n cos(2 pi j k / 5),  lambda_j = (1 + 2 cos(2 pi j / 5)) / 3,

    the lambda_j being the characteristic function of one action. The best constant has the mean of
    p_n over the lengths n, the loss its entropy: ln 5 (accuracy 1/5) when all sequences are long.

    Args:
        lag: the longest sequence.
        shortest: lengths are uniform from here on.

    Source: Deletang et al. 2023, arXiv:2207.02098, table 1.
    """

    lag: int = 20
    shortest: int = 1
    description: ClassVar[str] = "the place on a cycle of five, after up to lag steps to and fro"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self, shortest=(1, self.lag))

    @property
    def score(self) -> CrossEntropy:
        return CrossEntropy(PLACES)

    @property
    def shares(self) -> np.ndarray:
        """How often each class comes, [5]."""
        j = np.arange(PLACES)
        cosines = np.cos(2 * np.pi * np.outer(j, j) / PLACES)
        lambdas = (1 + 2 * cosines[1]) / 3
        lengths = np.arange(self.shortest, self.lag + 1)[:, None]
        return (lambdas**lengths).mean(axis=0) @ cosines / PLACES

    @property
    def levels(self) -> Levels:
        return Levels(-math.fsum(self.shares * np.log(self.shares)), solved=0.05)

    @property
    def constant(self) -> Array:
        return jnp.asarray(np.log(self.shares), jnp.float32)

    def sample(self, key: Array, batch_size: int) -> Batch:
        """Draws sequences: one-hot inputs [lag, B, 3] of the actions 0, +1, -1, classes [B],
        mask [lag, B].
        """
        key_n, key_x = jax.random.split(key)
        lengths = jax.random.randint(key_n, (batch_size,), self.shortest, self.lag + 1)
        actions, mask = end_together(
            jax.random.randint(key_x, (self.lag, batch_size), 0, 3), lengths
        )
        steps = jnp.where(actions == 2, -1, actions)
        return Batch(
            one_hot(actions, 3, mask), jnp.sum(jnp.where(mask, steps, 0), axis=0) % PLACES, mask
        )
