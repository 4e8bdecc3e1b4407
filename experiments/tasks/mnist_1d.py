"""MNIST-1D: tell ten noisy curves."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jax import Array

from experiments.tasks import data
from experiments.tasks.scores import CrossEntropy
from experiments.tasks.task import Batch, Levels, Task

LENGTH = 40


@dataclasses.dataclass(frozen=True)
class Mnist1D(Task):
    """Curves of 40 values, made from ten templates by padding, scaling, shifting, shearing and
    noise; the class at the last step.

    Training draws from 4,000 of them, with replacement; the other 1,000 are the evaluation. They
    are those of the paper's seed.

    Baselines: the entropy of the classes of the training curves, about ln 10.

    Args:
        lag: 40, the length of the curves.
        shuffled: whether the steps stand in a fixed random order.

    Source: Greydanus & Kobak 2024, arXiv:2011.14439, whose generator makes them.
    """

    lag: int = LENGTH
    shuffled: bool = False
    description: ClassVar[str] = "which of ten noisy curves of 40 steps was read"

    def __post_init__(self) -> None:
        if self.lag != LENGTH:
            raise ValueError(f"lag must be {LENGTH}, the length of the curves, got {self.lag}.")

    @property
    def score(self) -> CrossEntropy:
        return CrossEntropy(10)

    @property
    def levels(self) -> Levels:
        return data.class_levels(data.mnist_1d(self.shuffled).training.classes)

    @property
    def constant(self) -> Array:
        return jnp.asarray(
            data.log_shares(data.mnist_1d(self.shuffled).training.classes), jnp.float32
        )

    def sample(self, key: Array, batch_size: int) -> Batch:
        """Draws curves: inputs [40, B, 1], classes [B]."""
        curves, classes = data.draw(key, data.mnist_1d(self.shuffled).training, batch_size)
        return Batch(curves.T[..., None], classes)

    def held_out(self) -> Batch:
        return self.read(data.mnist_1d(self.shuffled).held_out)

    def evaluation(self) -> Batch:
        """The test part."""
        return self.read(data.mnist_1d(self.shuffled).test)

    @staticmethod
    def read(examples: data.Examples) -> Batch:
        """Curves as sequences."""
        curves, classes = examples
        return Batch(jnp.asarray(curves.T[..., None]), jnp.asarray(classes))
