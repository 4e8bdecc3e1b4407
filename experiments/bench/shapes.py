"""What is measured: cells and shapes, and the arithmetic that they ask for."""

import re
from typing import NamedTuple

from experiments.config import UsageError

GATES = {"lstm": 4, "gru": 3, "rnn": 1}


class Shape(NamedTuple):
    B: int
    T: int
    I: int
    H: int
    layers: int = 1
    bidirectional: bool = False
    ragged: bool = False  # sequences of lengths between T/4 and T

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    def __str__(self) -> str:
        words = [f"{self.B}x{self.T}x{self.I}x{self.H}"]
        words += [f"{self.layers}layers"] * (self.layers > 1)
        words += ["bidirectional"] * self.bidirectional
        return "-".join(words + ["ragged"] * self.ragged)


class Job(NamedTuple):
    cell: str  # one of GATES
    shape: Shape

    @property
    def states(self) -> int:
        """How many arrays the state has: h, and c for an LSTM."""
        return 2 if self.cell == "lstm" else 1

    @property
    def widths(self) -> list[int]:
        """The input size of each layer."""
        return [self.shape.I] + [self.shape.H * self.shape.directions] * (self.shape.layers - 1)


CPU = (
    Shape(1, 100, 32, 32),
    Shape(1, 1024, 64, 64),
    Shape(16, 128, 64, 128),
    Shape(8, 1024, 32, 32),
    Shape(8, 2048, 64, 64),
    Shape(32, 128, 128, 256, ragged=True),
    Shape(32, 128, 128, 256, layers=2),
    Shape(32, 128, 128, 256, bidirectional=True),
    Shape(32, 512, 128, 128),
    Shape(64, 128, 256, 256),
    Shape(32, 128, 512, 512),
)
GPU = (
    Shape(16, 1024, 768, 768),
    Shape(32, 512, 128, 128),
    Shape(64, 256, 512, 512),
    Shape(64, 256, 512, 512, layers=2),
    Shape(32, 256, 256, 256, bidirectional=True),
    Shape(128, 128, 1024, 1024),
    Shape(2, 1024, 768, 768),
    Shape(8, 1024, 768, 768),
    Shape(64, 1024, 768, 768),
    Shape(256, 1024, 768, 768),
)
QUICK = {
    "cpu": (Shape(1, 100, 32, 32), Shape(16, 128, 64, 128)),
    "gpu": (Shape(16, 1024, 768, 768), Shape(32, 512, 128, 128)),
}
MATRIX = {"cpu": CPU, "gpu": GPU}


def parse(text: str) -> Shape:
    """The shape that `str(shape)` writes: "32x128x128x256-2layers-bidirectional-ragged",
    each word after the first optional.

    Raises:
        UsageError: the text is no shape.
    """
    found = re.fullmatch(
        r"(\d+)x(\d+)x(\d+)x(\d+)(?:-(\d+)layers)?(-bidirectional)?(-ragged)?", text
    )
    if not found or "0" in found.groups():
        raise UsageError(
            "a shape is BxTxIxH, as in 32x512x128x128 or "
            f"32x128x128x256-2layers-bidirectional, got {text!r}."
        )
    B, T, I, H, layers, bidirectional, ragged = found.groups()
    return Shape(
        int(B), int(T), int(I), int(H), int(layers or 1), bool(bidirectional), bool(ragged)
    )


def flops(job: Job, backward: bool) -> float:
    """Floating-point operations in the matrix products: 2GBTH(I + H) forward for G gates, three
    times that with the backward.

    Of a ragged job those of all T steps count, since what is padded is computed too.
    """
    one = sum(2 * GATES[job.cell] * job.shape.H * (width + job.shape.H) for width in job.widths)
    return (3 if backward else 1) * one * job.shape.B * job.shape.T * job.shape.directions
