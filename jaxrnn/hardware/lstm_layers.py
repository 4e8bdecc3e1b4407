"""Which cells and stacks are LSTM layers as other libraries have code of their own for."""

from typing import Any, NamedTuple

from jaxrnn.cell import Array, Cell, Params
from jaxrnn.cells.lstm import LSTMCell
from jaxrnn.stack import Stack
from jaxrnn.wrappers import DropConnect, LearnedInitialCarry

EQUATIONS = ("project", "step", "unroll_layers")

Weights = tuple[Array, Array, Array | None]


class LSTMLayers(NamedTuple):
    """LSTM layers of one hidden size; the carry is h and c of each."""

    weights: tuple[Weights, ...]
    # w_x [I, 4, H], w_h [H, 4, H], b [4 * H], gates i f g o, indexed layer * directions + direction
    bidirectional: bool  # the outputs of both directions are concatenated


def lstm_layers(cell: Any, params: Params) -> LSTMLayers | None:
    """The LSTM layers that a cell with prepared parameters is; None where it is something else.

    A subclass with equations of its own is something else, and so are other activations.
    """
    if _has_equations_of(cell, LSTMCell):
        if (cell.activation, cell.recurrent_activation) != ("tanh", "sigmoid"):
            return None
        return LSTMLayers(weights=(tuple(params),), bidirectional=False)
    if _has_equations_of(cell, Stack):
        return _of_stack(cell, params)
    if _has_equations_of(cell, LearnedInitialCarry):
        return lstm_layers(cell.cell, params.inner)
    if _has_equations_of(cell, DropConnect):
        return lstm_layers(cell.cell, params)
    return None


def _has_equations_of(cell: Cell, kind: type) -> bool:
    same = [getattr(type(cell), name, None) is getattr(kind, name, None) for name in EQUATIONS]
    return isinstance(cell, kind) and all(same)


def _of_stack(stack: Stack, params: Params) -> LSTMLayers | None:
    """All layers in one direction each, or each a single layer in both."""
    cells = [cell for cell in stack.cells for _ in range(stack.directions)]
    if stack.merge != "concat" or not isinstance(params, tuple) or len(params) != len(cells):
        return None
    weights = _weights_of(stack, cells, params)
    if weights is None or len({w_h.shape for _, w_h, _ in weights}) > 1:
        return None
    return LSTMLayers(tuple(weights), stack.bidirectional)


def _weights_of(
    stack: Stack, cells: list[Cell], params: tuple[Params, ...]
) -> list[Weights] | None:
    """The weights of all cells of a stack; None where one is something else than it may have."""
    weights: list[Weights] = []
    for cell, own in zip(cells, params, strict=True):
        layers = lstm_layers(cell, own)
        if layers is None or layers.bidirectional:
            return None
        if stack.bidirectional and len(layers.weights) > 1:
            return None
        weights += layers.weights
    return weights
