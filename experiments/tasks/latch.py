"""Latch: remember the sign of the first inputs while noise passes."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from experiments.tasks.scores import CrossEntropy
from experiments.tasks.task import Batch, Levels, Task, check_options, end_together

DEVIATION = math.sqrt(0.2)  # of the noise: the paper gives its variance


@dataclasses.dataclass(frozen=True)
class Latch(Task):
    """Experiments 3a and 3b of Hochreiter & Schmidhuber 1997: the two-sequence problem with noise.

    The first `informative` numbers are all 1 in class 1 and all -1 in class 0, the rest is noise of
    N(0, 0.2), 0.2 being the variance; the class is wanted at the last step. The length is uniform
    in lag to lag + lag // 10.

    Baselines: ln 2 for any constant (accuracy 1/2). One whose weights are guessed at random may
    solve it: it shows that a cell works at all, not that it is better than others.

    Args:
        lag: the least length.
        informative: N, the steps that tell the class, fewer than the lag.
        noisy: whether the noise is added to these too (3b); with N = 1 the best of all then scores
            0.035.

    Source: Hochreiter & Schmidhuber 1997, section 5.3, after Bengio et al. 1994. Differs:
    cross-entropy instead of the squared error.
    """

    lag: int = 100
    informative: int = 3
    noisy: bool = False
    description: ClassVar[str] = (
        "the sign of the first few of lag numbers, the rest of which are noise"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self, informative=(1, self.lag - 1))

    @property
    def score(self) -> CrossEntropy:
        return CrossEntropy(2)

    @property
    def levels(self) -> Levels:
        return Levels(math.log(2), solved=0.05)

    def sample(self, key: Array, batch_size: int) -> Batch:
        """Draws sequences: inputs [lag + lag // 10, B, 1], zero in the padding, classes [B],
        mask [T, B].
        """
        most = self.lag + self.lag // 10
        key_n, key_x, key_y = jax.random.split(key, 3)
        lengths = jax.random.randint(key_n, (batch_size,), self.lag, most + 1)
        classes = jax.random.randint(key_y, (batch_size,), 0, 2)
        noise = DEVIATION * jax.random.normal(key_x, (most, batch_size))
        signs = 2 * classes.astype(noise.dtype) - 1
        told = signs + (noise if self.noisy else 0)
        values = jnp.where(jnp.arange(most)[:, None] < self.informative, told, noise)
        values, mask = end_together(values, lengths)
        return Batch(jnp.where(mask, values, 0)[..., None], classes, mask)
