"""Ways to run a cell over time, for `method=` of `jaxrnn.unroll`, and what one's own is made of.

`CuDNN` and `Persistent`, for one kind of hardware, are imported when they are asked for.
"""

from typing import Any

from jaxrnn.running.affine import Affine
from jaxrnn.running.derivative import Differentiable, Gradients
from jaxrnn.running.fused import Fused
from jaxrnn.running.method import Method, Refusal
from jaxrnn.running.newton import Newton
from jaxrnn.running.problem import Problem, Steps
from jaxrnn.running.scan import Scan

__all__ = [
    "Affine",
    "CuDNN",  # noqa: F822
    "Differentiable",
    "Fused",
    "Gradients",
    "Method",
    "Newton",
    "Persistent",  # noqa: F822
    "Problem",
    "Refusal",
    "Scan",
    "Steps",
]


def __getattr__(name: str) -> Any:
    if name == "CuDNN":
        from jaxrnn.hardware.cudnn import CuDNN

        return CuDNN
    if name == "Persistent":
        from jaxrnn.hardware.persistent import Persistent

        return Persistent
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
