"""Temporal order: remember two symbols of a long sequence, and in which order they came."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from experiments.tasks.task import Batch

ALPHABET = "abcdXYBE"


@dataclasses.dataclass(frozen=True)
class TemporalOrder:
    """Experiment 6a of Hochreiter & Schmidhuber 1997, with all lengths in proportion to `lag`.

    A sequence begins with E and ends with the trigger B. At steps t1 and t2, counted from E at 0, stands X or Y, elsewhere a
    random one of a, b, c, d. The class, 2 [first is Y] + [second is Y], is wanted at the last step. With L = lag:

        length ~ U{L..L + L/10},  t1 ~ U{L/10..L/5},  t2 ~ U{L/2..L/2 + L/10}        (whole-number division)

    so that lag=100 is the paper's. Sequences end at the last of the L + L/10 steps, where all are read out; the padding
    before them is masked.

    Baselines: ln 4 for the best constant (accuracy 1/4), ln 2 for one who knows one of the two symbols.

    Args:
        lag: L, at least 10.
    """

    lag: int = 100
    description: ClassVar[str] = "which of X and Y came first and second, in a sequence of length lag (4 classes)"
    spatial_shape: ClassVar[tuple[int, ...]] = ()
    input_size: ClassVar[int] = len(ALPHABET)
    output_size: ClassVar[int] = 4
    constant: ClassVar[tuple[float, ...]] = (0.0, 0.0, 0.0, 0.0)
    baseline: ClassVar[float] = math.log(4)
    partial: ClassVar[float] = math.log(2)
    partial_label: ClassVar[str] = "one of the two symbols known"
    solved: ClassVar[float] = 0.05
    metric_label: ClassVar[str] = "accuracy"

    def sample(self, key: Array, batch_size: int) -> Batch:
        """Draws sequences: one-hot inputs [lag + lag // 10, B, 8], zero in the padding, classes [B], mask [T, B]."""
        L, tenth, shape = self.lag, self.lag // 10, (batch_size,)
        T = L + tenth
        key_n, key_1, key_2, key_x, key_y = jax.random.split(key, 5)
        start = T - jax.random.randint(key_n, shape, L, T + 1)
        t1 = jax.random.randint(key_1, shape, tenth, L // 5 + 1)
        t2 = jax.random.randint(key_2, shape, L // 2, L // 2 + tenth + 1)
        first, second = jax.random.randint(key_y, (2, batch_size), 0, 2)
        t = jnp.arange(T)[:, None] - start  # the step within the sequence, negative in the padding
        symbols = jax.random.randint(key_x, (T, batch_size), 0, 4)
        symbols = jnp.where(t == t1, 4 + first, jnp.where(t == t2, 4 + second, symbols))
        symbols = jnp.where(t == 0, 7, symbols).at[-1].set(6)
        inputs = jnp.where((t >= 0)[..., None], jax.nn.one_hot(symbols, len(ALPHABET)), 0)
        return Batch(inputs=inputs, targets=2 * first + second, mask=t >= 0)

    def loss(self, outputs: Array, targets: Array) -> Array:
        logs = jax.nn.log_softmax(outputs)
        return -jnp.mean(jnp.take_along_axis(logs, targets[:, None], axis=1))

    def metric(self, outputs: Array, targets: Array) -> Array:
        return jnp.mean(jnp.argmax(outputs, axis=1) == targets)
