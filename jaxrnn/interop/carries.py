"""Carries from and to Flax, where an LSTM's is the pair (c, h), in both of its APIs.

Elsewhere no conversion is needed: torch, Keras, Haiku and Equinox give (h, c), so that
`LSTMCarry(*state)` is ours, and a tuple of ours, `(carry.h, carry.c)`, theirs
(`haiku.LSTMState(*carry)`).
"""

from typing import Any

from jaxrnn.cell import Array, Carry, Cell
from jaxrnn.cells import (
    ConvLSTMCell,
    GRUCarry,
    GRUCell,
    LSTMCarry,
    LSTMCell,
    MGUResetAfterCell,
    RNNCarry,
    RNNCell,
    UGRNNCell,
)
from jaxrnn.interop.layouts import layout_of

_CARRIES = {
    LSTMCell: LSTMCarry,
    ConvLSTMCell: LSTMCarry,
    GRUCell: GRUCarry,
    MGUResetAfterCell: GRUCarry,
    RNNCell: RNNCarry,
    UGRNNCell: RNNCarry,
}


def from_flax_carry(cell: Cell, carry: Any) -> Carry:
    """A cell's carry from that of a Flax cell.

    Args:
        cell: a cell that `from_linen` takes.
        carry: (c, h) for an LSTM, else h, each [..., H].

    Returns:
        The carry, by name.

    Raises:
        ConversionError: a cell that Flax does not have.
        TypeError: a pair where there is one array, or one array where there is a pair.

    Example:
        >>> import jaxrnn
        >>> from jaxrnn.interop import from_flax_carry, to_flax_carry
        >>> from_flax_carry(jaxrnn.LSTMCell(1), (2.0, 3.0))
        LSTMCarry(h=3.0, c=2.0)
        >>> to_flax_carry(jaxrnn.LSTMCell(1), jaxrnn.cells.LSTMCarry(h=3.0, c=2.0))
        (2.0, 3.0)
    """
    make = layout_of(cell, _CARRIES, "flax")
    pair = isinstance(carry, tuple | list)
    if pair != (make is LSTMCarry) or (pair and len(carry) != 2):
        expected = "the pair (c, h)" if make is LSTMCarry else "the array h"
        raise TypeError(
            f"the carry of Flax's counterpart of {cell} is {expected}, got {type(carry).__name__}."
        )
    return LSTMCarry(c=carry[0], h=carry[1]) if pair else make(h=carry)


def to_flax_carry(cell: Cell, carry: Carry) -> tuple[Array, Array] | Array:
    """The carry of a Flax cell from that of a cell: (c, h) for an LSTM, else h.

    Args:
        cell: a cell that `from_linen` takes.
        carry: its carry.

    Raises:
        ConversionError: a cell that Flax does not have.
        TypeError: the carry of another cell.
    """
    kind = layout_of(cell, _CARRIES, "flax")
    if not isinstance(carry, kind):
        raise TypeError(f"the carry of {cell} is a {kind.__name__}, got {type(carry).__name__}.")
    return (carry.c, carry.h) if kind is LSTMCarry else carry.h
