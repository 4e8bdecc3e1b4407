"""What a task is."""

import dataclasses
import functools
import math
from collections.abc import Iterable
from typing import ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.tasks.scores import Score

EVALUATION = 1024  # sequences of the fixed evaluation batch
HELD_OUT = 256  # of that on which a training is checked


class Batch(NamedTuple):
    inputs: Array  # [T, B, *spatial_shape, input_size]
    targets: Array  # of the last step, [B, ...]; where `scored` is given, of all steps, [T, B, ...]
    # [T, B], True at the steps of the sequence; the last step always is one
    mask: Array | None = None
    # [T, B], True at the steps that enter the loss; None: the last step alone
    scored: Array | None = None
    # [T, B], True at the steps that enter the metric; None: those that enter the loss
    judged: Array | None = None

    @property
    def batch_axes(self) -> "Batch":
        """Where the batch axis of each field is."""
        return Batch(inputs=1, targets=int(self.scored is not None), mask=1, scored=1, judged=1)  # pyrefly: ignore


class Levels(NamedTuple):
    baseline: float  # the loss of the best outputs that do not depend on the inputs
    solved: float  # a task is solved when the held-out loss stays below this
    partial: float | None = None  # the loss of one who knows part of the answer
    partial_label: str = ""  # what that is


@dataclasses.dataclass(frozen=True)
class Task:
    """Plain values, the first of them `lag`, the difficulty: about how far back the answer lies,
    in steps.

    A task whose sequences differ in length has a field `shortest`, from which on they are drawn.
    """

    lag: int
    description: ClassVar[str]  # one line
    # of vectors; the height and width of pictures, for convolutional cells
    spatial_shape: ClassVar[tuple[int, ...]] = ()
    least_lag: ClassVar[int] = 2
    # whether the lag decides how large inputs or outputs are: no test at another lag
    sized_by_lag: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.lag < self.least_lag:
            raise ValueError(
                f"lag must be at least {self.least_lag} for this task, got {self.lag}."
            )

    @property
    def score(self) -> Score:
        """How outputs are judged."""
        raise NotImplementedError

    @property
    def levels(self) -> Levels:
        """The losses that mean something, in closed form."""
        raise NotImplementedError

    @property
    def constant(self) -> Array:
        """The best outputs that do not depend on the inputs, [output_size],
        or [T, 1, output_size] where they differ by step.
        """
        return jnp.zeros(self.score.output_size)

    def evaluation_baseline(self) -> float:
        """What the best constant scores on the evaluation batch: the baseline,
        but for the luck of the draw.
        """
        batch = evaluation_batch(self)
        shape = batch.inputs.shape[:2] if batch.scored is not None else batch.inputs.shape[1:2]
        outputs = jnp.broadcast_to(
            self.constant, (*shape, *self.spatial_shape, self.score.output_size)
        )
        return float(self.score.loss(outputs, batch))

    @property
    def input_size(self) -> int:
        return jax.eval_shape(lambda key: self.sample(key, 1).inputs, jax.random.key(0)).shape[-1]

    def sample(self, key: Array, batch_size: int) -> Batch:
        """Draws `batch_size` sequences; the same key gives the same sequences."""
        raise NotImplementedError

    def evaluation(self) -> Batch:
        """The sequences on which a trained model is judged: always the same,
        and drawn with a key that no seed uses.
        """
        return self.sample(jax.random.key(2**31 - 1), EVALUATION)

    def held_out(self) -> Batch:
        """The sequences on which a training is checked as it goes on, which says when it has
        solved the task: neither trained on nor those of the evaluation."""
        return self.sample(jax.random.key(2**31 - 2), HELD_OUT)

    def at_lag(self, lag: int) -> Self:
        """The same task at another lag; where sequences differ in length, and it is longer, with
        only those that are longer.
        """
        longer = {"shortest": self.lag + 1} if hasattr(self, "shortest") and lag > self.lag else {}
        return dataclasses.replace(self, lag=lag, **longer)


@functools.partial(jax.jit, static_argnums=0)
def evaluation_batch(task: Task) -> Batch:
    """`task.evaluation()`, compiled once."""
    return task.evaluation()


@functools.partial(jax.jit, static_argnums=0)
def held_out_batch(task: Task) -> Batch:
    """`task.held_out()`, compiled once."""
    return task.held_out()


def check_options(task: Task, **bounds: tuple[float, float]) -> None:
    """Raises ValueError unless each named field lies within its bounds, both of them legal."""
    for name, (low, high) in bounds.items():
        if not low <= getattr(task, name) <= high:
            raise ValueError(f"{name} must be from {low} to {high}, got {getattr(task, name)}.")


def choice(task: Task, name: str, known: Iterable[str]) -> None:
    """Raises ValueError unless the named field is one of those."""
    if getattr(task, name) not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(task, name)!r}.")


def entropy(shares: np.ndarray) -> float:
    """The mean entropy of distributions [n, classes], in nats."""
    logs = np.log(shares, where=shares > 0, out=np.zeros_like(shares))
    return -math.fsum(np.ravel(shares * logs)) / len(shares)


def log_shares(shares: np.ndarray) -> Array:
    """The best constant of each step, [T, 1, classes], from how often each class comes there."""
    return jnp.asarray(np.log(np.maximum(shares, 1e-12)), jnp.float32)[:, None]


def end_together(symbols: Array, lengths: Array) -> tuple[Array, Array]:
    """Sequences moved to the end of their time axis.

    Args:
        symbols: [T, B, ...], the sequences from step 0 on.
        lengths: [B].

    Returns:
        The sequences, which now end at the last step, with whatever followed them before them; and
        the mask, [T, B].
    """
    T = symbols.shape[0]
    t = jnp.arange(T)[:, None] - (T - lengths)  # the step within the sequence
    index = (t % T).reshape(*t.shape, *[1] * (symbols.ndim - 2))
    return jnp.take_along_axis(symbols, index, axis=0), t >= 0


def one_hot(symbols: Array, size: int, mask: Array | None = None) -> Array:
    """[..., size]; zero where masked."""
    return jax.nn.one_hot(symbols if mask is None else jnp.where(mask, symbols, -1), size)
