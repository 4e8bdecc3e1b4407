"""MNIST and Fashion-MNIST: tell digits or clothes, read row by row or pixel by pixel."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.tasks import data
from experiments.tasks.scores import CrossEntropy
from experiments.tasks.task import Batch, Levels, Task

LAGS = (28, 196, 784)


@dataclasses.dataclass(frozen=True)
class _Pictures(Task):
    """What both share."""

    lag: int = 196
    permuted: bool = False
    sized_by_lag: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lag not in LAGS:
            raise ValueError(f"lag must be one of {LAGS}, got {self.lag}.")
        if self.permuted and self.lag == 28:
            raise ValueError(
                "permuted must be False at lag 28: it is the pixels that are "
                "permuted, not the rows."
            )

    @staticmethod
    def pictures() -> data.Split:
        """All of them."""
        raise NotImplementedError

    @property
    def score(self) -> CrossEntropy:
        return CrossEntropy(10)

    @property
    def levels(self) -> Levels:
        return data.class_levels(self.pictures().training.classes)

    @property
    def constant(self) -> Array:
        return jnp.asarray(data.log_shares(self.pictures().training.classes), jnp.float32)

    def sample(self, key: Array, batch_size: int) -> Batch:
        """Draws pictures: inputs [lag, B, 1], or [28, B, 28], classes [B]."""
        return self.read(*data.draw(key, self.pictures().training, batch_size))

    def held_out(self) -> Batch:
        return self.read(*map(jnp.asarray, self.pictures().held_out))

    def evaluation(self) -> Batch:
        """The test part."""
        return self.read(*map(jnp.asarray, self.pictures().test))

    def read(self, pictures: Array, classes: Array) -> Batch:
        """Pictures as sequences."""
        pixels = pictures.astype(jnp.float32) / 255
        if self.lag == 196:
            pixels = jnp.mean(pixels.reshape(-1, 14, 2, 14, 2), axis=(2, 4))
        steps = jnp.moveaxis(pixels.reshape(len(classes), self.lag, -1), 0, 1)
        order = (
            np.random.default_rng(0).permutation(self.lag) if self.permuted else np.arange(self.lag)
        )
        return Batch(steps[order], classes)


@dataclasses.dataclass(frozen=True)
class Mnist(_Pictures):
    """5,000 digits of MNIST, 28 x 28 pixels from 0 to 1, row by row from the top left;
    the class is wanted at the last step.

    Training draws from 350 pictures of each class, with replacement; it is checked on 50 of each,
    and 100 are the evaluation, in a fixed split.

    Baselines: ln 10, because all classes are as frequent.

    Args:
        lag: 28 (a row per step), 196 (the mean of 2 x 2 pixels per step) or 784 (a pixel per step).
        permuted: whether the steps stand in a fixed random order; not for rows.

    Source: LeCun et al. 1998; Le et al. 2015, arXiv:1504.00941, section 4.2, for sequences of
    pixels. Differs: 5,000 pictures.
    """

    description: ClassVar[str] = "which digit was read, from 28 x 28 pixels in lag steps"

    @staticmethod
    def pictures() -> data.Split:
        return data.mnist()


@dataclasses.dataclass(frozen=True)
class FashionMnist(_Pictures):
    """70,000 pictures of clothes, 28 x 28 pixels from 0 to 1, row by row from the top left;
    the class is wanted at the last step.

    Training draws from 59,000 pictures, with replacement; it is checked on 100 more of each class,
    and the 10,000 that are kept for it are the evaluation.

    Baselines: ln 10, because all classes are as frequent.

    Args:
        lag: 28 (a row per step), 196 (the mean of 2 x 2 pixels per step) or 784 (a pixel per step).
        permuted: whether the steps stand in a fixed random order; not for rows.

    Source: Xiao, Rasul & Vollgraf 2017, arXiv:1708.07747.
    """

    description: ClassVar[str] = "which of ten pieces of clothing was read, in lag steps"

    @staticmethod
    def pictures() -> data.Split:
        return data.fashion_mnist()
