"""Digits: tell handwritten digits of 8 x 8 pixels, read piece by piece."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jax import Array

from experiments.tasks import data
from experiments.tasks.scores import CrossEntropy
from experiments.tasks.task import Batch, Levels, Task


@dataclasses.dataclass(frozen=True)
class Digits(Task):
    """The 8 x 8 digits of scikit-learn, row by row from the top left,
    in `lag` steps of 64 / lag pixels, from 0 to 1.

    The class is wanted at the last step. Training draws from seven tenths of the pictures, with
    replacement; it is checked on one tenth, and two are the evaluation. The split is fixed, and
    the same for every class.

    Baselines: the entropy of the classes of the training pictures, about ln 10.

    Args:
        lag: a divisor of 64; 64 gives one pixel per step, 8 one row.

    Source: Alpaydin & Kaynak 1998, "Optical recognition of handwritten digits", the test part, as
    in scikit-learn.
    """

    lag: int = 64
    description: ClassVar[str] = "which digit was read, from 8 x 8 pixels in lag steps"
    sized_by_lag: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if 64 % self.lag:
            raise ValueError(f"lag must divide 64, the number of pixels, got {self.lag}.")

    @property
    def score(self) -> CrossEntropy:
        return CrossEntropy(10)

    @property
    def levels(self) -> Levels:
        return data.class_levels(data.digits().training.classes)

    @property
    def constant(self) -> Array:
        return jnp.asarray(data.log_shares(data.digits().training.classes), jnp.float32)

    def sample(self, key: Array, batch_size: int) -> Batch:
        """Draws pictures: inputs [lag, B, 64 / lag], classes [B]."""
        return self.read(*data.draw(key, data.digits().training, batch_size))

    def held_out(self) -> Batch:
        return self.read(*map(jnp.asarray, data.digits().held_out))

    def evaluation(self) -> Batch:
        """The fifth of the pictures that is kept for it."""
        return self.read(*map(jnp.asarray, data.digits().test))

    def read(self, pictures: Array, classes: Array) -> Batch:
        """Pictures as sequences."""
        steps = pictures.reshape(len(classes), self.lag, -1).astype(jnp.float32) / 16
        return Batch(jnp.moveaxis(steps, 0, 1), classes)
