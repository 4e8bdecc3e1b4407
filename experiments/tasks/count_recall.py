"""Count recall: how many cards of a kind were dealt until now."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.tasks.scores import CrossEntropy
from experiments.tasks.task import Batch, Levels, Task, check_options, entropy, log_shares, one_hot


@dataclasses.dataclass(frozen=True)
class CountRecall(Task):
    """A shuffled deck of A kinds, of each as many, is dealt one by one. At each step a random kind
    is asked for: how many of it were dealt, with this card?

    Baselines: after n of the T cards the count is hypergeometric, C(m, k) C(T - m, n - k) / C(T, n)
    with m = T / A; the best constant of each step has these shares, the loss the mean of their
    entropies.

    Args:
        lag: T, the cards, a multiple of A.
        kinds: A.

    Source: Morad et al. 2023, "POPGym", arXiv:2303.01859, as a task of prediction.
    """

    lag: int = 32
    kinds: int = 4
    description: ClassVar[str] = "how many cards of a kind were dealt, of a deck of lag"
    sized_by_lag: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self, kinds=(2, self.lag))
        if self.lag % self.kinds:
            raise ValueError(f"lag must be a multiple of kinds={self.kinds}, got {self.lag}.")

    @property
    def score(self) -> CrossEntropy:
        return CrossEntropy(self.lag // self.kinds + 1)

    @property
    def shares(self) -> np.ndarray:
        """How often each count comes at each step, [lag, counts]."""
        T = self.lag
        m = T // self.kinds
        ways = [
            [math.comb(m, k) * math.comb(T - m, n - k) if k <= n else 0 for k in range(m + 1)]
            for n in range(1, T + 1)
        ]
        return np.array([[each / math.comb(T, n) for each in w] for n, w in enumerate(ways, 1)])

    @property
    def levels(self) -> Levels:
        return Levels(entropy(self.shares), solved=0.05)

    @property
    def constant(self) -> Array:
        return log_shares(self.shares)

    def sample(self, key: Array, batch_size: int) -> Batch:
        """Draws sequences: one-hot inputs [lag, B, 2 A] of the card and the kind that is asked for,
        counts [lag, B]."""
        key_d, key_q = jax.random.split(key)
        deck = jnp.repeat(jnp.arange(self.kinds), self.lag // self.kinds)
        decks = jnp.broadcast_to(deck[:, None], (self.lag, batch_size))
        cards = jax.random.permutation(key_d, decks, axis=0, independent=True)
        asked = jax.random.randint(key_q, cards.shape, 0, self.kinds)
        dealt = jnp.cumsum(jax.nn.one_hot(cards, self.kinds, dtype=jnp.int32), axis=0)
        counts = jnp.take_along_axis(dealt, asked[..., None], axis=-1)[..., 0]
        inputs = jnp.concatenate([one_hot(cards, self.kinds), one_hot(asked, self.kinds)], axis=-1)
        return Batch(inputs, counts, scored=jnp.full(cards.shape, True))
