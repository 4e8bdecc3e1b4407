"""Dyck: say which brackets may come next."""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.tasks.scores import Sets
from experiments.tasks.task import Batch, Levels, Task, check_options, end_together, one_hot


@dataclasses.dataclass(frozen=True)
class Dyck(Task):
    """Well-nested brackets of one or more kinds; asked at every step: which brackets may come next.

    These are all that open, and the one that closes the innermost open bracket. A string of even
    length, uniform from `shortest` to `lag`, is drawn from left to right: a bracket opens with
    probability 1/2, always if none is open, never if there are only steps enough to close those
    that are; its kind is uniform. A string is right when all its sets are.

    Baselines: the best constant knows that every opening bracket is legal at all steps, and any one
    closing bracket at p = P(some bracket is open) / kinds of them, in the mean over the lengths of
    the mean over the steps; it scores kinds times the entropy of p. The walk of the depth gives p
    by dynamic programming.

    Args:
        lag: the longest string.
        shortest: lengths are uniform from here on.
        kinds: of brackets.

    Source: Suzgun et al. 2019, arXiv:1906.03648. Differs: strings come from a walk of given length,
    not from a grammar.
    """

    lag: int = 40
    shortest: int = 2
    kinds: int = 1
    description: ClassVar[str] = "which brackets may come next, in up to lag well-nested ones"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self, shortest=(1, self.lag // 2 * 2), kinds=(1, 1000))

    @property
    def halves(self) -> tuple[int, int]:
        """Half of the shortest length and half of the longest."""
        return (self.shortest + 1) // 2, self.lag // 2

    @property
    def score(self) -> Sets:
        return Sets(2 * self.kinds)

    @property
    def levels(self) -> Levels:
        p = open_share(*self.halves) / self.kinds
        return Levels(float(-self.kinds * (p * np.log(p) + (1 - p) * np.log1p(-p))), solved=0.002)

    @property
    def constant(self) -> Array:
        p = open_share(*self.halves) / self.kinds
        return jnp.repeat(jnp.array([1e9, np.log(p) - np.log1p(-p)], jnp.float32), self.kinds)

    def sample(self, key: Array, batch_size: int) -> Batch:
        """Draws strings: one-hot inputs [T, B, 2 kinds], first those that open, sets
        [T, B, 2 kinds], mask [T, B].
        """
        key_n, key_w, key_k = jax.random.split(key, 3)
        shortest, longest = self.halves
        lengths = 2 * jax.random.randint(key_n, (batch_size,), shortest, longest + 1)
        coins = jax.random.bernoulli(key_w, shape=(2 * longest, batch_size))
        kinds = jax.random.randint(key_k, coins.shape, 0, self.kinds)
        symbols, innermost = brackets(coins, kinds, lengths, self.kinds)
        symbols, mask = end_together(symbols, lengths)
        innermost, _ = end_together(innermost, lengths)
        inputs = one_hot(symbols, 2 * self.kinds, mask)
        opening = jnp.broadcast_to(mask[..., None], (*mask.shape, self.kinds)).astype(inputs.dtype)
        closing = one_hot(innermost, self.kinds, mask)
        return Batch(inputs, jnp.concatenate([opening, closing], axis=-1), mask, scored=mask)


def brackets(coins: Array, kinds: Array, lengths: Array, number: int) -> tuple[Array, Array]:
    """Strings of these lengths, [B], from coins and kinds, [T, B], by a stack.

    Returns:
        The symbols, [T, B]: the kind of a bracket that opens, `number` more for one that closes;
        and the kind of the innermost bracket that is open behind it, -1 if none is.
    """
    T, B = coins.shape
    rows = jnp.arange(B)

    def step(
        carry: tuple[Array, Array], x: tuple[Array, Array, Array]
    ) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        stack, depth = carry  # stack[:, d] is the kind at depth d, which is -1 at depth 0
        coin, kind, left = x
        opens = (depth == 0) | coin & (depth < left)
        symbol = jnp.where(opens, kind, number + stack[rows, depth])
        stack = stack.at[rows, jnp.where(opens, depth + 1, T)].set(kind, mode="drop")
        depth = depth + jnp.where(opens, 1, -1)
        return (stack, depth), (symbol, stack[rows, depth])

    start = jnp.full((B, T // 2 + 2), -1), jnp.zeros(B, int)
    return jax.lax.scan(step, start, (coins, kinds, lengths - jnp.arange(T)[:, None]))[1]


@functools.cache
def open_share(shortest: int, longest: int) -> float:
    """At which share of the steps some bracket is open behind it, in the mean over strings of
    `shortest` to `longest` pairs.
    """
    shares = []
    for n in range(2 * shortest, 2 * longest + 1, 2):
        depth = np.eye(n + 2)[0]  # P(depth); no string is deeper than n / 2
        opened = 0.0
        for left in range(n, 0, -1):
            up = np.where(np.arange(n + 2) < left, 0.5, 0.0)
            up[0] = 1
            depth = np.roll(depth * up, 1) + np.roll(depth * (1 - up), -1)
            opened += 1 - depth[0]
        shares.append(opened / n)
    return float(np.mean(shares))
