"""First symbol: remember one symbol while random ones pass."""

import dataclasses
import math
from typing import ClassVar

import jax
from jax import Array

from experiments.tasks.scores import CrossEntropy
from experiments.tasks.task import Batch, Levels, Task, check_options, end_together, one_hot


@dataclasses.dataclass(frozen=True)
class FirstSymbol(Task):
    """Experiment 2c of Hochreiter & Schmidhuber 1997: b, x or y, distractors, e; whether it was y
    is wanted at the last step, e.

    The distractors, each one of p alike, are lag to lag + lag // 10 in number, which is uniform.

    Baselines: ln 2 for any constant (accuracy 1/2).

    Args:
        lag: q, the fewest distractors.
        distractors: p.

    Source: Hochreiter & Schmidhuber 1997, section 5.2. Differs: there q plus a number of geometric
    distribution with mean 10 stand between; and x or y itself is the next symbol that is asked for.
    """

    lag: int = 100
    distractors: int = 16
    description: ClassVar[str] = "which of two symbols came first, before lag random ones"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self, distractors=(1, 100_000))

    @property
    def score(self) -> CrossEntropy:
        return CrossEntropy(2)

    @property
    def levels(self) -> Levels:
        return Levels(math.log(2), solved=0.05)

    def sample(self, key: Array, batch_size: int) -> Batch:
        """Draws sequences: one-hot inputs [lag + lag // 10 + 3, B, p + 4],
        zero in the padding, classes [B], mask [T, B].

        The last four features are x, y, b, e.
        """
        p = self.distractors
        most = self.lag + self.lag // 10
        key_n, key_x, key_y = jax.random.split(key, 3)
        lengths = 3 + jax.random.randint(key_n, (batch_size,), self.lag, most + 1)
        symbols = jax.random.randint(key_x, (most + 3, batch_size), 0, p)
        classes = jax.random.randint(key_y, (batch_size,), 0, 2)
        symbols, mask = end_together(symbols.at[0].set(p + 2).at[1].set(p + classes), lengths)
        return Batch(one_hot(symbols.at[-1].set(p + 3), p + 4, mask), classes, mask)
