"""Recurrent networks in JAX: a cell is written once, as pure functions,
and everything else follows from that definition.

The rest stands in `jaxrnn.cells` (all cells, their parameters and carries), `jaxrnn.wrappers`
(cells around cells), `jaxrnn.sequences`, `jaxrnn.methods`, `jaxrnn.initializers`,
`jaxrnn.interop`, `jaxrnn.diagnostics`, `jaxrnn.online` and `jaxrnn.testing`; the Flax modules in
`jaxrnn.nnx` and `jaxrnn.linen`, which are imported when they are first asked for.
"""

import importlib
import importlib.metadata
from typing import Any

from jaxrnn import (
    cells,
    diagnostics,
    initializers,
    interop,
    methods,
    online,
    sequences,
    testing,
    wrappers,
)
from jaxrnn.affine import affine_scan
from jaxrnn.cell import Cell, carry_dtype, dot, gates, linear, zeros
from jaxrnn.cells import GRUCell, LSTMCell, RNNCell
from jaxrnn.devices import split_batch
from jaxrnn.initializers import Chrono
from jaxrnn.running import (
    explain,
    generate,
    initial_carry,
    stepper,
    unroll,
    unroll_carries,
    unroll_windows,
)
from jaxrnn.sequences import lengths_to_mask
from jaxrnn.stack import Stack


def __getattr__(name: str) -> Any:
    if name in ("linen", "nnx"):  # with Flax, which the rest does not need
        return importlib.import_module(f"jaxrnn.{name}")
    raise AttributeError(f"module 'jaxrnn' has no attribute {name!r}")


__version__ = importlib.metadata.version("jaxrnn")

__all__ = [
    "Cell",
    "Chrono",
    "GRUCell",
    "LSTMCell",
    "RNNCell",
    "Stack",
    "__version__",
    "affine_scan",
    "carry_dtype",
    "cells",
    "diagnostics",
    "dot",
    "explain",
    "gates",
    "generate",
    "initial_carry",
    "initializers",
    "interop",
    "lengths_to_mask",
    "linear",
    "methods",
    "online",
    "sequences",
    "split_batch",
    "stepper",
    "testing",
    "unroll",
    "unroll_carries",
    "unroll_windows",
    "wrappers",
    "zeros",
]
