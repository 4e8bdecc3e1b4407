"""Associative recall: after pairs of a key and a value, give the value to each key."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from experiments.tasks.scores import CrossEntropy
from experiments.tasks.task import Batch, Levels, Task, check_options, one_hot

POWER = 0.01  # a, of the distribution of the gaps


@dataclasses.dataclass(frozen=True)
class AssociativeRecall(Task):
    """Multi-query associative recall (MQAR).

    n pairs stand first: a key of 1..V/2 - 1, then its value of V/2..V - 1; no key and no value
    comes twice there. Then each key comes once more, at step 2 n + 2 g, and its value is wanted at
    that step. The g are drawn one after the other from 0..G - 1, G = (L - 2 n) / 2 without
    remainder, none twice, with probabilities proportional to (g + 1)^(a - 1), a = 0.01. All other
    steps are 0.

    Baselines: ln(V/2) for any constant (accuracy 2/V); ln n for one who knows which values there
    are, but not whose.

    Args:
        lag: L, the length of the sequence, at least 4 n.
        vocabulary: V, with 0; if it is odd, there is a value more.
        pairs: n.

    Source: Arora et al. 2023, arXiv:2312.04927 (its code). Differs: outputs are the values alone,
    there all V; and the other steps stay 0, there they may be filled with random symbols.
    """

    lag: int = 64
    vocabulary: int = 64
    pairs: int = 4
    description: ClassVar[str] = (
        "the values of a few keys, after pairs of them, in a sequence of length lag"
    )
    least_lag: ClassVar[int] = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self, pairs=(1, self.lag // 4), vocabulary=(2 * self.pairs + 2, 100_000))

    @property
    def score(self) -> CrossEntropy:
        return CrossEntropy(self.vocabulary - self.vocabulary // 2)

    @property
    def levels(self) -> Levels:
        partial = math.log(self.pairs)
        label = "the set of values known, but not whose they are"
        return Levels(
            math.log(self.score.output_size), solved=0.05, partial=partial, partial_label=label
        )

    def sample(self, key: Array, batch_size: int) -> Batch:
        """Draws sequences: one-hot inputs [lag, B, V], classes [lag, B],
        the first of them the value V/2.
        """
        n = self.pairs
        half = self.vocabulary // 2
        key_k, key_v, key_g = jax.random.split(key, 3)
        keys = 1 + distinct(key_k, jnp.zeros(half - 1), n, batch_size)
        values = distinct(key_v, jnp.zeros(self.vocabulary - half), n, batch_size)
        gaps = jnp.arange(1.0, (self.lag - 2 * n) // 2 + 1)
        places = 2 * n + 2 * distinct(key_g, (POWER - 1) * jnp.log(gaps), n, batch_size)
        sequences = jnp.arange(batch_size)
        blanks = jnp.zeros((self.lag, batch_size), keys.dtype)
        pairs = blanks.at[: 2 * n : 2].set(keys).at[1 : 2 * n : 2].set(half + values)
        inputs = one_hot(pairs.at[places, sequences].set(keys), self.vocabulary)
        asked = jnp.full(blanks.shape, False).at[places, sequences].set(True)
        return Batch(inputs, blanks.at[places, sequences].set(values), scored=asked)


def distinct(key: Array, logs: Array, n: int, batch_size: int) -> Array:
    """Draws n indices one after the other, none twice, with probabilities whose logarithms are
    `logs` but for a sum: [n, B].

    Those of the highest sums with noise of the Gumbel distribution, the highest first, are such a
    draw.
    """
    noise = jax.random.gumbel(key, (batch_size, len(logs)))
    return jax.lax.top_k(logs + noise, n)[1].T
