"""Modular arithmetic: the value of a long expression, mod 5."""

import dataclasses
import functools
import itertools
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.tasks.scores import CrossEntropy
from experiments.tasks.task import Batch, Levels, Task, one_hot

MODULUS = 5
SYMBOLS = "01234+-*="
PLUS, MINUS, TIMES, EQUALS = range(MODULUS, len(SYMBOLS))


@dataclasses.dataclass(frozen=True)
class ModularArithmetic(Task):
    """Random digits 0 to 4 with random operators +, -, * between them, then =,
    where the value mod 5 is wanted.

    Products go before sums. Lengths are odd, as there is a digit more than operators.

    Baselines: the best constant has the distribution of the values over all expressions, the loss
    its entropy. A recursion over what is known after each digit, the sum of all terms but the last,
    and the last, gives it exactly; 0 is the most frequent.

    Args:
        lag: the longest expression, without =.
        shortest: lengths are uniform among the odd numbers from here to the lag.

    Source: Deletang et al. 2023, arXiv:2207.02098, table 1 (without brackets).
    """

    lag: int = 19
    shortest: int = 1
    description: ClassVar[str] = (
        "the value mod 5 of an expression with up to lag digits and operators"
    )
    least_lag: ClassVar[int] = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.shortest <= self.lag or self.fewest > self.most:
            raise ValueError(
                f"shortest must be positive with an odd number from it up to lag={self.lag}, "
                f"got {self.shortest}."
            )

    @property
    def fewest(self) -> int:
        """The digits of the shortest expression."""
        return self.shortest // 2 + 1

    @property
    def most(self) -> int:
        """The digits of the longest expression."""
        return (self.lag + 1) // 2

    @property
    def score(self) -> CrossEntropy:
        return CrossEntropy(MODULUS)

    @property
    def levels(self) -> Levels:
        shares = value_shares(self.fewest, self.most)
        return Levels(-math.fsum(shares * np.log(shares)), solved=0.05)

    @property
    def constant(self) -> Array:
        return jnp.asarray(np.log(value_shares(self.fewest, self.most)), jnp.float32)

    def sample(self, key: Array, batch_size: int) -> Batch:
        """Draws sequences: one-hot inputs [T, B, 9], T = lag + 1 or, if that is odd, lag;
        classes [B], mask [T, B].
        """
        M = self.most
        key_n, key_x, key_y = jax.random.split(key, 3)
        n = jax.random.randint(key_n, (batch_size,), self.fewest, M + 1)
        i = jnp.arange(M)[:, None] - (M - n)  # of the digit
        digits = jnp.where(i >= 0, jax.random.randint(key_x, (M, batch_size), 0, MODULUS), 0)
        # the operator before it
        before = jnp.where(i > 0, jax.random.randint(key_y, (M, batch_size), PLUS, EQUALS), PLUS)
        after = jnp.concatenate([before[1:], jnp.full_like(before[:1], EQUALS)])
        symbols = jnp.stack([digits, after], axis=1).reshape(2 * M, batch_size)
        mask = jnp.repeat(i >= 0, 2, axis=0)
        return Batch(one_hot(symbols, len(SYMBOLS), mask), value(digits, before), mask)


def value(digits: Array, before: Array) -> Array:
    """The value of each expression mod 5, [B], of its digits and of the operators before them,
    + 0 before it starts: [M, B].
    """

    def step(
        state: tuple[Array, Array], symbols: tuple[Array, Array]
    ) -> tuple[tuple[Array, Array], None]:
        total, term = state  # of all terms but the last; the last
        digit, operator = symbols
        times = operator == TIMES
        total = jnp.where(times, total, total + term) % MODULUS
        term = jnp.where(times, term * digit, jnp.where(operator == MINUS, -digit, digit)) % MODULUS
        return (total, term), None

    nothing = jnp.zeros_like(digits[0])
    (total, term), _ = jax.lax.scan(step, (nothing, nothing), (digits, before))
    return (total + term) % MODULUS


@functools.cache
def value_shares(fewest: int, most: int) -> np.ndarray:
    """How often each value comes, [5], in expressions of so many digits,
    each number of digits as often.
    """
    places = range(MODULUS)
    shares = np.zeros(MODULUS)
    # the probability of [sum of all terms but the last, last term]
    known = np.zeros((MODULUS, MODULUS))
    known[0] = 1 / MODULUS
    for digits in range(1, most + 1):
        if digits >= fewest:
            shares += [sum(known[total, (k - total) % MODULUS] for total in places) for k in places]
        later = np.zeros_like(known)
        for total, term, digit in itertools.product(places, repeat=3):
            share = known[total, term] / (3 * MODULUS)
            for place in ((total + term, digit), (total + term, -digit), (total, term * digit)):
                later[place[0] % MODULUS, place[1] % MODULUS] += share
        known = later
    return shares / (most - fewest + 1)
