"""Embedded Reber grammar: predict the next symbol of strings whose second symbol comes
again at their end.
"""

import dataclasses
import functools
import math
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.tasks.scores import CrossEntropy
from experiments.tasks.task import Batch, Levels, Task, check_options, end_together, one_hot

ALPHABET = "BTPSXVE"
B, T, P, S, X, V, E = range(len(ALPHABET))

# The inner string between its B and its E: a walk from node 0 to node 5. From each node go two
# arrows, each taken with probability 1/2, with a symbol and the node behind it; 5 stays 5.
SYMBOL = np.array([[T, P], [S, X], [T, V], [X, S], [P, V], [E, E]])
AFTER = np.array([[1, 2], [1, 3], [2, 4], [2, 5], [3, 5], [5, 5]])
# symbols of a string beside those of the walk: B and T or P and B before it, E and T or P and E
# behind it
OUTSIDE = 6


@dataclasses.dataclass(frozen=True)
class EmbeddedReber(Task):
    """Experiment 1 of Hochreiter & Schmidhuber 1997: B, T or P, a string of the Reber grammar,
    the same T or P, E.

    A Reber string is B, the symbols of a walk through a graph, E. At each node one of two arrows is
    taken, both alike, but for the condition that the length of the whole lies within shortest to
    lag. The next symbol is wanted at each step but the last; the metric counts the step before the
    outer T or P returns, where nothing else tells it.

    Baselines, exact, with n the length and M = E[1 / (n - 1)]: the best constant has the mean over
    the strings of the share of each symbol among those to predict, and its entropy is the loss. One
    who knows the grammar and the outer symbol predicts by the measure mu of strings s with the
    weights 1 / (n - 1) that they have in the loss, and scores the least loss of all,

        - sum_s mu(s) ln(mu(s) / M),  mu(s) = P(s) / (n - 1),

    and one who does not know the outer symbol M ln 2 more. It is solved when three quarters of this
    gap are overcome.

    Args:
        lag: the longest string, at least 9.
        shortest: the shortest one, likewise.

    Source: Hochreiter & Schmidhuber 1997, section 5.1. Differs: the length has a limit, which at
    lag = 30 cuts off 0.13 % of the strings; and cross-entropy.
    """

    lag: int = 30
    shortest: int = 9
    description: ClassVar[str] = (
        "the next symbol of a grammar whose end repeats its start, in up to lag symbols"
    )
    least_lag: ClassVar[int] = 9

    def __post_init__(self) -> None:
        super().__post_init__()
        # longer ones are of a probability that underflows
        check_options(self, shortest=(9, min(self.lag, 2000)))

    @property
    def score(self) -> CrossEntropy:
        return CrossEntropy(len(ALPHABET), "accuracy of the outer symbol")

    @property
    def levels(self) -> Levels:
        facts = _facts(self.shortest, self.lag)
        gap = facts.mean_weight * math.log(2)
        label = "the grammar known, but not the outer symbol"
        return Levels(
            -math.fsum(facts.shares * np.log(facts.shares)),
            facts.least + gap / 4,
            facts.least + gap,
            label,
        )

    @property
    def constant(self) -> Array:
        return jnp.asarray(np.log(_facts(self.shortest, self.lag).shares), jnp.float32)

    def sample(self, key: Array, batch_size: int) -> Batch:
        """Draws sequences: one-hot inputs [lag, B, 7], zero in the padding, classes [lag, B],
        mask [lag, B].
        """
        key_o, key_x = jax.random.split(key)
        outer = jnp.where(jax.random.bernoulli(key_o, shape=(batch_size,)), T, P)
        walk, steps = self._walk(key_x, batch_size)
        t = jnp.arange(self.lag)[:, None]
        n = steps + OUTSIDE
        symbols = (
            jnp.full((self.lag, batch_size), B, walk.dtype).at[1].set(outer).at[3:-3].set(walk)
        )
        symbols = jnp.where((t == n - 3) | (t == n - 1), E, jnp.where(t == n - 2, outer, symbols))
        symbols, mask = end_together(symbols, n)
        scored = mask.at[-1].set(False)
        judged = jnp.zeros_like(mask).at[-3].set(True)
        return Batch(
            one_hot(symbols, len(ALPHABET), mask),
            jnp.roll(symbols, -1, axis=0),
            mask,
            scored,
            judged,
        )

    def _walk(self, key: Array, batch_size: int) -> tuple[Array, Array]:
        """The symbols of walks, [lag - 6, B], and how many they are, [B]."""
        chances = jnp.asarray(_chances(self.shortest, self.lag), jnp.float32)
        symbol = jnp.asarray(SYMBOL)
        after = jnp.asarray(AFTER)

        def step(node: Array, draws: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
            chance, uniform = draws
            arrow = (uniform >= chance[node]).astype(node.dtype)
            return after[node, arrow], (symbol[node, arrow], node < 5)

        uniforms = jax.random.uniform(key, (len(chances), batch_size))
        _, (symbols, walking) = jax.lax.scan(
            step, jnp.zeros(batch_size, after.dtype), (chances, uniforms)
        )
        return symbols, jnp.sum(walking, axis=0, dtype=symbols.dtype)


class Facts(NamedTuple):
    shares: np.ndarray  # [7], of the symbols to predict
    mean_weight: float  # M
    least: float  # the least loss of all


def _lengths(shortest: int, lag: int) -> tuple[np.ndarray, np.ndarray]:
    """The length of the string after each number of arrows, [lag - 5],
    and which of them are allowed.
    """
    n = np.arange(lag - OUTSIDE + 1) + OUTSIDE
    return n, n >= shortest


def _expected(ends: np.ndarray) -> np.ndarray:
    """The mean of `ends` [C + 1] at the arrow with which a walk ends, 0 after C of them,
    by arrows gone and node: [C + 1, 6].
    """
    means = np.zeros((len(ends), 6))
    means[:, 5] = ends
    for j in range(len(ends) - 2, -1, -1):
        means[j, :5] = means[j + 1, AFTER[:5]].mean(axis=-1)
    return means


def _chances(shortest: int, lag: int) -> np.ndarray:
    """The probability of the first of the two arrows, by arrows gone and node: [lag - 6, 6]."""
    _, allowed = _lengths(shortest, lag)
    behind = _expected(allowed.astype(float))[1:, AFTER]  # [C, 6, 2]
    total = behind.sum(axis=-1)
    return np.divide(behind[..., 0], total, out=np.full(total.shape, 0.5), where=total > 0)


@functools.cache
def _facts(shortest: int, lag: int) -> Facts:
    n, allowed = _lengths(shortest, lag)
    weights = allowed / (n - 1)
    # the probability to be at each node after so many arrows, without the condition
    reached = np.zeros((len(n), 6))
    reached[0, 0] = 1
    for j in range(len(n) - 1):
        np.add.at(reached[j + 1], AFTER[:5], reached[j, :5, None] / 2)
    legal = reached[:, 5] @ allowed
    M = reached[:, 5] @ weights / legal
    # the mean weight of each, [C, 5, 2]
    arrows = reached[:-1, :5, None] / 2 * _expected(weights)[1:, AFTER[:5]] / legal
    # of B, T or P twice, E twice: the first B is not predicted
    shares = np.array([1, 1, 1, 0, 0, 0, 2]) * M
    np.add.at(shares, SYMBOL[:5], arrows.sum(axis=0))
    # A string of n symbols has the probability 2^-(n - 6) / 2 / legal: an arrow per symbol of the
    # walk, and T or P.
    surprise = (n - OUTSIDE + 1) * math.log(2) + math.log(legal) + np.log(n - 1) + math.log(M)
    return Facts(shares, float(M), float(reached[:, 5] * weights @ surprise / legal))
