"""Induction: at the second sight of a symbol, give what followed it at the first."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from experiments.tasks.scores import CrossEntropy
from experiments.tasks.task import Batch, Levels, Task, check_options, one_hot


@dataclasses.dataclass(frozen=True)
class Induction(Task):
    """Induction heads: random symbols of 0..A - 1, and a special one, A, at a random step of the
    first half and at the last.

    The symbol that followed the special one is wanted at the last step.

    Baselines: ln A for any constant (accuracy 1 / A).

    Args:
        lag: T, the length of the sequence, at least 3.
        symbols: A.

    Source: Gu & Dao 2023, arXiv:2312.00752, section 4.1.2, after Olsson et al. 2022,
    arXiv:2209.11895. Differs: the special symbol stands in the first half, so that the answer lies
    at least lag // 2 - 1 steps back.
    """

    lag: int = 64
    symbols: int = 16
    description: ClassVar[str] = (
        "what followed the special symbol in the first half of lag random ones"
    )
    least_lag: ClassVar[int] = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self, symbols=(2, 100_000))

    @property
    def score(self) -> CrossEntropy:
        return CrossEntropy(self.symbols)

    @property
    def levels(self) -> Levels:
        return Levels(math.log(self.symbols), solved=0.05)

    def sample(self, key: Array, batch_size: int) -> Batch:
        """Draws sequences: one-hot inputs [lag, B, A + 1], classes [B]."""
        key_t, key_x = jax.random.split(key)
        place = jax.random.randint(key_t, (batch_size,), 0, self.lag // 2)
        symbols = jax.random.randint(key_x, (self.lag, batch_size), 0, self.symbols)
        sequences = jnp.arange(batch_size)
        shown = symbols.at[place, sequences].set(self.symbols).at[-1].set(self.symbols)
        return Batch(one_hot(shown, self.symbols + 1), symbols[place + 1, sequences])
