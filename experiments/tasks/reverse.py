"""Reverse and duplicate: read a string, then give it back, backwards or twice."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from experiments.tasks.scores import CrossEntropy
from experiments.tasks.task import Batch, Levels, Task, check_options, one_hot


@dataclasses.dataclass(frozen=True)
class Reverse(Task):
    """n random symbols, a marker, then n empty steps (all inputs zero) at
    which they are asked in the reverse order.

    Baselines: ln symbols for any constant, since all of them are equally likely at every answer.

    Args:
        lag: the longest string.
        shortest: lengths are uniform from here on.
        symbols: how many there are.

    Source: Deletang et al. 2023, arXiv:2207.02098, table 1.
    """

    lag: int = 10
    shortest: int = 1
    symbols: int = 2
    description: ClassVar[str] = "up to lag symbols, given back in the reverse order"
    answers: ClassVar[int] = 1  # the number of symbols asked for each that is given

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self, shortest=(1, self.lag), symbols=(2, 1000))

    @property
    def score(self) -> CrossEntropy:
        return CrossEntropy(self.symbols, "accuracy of what is given back")

    @property
    def levels(self) -> Levels:
        return Levels(math.log(self.symbols), solved=0.05)

    def place(self, answer: Array, n: Array) -> Array:
        """Which symbol of the string is asked at this answer."""
        return n - 1 - answer

    def sample(self, key: Array, batch_size: int) -> Batch:
        """Draws sequences: one-hot inputs [T, B, symbols + 1], classes [T, B], mask [T, B],
        with T for the longest string.
        """
        key_n, key_x = jax.random.split(key)
        n = jax.random.randint(key_n, (batch_size,), self.shortest, self.lag + 1)
        string = jax.random.randint(key_x, (self.lag, batch_size), 0, self.symbols)
        T = self.lag + 1 + self.answers * self.lag
        # within the sequence, whose marker stands at n
        step = jnp.arange(T)[:, None] - (T - 1 - n - self.answers * n)
        given = jnp.take_along_axis(string, jnp.clip(step, 0, n - 1), axis=0)
        asked = jnp.take_along_axis(
            string, self.place(jnp.maximum(step - n - 1, 0), n) % self.lag, axis=0
        )
        mask = step >= 0
        scored = step > n
        inputs = one_hot(
            jnp.where(step == n, self.symbols, given), self.symbols + 1, mask & ~scored
        )
        return Batch(inputs, jnp.where(scored, asked, 0), mask, scored)


@dataclasses.dataclass(frozen=True)
class Duplicate(Reverse):
    """n random symbols, a marker, then 2n empty steps (all inputs zero) at
    which they are asked in their order, twice.

    Baselines: ln symbols for any constant, since all of them are equally likely at every answer.

    Args:
        lag: the longest string.
        shortest: lengths are uniform from here on.
        symbols: how many there are.

    Source: Deletang et al. 2023, arXiv:2207.02098, table 1.
    """

    description: ClassVar[str] = "up to lag symbols, given back twice"
    answers: ClassVar[int] = 2

    def place(self, answer: Array, n: Array) -> Array:
        return answer % n
