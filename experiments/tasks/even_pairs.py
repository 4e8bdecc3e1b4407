"""Even pairs: whether the number of changes in a sequence of bits is odd."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from experiments.tasks.scores import CrossEntropy
from experiments.tasks.task import Batch, Levels, Task, check_options, end_together, one_hot


@dataclasses.dataclass(frozen=True)
class EvenPairs(Task):
    """Random bits; the class is the number of pairs 01 and 10 in them mod 2,
    wanted at the last step.

    Each such pair is a change, so the class is whether the last bit differs from the first, which
    is all there is to remember.

    Baselines: ln 2 for any constant (accuracy 1/2).

    Args:
        lag: the longest sequence.
        shortest: lengths are uniform from here on, at least 2.

    Source: Deletang et al. 2023, arXiv:2207.02098, table 1.
    """

    lag: int = 20
    shortest: int = 2
    description: ClassVar[str] = "whether the number of changes is odd, in up to lag bits"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self, shortest=(2, self.lag))

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
        drawn = jax.random.randint(key_x, (self.lag, batch_size), 0, 2)
        bits, mask = end_together(drawn, lengths)
        return Batch(one_hot(bits, 2, mask), (drawn[0] != bits[-1]).astype(jnp.int32), mask)
