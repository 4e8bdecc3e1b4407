"""Copying: give back a few symbols after a long wait."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from experiments.tasks.scores import CrossEntropy
from experiments.tasks.task import Batch, Levels, Task, check_options, one_hot


@dataclasses.dataclass(frozen=True)
class Copying(Task):
    """The copying memory problem in the form of the uRNN paper.

    K symbols from 1..A, lag - 1 blanks (0), a marker (A + 1), K blanks: T = lag + 2K steps. The
    target is blank at the first lag + K of them and then the K symbols in their order; the loss
    counts all steps, the metric the last K.

    Baselines: K ln A / (lag + 2K) for one who knows when to answer but not what, the best that
    depends on the step alone.

    Args:
        lag: the steps from the last symbol to the first answer, less one.
        items: K.
        symbols: A.

    Source: Hochreiter & Schmidhuber 1997; Arjovsky et al. 2016, arXiv:1511.06464, section 4.1 (its
    code).
    """

    lag: int = 100
    items: int = 10
    symbols: int = 8
    description: ClassVar[str] = "a few symbols, by default ten, given back after lag steps"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self, items=(1, 1000), symbols=(2, 1000))

    @property
    def score(self) -> CrossEntropy:
        return CrossEntropy(self.symbols + 1, "accuracy of what is recalled")

    @property
    def levels(self) -> Levels:
        baseline = self.items * math.log(self.symbols) / (self.lag + 2 * self.items)
        return Levels(baseline, solved=baseline / 20)

    @property
    def constant(self) -> Array:
        """Blank for certain while it is to wait, then every symbol alike."""
        recall = jnp.arange(self.lag + 2 * self.items) >= self.lag + self.items
        blank = jnp.arange(self.symbols + 1) == 0
        return jnp.where(recall[:, None] == blank, -1e9, 0.0)[:, None]

    def sample(self, key: Array, batch_size: int) -> Batch:
        """Draws sequences: one-hot inputs [T, B, A + 2], classes [T, B]."""
        K = self.items
        wait = self.lag + self.items
        symbols = jax.random.randint(key, (K, batch_size), 1, self.symbols + 1)
        blanks = jnp.zeros((wait, batch_size), symbols.dtype)
        inputs = jnp.concatenate([symbols, blanks]).at[wait - 1].set(self.symbols + 1)
        everywhere = jnp.full((wait + K, batch_size), True)
        recall = everywhere.at[:wait].set(False)
        return Batch(
            one_hot(inputs, self.symbols + 2),
            jnp.concatenate([blanks, symbols]),
            scored=everywhere,
            judged=recall,
        )
