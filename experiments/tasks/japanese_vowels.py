"""Japanese Vowels: tell nine speakers by how they say two vowels."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jax import Array

from experiments.tasks import data
from experiments.tasks.scores import CrossEntropy
from experiments.tasks.task import Batch, Levels, Task, end_together

LONGEST = 29


@dataclasses.dataclass(frozen=True)
class JapaneseVowels(Task):
    """Utterances of 7 to 29 steps with 12 coefficients each (LPC cepstra); the speaker is wanted at
    the last step. Shorter ones come late, and the mask says from when on.

    Training draws from 24 of the 30 utterances of each speaker, with replacement; it is checked on
    the other 6, and the evaluation is the 370 that were recorded to be one.

    Baselines: ln 9, because all speakers are as frequent in training.

    Args:
        lag: 29, the length of the longest utterance.

    Source: Kudo, Toyama & Shimbo 1999, "Multidimensional curve classification using passing-through
    regions".
    """

    lag: int = LONGEST
    description: ClassVar[str] = "which of nine speakers says two vowels, in 7 to 29 steps"

    def __post_init__(self) -> None:
        if self.lag != LONGEST:
            raise ValueError(f"lag must be {LONGEST}, the longest utterance, got {self.lag}.")

    @property
    def score(self) -> CrossEntropy:
        return CrossEntropy(9)

    @property
    def levels(self) -> Levels:
        return data.class_levels(data.japanese_vowels().training.classes)

    @property
    def constant(self) -> Array:
        return jnp.asarray(data.log_shares(data.japanese_vowels().training.classes), jnp.float32)

    def sample(self, key: Array, batch_size: int) -> Batch:
        """Draws utterances: inputs [29, B, 12], speakers [B], mask [29, B]."""
        return self.read(*data.draw(key, data.japanese_vowels().training, batch_size))

    def held_out(self) -> Batch:
        return self.read(*map(jnp.asarray, data.japanese_vowels().held_out))

    def evaluation(self) -> Batch:
        """The test part."""
        return self.read(*map(jnp.asarray, data.japanese_vowels().test))

    @staticmethod
    def read(values: Array, speakers: Array) -> Batch:
        """Utterances [B, 29, 12] with NaN behind their end as sequences that end together."""
        steps = jnp.moveaxis(values, 0, 1)
        lengths = jnp.sum(~jnp.isnan(steps[..., 0]), axis=0)
        inputs, mask = end_together(jnp.nan_to_num(steps), lengths)
        return Batch(inputs, speakers, mask=mask)
