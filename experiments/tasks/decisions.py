"""Decisions by evidence that comes in bits: the tasks that are trained in animals and networks."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from experiments.tasks.scores import CrossEntropy
from experiments.tasks.task import Batch, Levels, Task, check_options, one_hot


def evidence(key: Array, coherence: float, shape: tuple[int, ...]) -> Array:
    """Noise N(0, 1) beside a mean that is one of +-coherence, +-coherence / 2 and 0 for each
    sequence; [T, ...].
    """
    key_c, key_n = jax.random.split(key)
    strengths = jnp.array([-1, -0.5, 0, 0.5, 1]) * coherence
    return jax.random.choice(key_c, strengths, shape[1:]) + jax.random.normal(key_n, shape)


def more_than_0(shown: Array) -> Array:
    """Whether the sum over time is positive: 0 or 1."""
    return (jnp.sum(shown, axis=0) > 0).astype(jnp.int32)


@dataclasses.dataclass(frozen=True)
class _Decision(Task):
    """What both decisions by evidence share."""

    lag: int = 50
    coherence: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self, coherence=(0, 10))

    @property
    def score(self) -> CrossEntropy:
        return CrossEntropy(2)

    @property
    def levels(self) -> Levels:
        return Levels(math.log(2), solved=0.1)


@dataclasses.dataclass(frozen=True)
class PerceptualDecision(_Decision):
    """Noisy evidence for one of two choices comes at each step; the answer, at the last, is the
    sign of all that was shown.

    Baselines: ln 2 for any constant (accuracy 1/2). Who forgets early evidence errs where the sum
    is near 0, and there are sequences without a mean.

    Args:
        lag: T, the length.
        coherence: the largest mean of the evidence, in standard deviations of its noise.

    Source: Gold & Shadlen 2007, doi:10.1146/annurev.neuro.29.051605.113038; as a task for networks
    Song et al. 2016, doi:10.1371/journal.pcbi.1004792. Differs: the answer is what was shown, not
    the mean of which it was drawn.
    """

    description: ClassVar[str] = "the sign of noisy evidence on the whole, over lag steps"

    def sample(self, key: Array, batch_size: int) -> Batch:
        """Draws sequences: inputs [lag, B, 1], choices [B]."""
        shown = evidence(key, self.coherence, (self.lag, batch_size))
        return Batch(shown[..., None], more_than_0(shown))


@dataclasses.dataclass(frozen=True)
class ContextDecision(_Decision):
    """Two streams of evidence, of which the first step says which one counts: the answer, at the
    last, is the sign of all that this one showed.

    The first two inputs are the evidence; the other two say at step 0 which stream counts, and are
    0 after that.

    Baselines: ln 2 for any constant (accuracy 1/2), and for one who follows one stream always or
    the sum of both more than half of it.

    Args:
        lag: T, the length, of which the first step has no evidence.
        coherence: as in `PerceptualDecision`, of each stream for itself.

    Source: Mante et al. 2013, doi:10.1038/nature12742. Differs: the context is told once, so that
    it is to be remembered; the answer is what was shown.
    """

    description: ClassVar[str] = (
        "the sign of one of two streams of evidence over lag steps, told at the first which"
    )

    def sample(self, key: Array, batch_size: int) -> Batch:
        """Draws sequences: inputs [lag, B, 4], choices [B]."""
        key_c, key_e = jax.random.split(key)
        shown = evidence(key_e, self.coherence, (self.lag, batch_size, 2)).at[0].set(0)
        context = jax.random.randint(key_c, (batch_size,), 0, 2)
        choices = jnp.take_along_axis(more_than_0(shown), context[:, None], axis=1)[:, 0]
        told = jnp.zeros_like(shown).at[0].set(one_hot(context, 2))
        return Batch(jnp.concatenate([shown, told], axis=-1), choices)


@dataclasses.dataclass(frozen=True)
class DelayedMatch(Task):
    """One of a few symbols at the first step, noise for the delay, and a symbol at the last: are
    they the same?

    Baselines: ln 2 for any constant, and for one who sees the last symbol alone (accuracy 1/2).

    Args:
        lag: steps from the first symbol to the last.
        symbols: how many there are.
        noise: the standard deviation of the noise on every input, at every step.

    Source: delayed match to sample, as in Miller et al. 1996, J. Neuroscience 16; as a task for
    networks Yang et al. 2019, doi:10.1038/s41593-018-0310-2.
    """

    lag: int = 50
    symbols: int = 4
    noise: float = 0.1
    description: ClassVar[str] = "whether the last symbol is that of lag steps before, over noise"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self, symbols=(2, 1000), noise=(0, 0.1))

    @property
    def score(self) -> CrossEntropy:
        return CrossEntropy(2)

    @property
    def levels(self) -> Levels:
        return Levels(math.log(2), solved=0.05)

    def sample(self, key: Array, batch_size: int) -> Batch:
        """Draws sequences: inputs [lag + 1, B, symbols], 1 where they match, [B]."""
        key_s, key_m, key_o, key_n = jax.random.split(key, 4)
        first = jax.random.randint(key_s, (batch_size,), 0, self.symbols)
        match = jax.random.randint(key_m, (batch_size,), 0, 2)
        others = (first + jax.random.randint(key_o, (batch_size,), 1, self.symbols)) % self.symbols
        last = jnp.where(match == 1, first, others)
        shape = (self.lag + 1, batch_size, self.symbols)
        inputs = self.noise * jax.random.normal(key_n, shape)
        inputs = inputs.at[0].add(one_hot(first, self.symbols))
        return Batch(inputs.at[-1].add(one_hot(last, self.symbols)), match)
