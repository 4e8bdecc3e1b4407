"""The flip-flop language: what was written last, whenever it is read."""

import dataclasses
import math
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
from jax import Array

from experiments.tasks.scores import CrossEntropy
from experiments.tasks.task import Batch, Levels, Task, check_options, one_hot

# the instructions; 0 and 1 are the bits
WRITE = 2
IGNORE = 3
READ = 4


@dataclasses.dataclass(frozen=True)
class FlipFlopLanguage(Task):
    """Instructions, each followed by a bit: write it, ignore it, or read what was written last. The
    first is a write and the last a read; the others ignore with probability p, and write or read
    with (1 - p) / 2 each. The bit is wanted at each read, where it comes with the next step.

    Baselines: ln 2 for any constant (accuracy 1/2).

    At longer lags as many bits are written and read as before, on average, so that they lie
    farther apart: from 64 with 0.8 to 640 with 0.98.

    Args:
        lag: T, the steps, an even number: two for each instruction.
        ignored: p.

    Source: Liu et al. 2023, arXiv:2306.00946, the language FFL(p) of 512 steps, with p = 0.8 in
    training, 0.98 and 0.1 in the tests.
    """

    lag: int = 64
    ignored: float = 0.8
    description: ClassVar[str] = "the bit that was written last, at every read, over lag steps"
    least_lag: ClassVar[int] = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self, ignored=(0, 1))
        if self.lag % 2:
            raise ValueError(f"lag must be even for this task, got {self.lag}.")

    @property
    def score(self) -> CrossEntropy:
        return CrossEntropy(2)

    @property
    def levels(self) -> Levels:
        return Levels(math.log(2), solved=0.05)

    def at_lag(self, lag: int) -> Self:
        acted = min((1 - self.ignored) * self.lag / lag, 1.0)
        ignored = 1 - acted if lag > self.lag else self.ignored
        return dataclasses.replace(self, lag=lag, ignored=ignored)

    def sample(self, key: Array, batch_size: int) -> Batch:
        """Draws sequences: one-hot inputs [lag, B, 5], classes [lag, B]."""
        key_i, key_b = jax.random.split(key)
        shape = (self.lag // 2, batch_size)
        acted = (1 - self.ignored) / 2
        u = jax.random.uniform(key_i, shape)
        kinds = jnp.where(u < acted, WRITE, jnp.where(u < 2 * acted, READ, IGNORE))
        kinds = kinds.at[0].set(WRITE).at[-1].set(READ)
        bits = jax.random.randint(key_b, shape, 0, 2)
        # the instruction that wrote last
        steps = jnp.arange(len(kinds))[:, None]
        last = jax.lax.cummax(jnp.where(kinds == WRITE, steps, 0), axis=0)
        kept = jnp.take_along_axis(bits, last, axis=0)
        bits = jnp.where(kinds == READ, kept, bits)
        pairs = jnp.stack([kinds, bits], axis=1).reshape(self.lag, batch_size)
        targets = jnp.repeat(kept, 2, axis=0)
        return Batch(one_hot(pairs, 5), targets, scored=pairs == READ)
