"""Repeat previous: at every step, the symbol of some steps before."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from experiments.tasks.scores import CrossEntropy
from experiments.tasks.task import Batch, Levels, Task, check_options, one_hot


@dataclasses.dataclass(frozen=True)
class RepeatPrevious(Task):
    """Random symbols, of which that of lag steps before is wanted, from step lag on.

    Baselines: ln A for any constant (accuracy 1 / A).

    Args:
        lag: how many steps before.
        symbols: A.
        asked: for so many steps.

    Source: Morad et al. 2023, "POPGym", arXiv:2303.01859, as a task of prediction. Differs: symbols
    are drawn anew instead of from a deck.
    """

    lag: int = 16
    symbols: int = 4
    asked: int = 32
    description: ClassVar[str] = "the symbol of lag steps before, at every step"
    least_lag: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self, symbols=(2, 1000), asked=(1, 100_000))

    @property
    def score(self) -> CrossEntropy:
        return CrossEntropy(self.symbols)

    @property
    def levels(self) -> Levels:
        return Levels(math.log(self.symbols), solved=0.05)

    def sample(self, key: Array, batch_size: int) -> Batch:
        """Draws sequences: one-hot inputs [lag + asked, B, A], classes [lag + asked, B]."""
        drawn = jax.random.randint(key, (self.lag + self.asked, batch_size), 0, self.symbols)
        targets = jnp.roll(drawn, self.lag, axis=0)
        asked = jnp.full(drawn.shape, True).at[: self.lag].set(False)
        return Batch(one_hot(drawn, self.symbols), targets, scored=asked)
