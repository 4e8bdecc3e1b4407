"""How outputs are judged: a loss and a metric, which is a share between 0 and 1, of one batch.

Both are means over the sequences, and of each sequence over those of its steps that count: a long
sequence weighs as much as a short one, so that the mean over a batch is that of its parts.
"""

import dataclasses
from typing import TYPE_CHECKING, Protocol

import jax
import jax.numpy as jnp
from jax import Array

if TYPE_CHECKING:
    from experiments.tasks.task import Batch


class Score(Protocol):
    """`outputs` are [B, *spatial_shape, output_size],
    or [T, B, ...] where the batch says which steps are scored.
    """

    @property
    def output_size(self) -> int: ...

    @property
    def label(self) -> str:
        """What the metric is."""
        ...

    def loss(self, outputs: Array, batch: "Batch") -> Array: ...

    def metric(self, outputs: Array, batch: "Batch") -> Array: ...


@dataclasses.dataclass(frozen=True)
class SquaredError:
    """The squared error, and how often every output of a step is `within` so much of its target."""

    output_size: int = 1
    within: float = 0.04

    @property
    def label(self) -> str:
        return f"error below {self.within:g}"

    def loss(self, outputs: Array, batch: "Batch") -> Array:
        return over_steps(_by_step((outputs - batch.targets) ** 2, batch), batch.scored)

    def metric(self, outputs: Array, batch: "Batch") -> Array:
        right = _by_step(jnp.abs(outputs - batch.targets) < self.within, batch) == 1
        return over_steps(right, judged(batch))


@dataclasses.dataclass(frozen=True)
class CrossEntropy:
    """The cross-entropy of one class in nats, and how often it is the likeliest."""

    output_size: int
    label: str = "accuracy"

    def loss(self, outputs: Array, batch: "Batch") -> Array:
        logs = jax.nn.log_softmax(outputs)
        return over_steps(
            -jnp.take_along_axis(logs, batch.targets[..., None], axis=-1)[..., 0], batch.scored
        )

    def metric(self, outputs: Array, batch: "Batch") -> Array:
        return over_steps(jnp.argmax(outputs, axis=-1) == batch.targets, judged(batch))


@dataclasses.dataclass(frozen=True)
class Sets:
    """The cross-entropy of a set of symbols, each in it or not, in nats per step;
    and the sequences whose sets are all right.

    Targets are 1 for what is in the set, and 0, [T, B, output_size].
    """

    output_size: int

    @property
    def label(self) -> str:
        return "every set of next symbols right"

    def loss(self, outputs: Array, batch: "Batch") -> Array:
        entropies = jax.nn.softplus(outputs) - outputs * batch.targets
        return over_steps(jnp.sum(entropies, axis=-1), batch.scored)

    def metric(self, outputs: Array, batch: "Batch") -> Array:
        return jnp.mean(self.accepted(outputs, batch))

    def accepted(self, outputs: Array, batch: "Batch") -> Array:
        """Which sequences have only right sets, [B]."""
        right = jnp.all((outputs > 0) == (batch.targets > 0.5), axis=-1)
        steps = judged(batch)
        return jnp.all(right if steps is None else right | ~steps, axis=0)


def judged(batch: "Batch") -> Array | None:
    return batch.scored if batch.judged is None else batch.judged


def over_steps(values: Array, steps: Array | None) -> Array:
    """The mean over the sequences of the mean over those of their steps that count,
    [T, B] both; all of `values` if None.
    """
    return jnp.mean(values if steps is None else jnp.mean(values, axis=0, where=steps))


def _by_step(values: Array, batch: "Batch") -> Array:
    """The mean over everything behind the batch axis, [B] or [T, B]."""
    axes = 1 if batch.scored is None else 2
    return jnp.mean(values, axis=tuple(range(axes, values.ndim)))
