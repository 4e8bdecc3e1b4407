"""Moving pattern: watch a small pattern bounce through a picture, and give the next frame."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from experiments.tasks.scores import SquaredError
from experiments.tasks.task import Batch, Levels, Task

PICTURE = 8  # pixels along each side
PATTERN = 3  # pixels along each side
WAY = PICTURE - PATTERN  # positions of the pattern along an axis, less one
BASELINE = 4.5 / 64 - (4.5 / 64) ** 2
UNDIRECTED = (0.64 * (4.5 - 6.25 / 4) + 0.32 * (4.5 - 5.25 / 2)) / 64


class Pixels(SquaredError):
    """The squared error per pixel, and the pictures that are right when rounded."""

    label = "every pixel right when rounded"

    def metric(self, outputs: Array, batch: Batch) -> Array:
        return jnp.mean(jnp.all((outputs > 0.5) == (batch.targets > 0.5), axis=(-3, -2, -1)))


@dataclasses.dataclass(frozen=True)
class MovingPattern(Task):
    """A 3 x 3 pattern of random pixels moves diagonally through a picture of 8 x 8
    and bounces off its edges.

    Each pixel of the pattern is 1 with probability 1/2. Along each axis it moves by one pixel per
    step, from a uniform phase of its way to and fro. The target is the frame that follows, the loss
    the squared error per pixel. One frame does not tell which way the pattern moves, two do.

    Baselines: a pixel is 1 with probability p = 4.5/64, so that the best constant for all pixels
    scores p - p^2. Who knows the last frame but not the directions takes the mean of the frames
    that may follow: 4 with probability 0.64, 2 with 0.32 (at one edge) and 1 in the corners. Two
    patterns shifted by (2, 0) share 3 places, by (2, 2) one, and random pixels agree on 1 in a
    quarter of the cases, so that a mean of two leaves 4.5 - (4.5 + 0.75) / 2 of squared error, one
    of four 4.5 - (4.5 + 0.75 + 0.75 + 0.25) / 4.

    Args:
        lag: T, how many frames are seen.

    Source: a small form of the moving digits of Srivastava et al. 2015, arXiv:1502.04681, on which
    Shi et al. 2015, arXiv:1506.04214, compare the convolutional LSTM.
    """

    lag: int = 10
    description: ClassVar[str] = (
        "the next frame of a 3 x 3 pattern that moves through 8 x 8 pixels; for convolutional cells"
    )
    spatial_shape: ClassVar[tuple[int, ...]] = (PICTURE, PICTURE)

    @property
    def score(self) -> Pixels:
        return Pixels()

    @property
    def levels(self) -> Levels:
        label = "the last frame known, but not the directions"
        return Levels(BASELINE, solved=BASELINE / 10, partial=UNDIRECTED, partial_label=label)

    @property
    def constant(self) -> Array:
        return jnp.array([4.5 / 64])

    def sample(self, key: Array, batch_size: int) -> Batch:
        """Draws sequences: inputs [lag, B, 8, 8, 1], targets [B, 8, 8, 1]."""
        key_pattern, key_phase = jax.random.split(key)
        pattern = jax.random.bernoulli(key_pattern, 0.5, (batch_size, PATTERN, PATTERN)).astype(
            jnp.float32
        )
        pattern = jnp.pad(pattern, ((0, 0), (0, WAY), (0, WAY)))
        phase = jax.random.randint(key_phase, (batch_size, 2), 0, 2 * WAY)
        phases = (phase + jnp.arange(self.lag + 1)[:, None, None]) % (2 * WAY)
        places = WAY - jnp.abs(WAY - phases)  # [lag + 1, B, 2], from 0 to WAY and back

        def frame(pattern: Array, place: Array) -> Array:
            return jnp.roll(pattern, place, axis=(0, 1))[..., None]

        frames = jax.vmap(jax.vmap(frame), in_axes=(None, 0))(pattern, places)
        return Batch(inputs=frames[:-1], targets=frames[-1])
