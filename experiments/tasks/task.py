"""What a task is."""

from typing import ClassVar, NamedTuple, Protocol

from jax import Array


class Batch(NamedTuple):
    inputs: Array  # [T, B, *spatial_shape, input_size]
    targets: Array  # [B, *spatial_shape, output_size], or [B] classes
    mask: Array | None = None  # [T, B], True at the steps of the sequence; the last step always is one


class Task(Protocol):
    """A frozen dataclass of plain values. `lag` is the difficulty: about how far back the answer lies, in steps."""

    description: ClassVar[str]  # one line
    spatial_shape: ClassVar[tuple[int, ...]]  # () for vectors; the height and width of pictures, for convolutional cells
    input_size: ClassVar[int]
    output_size: ClassVar[int]
    constant: ClassVar[tuple[float, ...]]  # the best outputs that do not depend on the inputs
    baseline: ClassVar[float]  # the loss that they score
    partial: ClassVar[float]  # the loss of one who knows half of the answer
    partial_label: ClassVar[str]
    solved: ClassVar[float]  # a task is solved when the mean training loss falls below this
    metric_label: ClassVar[str]

    def __init__(self, lag: int) -> None: ...

    @property
    def lag(self) -> int: ...

    def sample(self, key: Array, batch_size: int) -> Batch:
        """Draws `batch_size` sequences; the same key gives the same sequences."""
        ...

    def loss(self, outputs: Array, targets: Array) -> Array:
        """The mean loss of the outputs at the last step, [B, *spatial_shape, output_size]."""
        ...

    def metric(self, outputs: Array, targets: Array) -> Array:
        """The share of correct sequences."""
        ...
