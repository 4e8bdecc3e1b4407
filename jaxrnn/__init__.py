"""Recurrent networks in JAX: a cell is written once, as pure functions, and everything else follows from that definition."""

from jaxrnn import diagnostics, initializers, interop, testing
from jaxrnn.cells import (
    GRUCarry,
    GRUCell,
    GRUParams,
    GRUResetBeforeCell,
    GRUResetBeforeParams,
    LSTMCarry,
    LSTMCell,
    LSTMParams,
    LSTMPCell,
    LSTMPParams,
    RNNCarry,
    RNNCell,
    RNNParams,
)
from jaxrnn.devices import split_batch
from jaxrnn.initializers import Chrono
from jaxrnn.stack import Stack, StackNoise
from jaxrnn.typing import Cell, affine, carry_dtype, dot, gates, zeros
from jaxrnn.unroll import initial_carry, lengths_to_mask, unroll

__all__ = [
    "Cell",
    "Chrono",
    "GRUCarry",
    "GRUCell",
    "GRUParams",
    "GRUResetBeforeCell",
    "GRUResetBeforeParams",
    "LSTMCarry",
    "LSTMCell",
    "LSTMPCell",
    "LSTMPParams",
    "LSTMParams",
    "RNNCarry",
    "RNNCell",
    "RNNParams",
    "Stack",
    "StackNoise",
    "affine",
    "carry_dtype",
    "diagnostics",
    "dot",
    "gates",
    "initial_carry",
    "initializers",
    "interop",
    "lengths_to_mask",
    "split_batch",
    "testing",
    "unroll",
    "zeros",
]
