"""Temporal order: remember two symbols of a long sequence, and in which order they came."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from experiments.tasks.scores import CrossEntropy
from experiments.tasks.task import Batch, Levels, Task, check_options, end_together, one_hot

ALPHABET = "abcdXYBE"
# the first step that may be marked, in hundredths of the lag
PLACES = {2: (10, 50), 3: (10, 33, 66), 4: (10, 30, 55, 75)}


@dataclasses.dataclass(frozen=True)
class TemporalOrder(Task):
    """Experiments 6a and 6b of Hochreiter & Schmidhuber 1997,
    with all lengths in proportion to `lag`.

    A sequence begins with E and ends with the trigger B. At some steps, counted from E at 0, stands
    X or Y, elsewhere a random one of a, b, c, d. The class, whose binary digits say which of them
    are Y, is wanted at the last step. With L = lag, whole numbers throughout, and each range with
    both ends:

        length  L to L + L/10
        6a      L/10 to L/5, L/2 to L/2 + L/10
        6b      L/10 to L/5, L/3 to L/3 + L/10, 2L/3 to 2L/3 + L/10          (a third being 33/100)

    so that lag=100 is the paper's; four symbols stand from 10, 30, 55 and 75 hundredths on.
    Sequences end at the last of the L + L/10 steps, where all are read out; the padding before them
    is masked.

    Baselines: ln 2^k for the best constant, k symbols (accuracy 1 / 2^k), ln 2 for one who knows
    all but one of them.

    Args:
        lag: L, at least 10.
        symbols: k, how many steps hold X or Y: 2 (6a), 3 (6b) or 4.
    """

    lag: int = 100
    symbols: int = 2
    description: ClassVar[str] = "in which order X and Y came, in a sequence of length lag"
    least_lag: ClassVar[int] = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self, symbols=(2, 4))

    @property
    def score(self) -> CrossEntropy:
        return CrossEntropy(2**self.symbols)

    @property
    def levels(self) -> Levels:
        return Levels(
            self.symbols * math.log(2),
            solved=0.05,
            partial=math.log(2),
            partial_label="all symbols known but one",
        )

    def sample(self, key: Array, batch_size: int) -> Batch:
        """Draws sequences: one-hot inputs [lag + lag // 10, B, 8], zero in the padding,
        classes [B], mask [T, B].
        """
        L = self.lag
        tenth = self.lag // 10
        key_n, key_t, key_x, key_y = jax.random.split(key, 4)
        lengths = jax.random.randint(key_n, (batch_size,), L, L + tenth + 1)
        first = jnp.array([[place * L // 100] for place in PLACES[self.symbols]])
        places = first + jax.random.randint(key_t, (self.symbols, batch_size), 0, tenth + 1)
        marks = jax.random.randint(key_y, (self.symbols, batch_size), 0, 2)
        symbols = jax.random.randint(key_x, (L + tenth, batch_size), 0, 4)
        symbols = symbols.at[places, jnp.arange(batch_size)].set(4 + marks).at[0].set(7)
        symbols, mask = end_together(symbols, lengths)
        inputs = one_hot(symbols.at[-1].set(6), len(ALPHABET), mask)
        powers = 2 ** jnp.arange(self.symbols)[::-1, None]
        return Batch(inputs, targets=jnp.sum(powers * marks, axis=0), mask=mask)
