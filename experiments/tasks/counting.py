"""Counting: say which symbols may come next in a^n b^n, or in a^n b^n c^n."""

import dataclasses
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.tasks.scores import Sets
from experiments.tasks.task import Batch, Levels, Task, check_options, one_hot


@dataclasses.dataclass(frozen=True)
class Contiguous(Sets):
    """As `Sets`, but for the metric: the largest n up to which all strings
    of the batch are right, over its largest n.
    """

    @property
    def label(self) -> str:
        return "largest n up to which every string is right, over lag"

    def metric(self, outputs: Array, batch: Batch) -> Array:
        assert batch.mask is not None
        n = (jnp.sum(batch.mask, axis=0) - 2) // (self.output_size - 1)
        first_wrong = jnp.min(jnp.where(self.accepted(outputs, batch), jnp.max(n) + 1, n))
        return jnp.max(jnp.where(n < first_wrong, n, 0)) / jnp.max(n)


@dataclasses.dataclass(frozen=True)
class AnBn(Task):
    """S, n times a, n times b, T; asked at every step but the last: which symbols may come next.

        after S            a                  (n is at least 1)
        after an a         a, b               (n is not known yet)
        after a b          b, until n of them have come, then T

    The lengths are uniform in n, and the steps are one-hot in S, a, b, T. A string is right when
    all its sets are. The metric runs through every n from `shortest` to `lag` once: the largest n
    up to which every string is right.

    Baselines: the best constant knows how often each symbol is legal. A string asks 2n + 1 times,
    and a is legal at n + 1 of them, b at 2n - 1, T at one; with p the means of these shares over n,
    it scores the sum of the entropies of the p.

    Args:
        lag: the largest n.
        shortest: the smallest n.

    Source: Gers & Schmidhuber 2001, "LSTM recurrent networks learn simple context-free and
    context-sensitive languages".
    """

    lag: int = 10
    shortest: int = 1
    description: ClassVar[str] = "which symbols may come next in a^n b^n, with n up to lag"
    letters: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self, shortest=(1, self.lag))

    @property
    def score(self) -> Contiguous:
        return Contiguous(self.letters + 1)

    @property
    def levels(self) -> Levels:
        p = legal_shares(self.letters, self.shortest, self.lag)
        return Levels(float(-np.sum(p * np.log(p) + (1 - p) * np.log1p(-p))), solved=0.002)

    @property
    def constant(self) -> Array:
        p = legal_shares(self.letters, self.shortest, self.lag)
        return jnp.asarray(np.log(p) - np.log1p(-p), jnp.float32)

    def sample(self, key: Array, batch_size: int) -> Batch:
        """Draws strings: one-hot inputs [k lag + 2, B, k + 2], sets [T, B, k + 1], mask [T, B]."""
        return strings(
            jax.random.randint(key, (batch_size,), self.shortest, self.lag + 1),
            self.letters,
            self.lag,
        )

    def held_out(self) -> Batch:
        """The evaluation: every string there is."""
        return self.evaluation()

    def evaluation(self) -> Batch:
        """Every string once."""
        return strings(jnp.arange(self.shortest, self.lag + 1), self.letters, self.lag)

    def at_lag(self, lag: int) -> Self:
        """The same task up to another n; from the same n on,
        because the first that is wrong is what counts.
        """
        return dataclasses.replace(self, lag=lag)


@dataclasses.dataclass(frozen=True)
class AnBnCn(AnBn):
    """As a^n b^n, with n times c behind it, which no push-down automaton accepts.

    After the last b only c is legal, and T after the last c. A string asks 3n + 1 times, and a is
    legal at n + 1 of them, b at 2n - 1, c at n, T at one.

    Args:
        lag: the largest n.
        shortest: the smallest n.

    Source: as a^n b^n.
    """

    description: ClassVar[str] = "which symbols may come next in a^n b^n c^n, with n up to lag"
    letters: ClassVar[int] = 3


def legal_shares(letters: int, shortest: int, longest: int) -> np.ndarray:
    """At which share of the steps each letter and T are legal,
    in the mean over n, [letters + 1].
    """
    n = np.arange(shortest, longest + 1)
    legal = [n + 1, 2 * n - 1, *[n] * (letters - 2), np.ones_like(n)]
    return np.mean(np.array(legal) / (letters * n + 1), axis=1)


def strings(n: Array, letters: int, longest: int) -> Batch:
    """The strings with these n, [B], of as many letters, which all end at the last of
    `letters * longest + 2` steps.
    """
    T = letters * longest + 2
    # within the string: 0 at S, where the letters begin to count at 1
    step = jnp.arange(T)[:, None] - (T - 2 - letters * n)
    symbols = jnp.where(step > 0, (step - 1) // n + 1, 0)  # 0 is S, then the letters, then T
    following = jnp.where(step >= 0, step // n + 1, 0)[..., None]  # what comes next
    legal = (following == jnp.arange(1, letters + 2)) | (symbols == 1)[..., None] & (
        jnp.arange(1, letters + 2) < 3
    )
    mask = step >= 0
    scored = mask & (symbols <= letters)
    inputs = one_hot(symbols, letters + 2, mask)
    return Batch(
        inputs, jnp.where(scored[..., None], legal, False).astype(inputs.dtype), mask, scored
    )
