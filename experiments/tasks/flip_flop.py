"""Flip-flop: say at every step which sign each of three channels has seen last."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from experiments.tasks.scores import SquaredError
from experiments.tasks.task import Batch, Levels, Task, check_options

CHANNELS = 3


@dataclasses.dataclass(frozen=True)
class FlipFlop(Task):
    """Each of three channels gives a pulse of +1 or -1 at step 0, and then with probability p at
    each step, and otherwise 0.

    The target of every step and channel is the sign of the last pulse.

    Baselines: 1 for the best constant, 0; (1 - p) (T - 1) / T for one who repeats the pulses and
    says 0 between them.

    Args:
        lag: T, the length of the sequence.
        pulse: p, the probability of a pulse.

    Source: Sussillo & Barak 2013, "Opening the black box"; the numbers are those of its
    reproductions.
    """

    lag: int = 64
    pulse: float = 0.2
    description: ClassVar[str] = (
        "the sign of the last pulse of each of three channels, over lag steps"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self, pulse=(0, 1))

    @property
    def score(self) -> SquaredError:
        return SquaredError(CHANNELS, within=0.5)

    @property
    def levels(self) -> Levels:
        echo = (1 - self.pulse) * (self.lag - 1) / self.lag
        return Levels(1.0, solved=0.02, partial=echo, partial_label="the pulses repeated")

    def sample(self, key: Array, batch_size: int) -> Batch:
        """Draws sequences: inputs [lag, B, 3], targets [lag, B, 3]."""
        key_p, key_s = jax.random.split(key)
        shape = (self.lag, batch_size, CHANNELS)
        pulses = jax.random.bernoulli(key_p, self.pulse, shape).at[0].set(True)
        signs = jax.random.rademacher(key_s, shape, float)
        # the step of the last pulse
        last = jax.lax.cummax(jnp.where(pulses, jnp.arange(self.lag)[:, None, None], 0), axis=0)
        targets = jnp.take_along_axis(signs, last, axis=0)
        return Batch(jnp.where(pulses, signs, 0.0), targets, scored=jnp.full(shape[:2], True))
