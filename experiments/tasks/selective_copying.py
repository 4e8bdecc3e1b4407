"""Selective copying: give back a few symbols that stood scattered among blanks."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from experiments.tasks.scores import CrossEntropy
from experiments.tasks.task import Batch, Levels, Task, check_options, one_hot


@dataclasses.dataclass(frozen=True)
class SelectiveCopying(Task):
    """M symbols of 1..A stand at M of the first lag steps, blanks (0) at the others;
    then come M markers (A + 1).

    Every set of M steps is as likely as any other. The symbols are wanted at the markers, in their
    order, which are all that the loss counts.

    Baselines: ln A for any constant (accuracy 1 / A).

    Args:
        lag: the steps before the markers.
        items: M, at most the lag.
        symbols: A.

    Source: Gu & Dao 2023, arXiv:2312.00752, section 4.1.1; the form is that of the code of S4.
    Differs: its L is lag - M, and its A counts the blank and the marker too.
    """

    lag: int = 32
    items: int = 4
    symbols: int = 4
    description: ClassVar[str] = "the few symbols scattered among lag steps, in their order"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self, items=(1, self.lag), symbols=(2, 1000))

    @property
    def score(self) -> CrossEntropy:
        return CrossEntropy(self.symbols)

    @property
    def levels(self) -> Levels:
        return Levels(math.log(self.symbols), solved=0.05)

    def sample(self, key: Array, batch_size: int) -> Batch:
        """Draws sequences: one-hot inputs [lag + M, B, A + 2], classes [T, B]."""
        key_t, key_x = jax.random.split(key)
        # the M highest are drawn: all sets alike
        tickets = jax.random.uniform(key_t, (batch_size, self.lag))
        places = jnp.sort(jax.lax.top_k(tickets, self.items)[1]).T
        classes = jax.random.randint(key_x, (self.items, batch_size), 0, self.symbols)
        blanks = jnp.zeros((self.lag, batch_size), classes.dtype)
        shown = blanks.at[places, jnp.arange(batch_size)].set(1 + classes)
        inputs = jnp.concatenate([shown, jnp.full_like(classes, self.symbols + 1)])
        recall = jnp.full(inputs.shape, False).at[self.lag :].set(True)
        return Batch(
            one_hot(inputs, self.symbols + 2), jnp.concatenate([blanks, classes]), scored=recall
        )
