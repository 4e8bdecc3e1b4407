"""The states of torch's layers as carries, and back."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.cell import Array, Carry, Cell
from jaxrnn.cells import GRUCarry, GRUCell, LSTMCarry, LSTMCell, LSTMPCell, RNNCarry, RNNCell
from jaxrnn.interop.layouts import to_numpy
from jaxrnn.stack import Stack
from jaxrnn.structure import unboxed

_CARRIES: dict[type, Any] = {
    RNNCell: RNNCarry,
    LSTMCell: LSTMCarry,
    LSTMPCell: LSTMCarry,
    GRUCell: GRUCarry,
}


class LSTMState(NamedTuple):
    """The state of an LSTM, as torch returns it."""

    h_n: Array  # [num_layers * num_directions, batch, hidden_size or proj_size]
    c_n: Array  # [num_layers * num_directions, batch, hidden_size]


def without_torch(state: Any) -> Any:
    """The same tree with arrays for the tensors of torch in it."""

    def array(leaf: Any) -> Any:
        return to_numpy("state", leaf) if hasattr(leaf, "detach") else leaf

    return jax.tree.map(array, state, is_leaf=lambda leaf: hasattr(leaf, "detach"))


def normal_state(stack: Stack, state: Any, batch: tuple[int, ...]) -> Any:
    """A state of torch's layers, checked and in one form: an array, for an LSTM an `LSTMState`; or
    one carry for each layer and direction, as a tuple.

    Args:
        stack: a stack of equal RNNCell, LSTMCell, LSTMPCell or GRUCell.
        state: `h_0`, for an LSTM the pair of `h_0` and `c_0`, a tuple or a list, each
            [layers * directions, *batch, size]; or the carries of a stack; or the carry of its only
            cell. Tensors of torch are taken too.
        batch: the batch axes.

    Raises:
        TypeError: no state of this stack.
        ValueError: another shape.
    """
    cell: Any = stack.cells[0]
    count = len(stack.cells) * stack.directions
    kind = _CARRIES[type(cell)]
    state = _by_name(kind, unboxed(without_torch(state)))
    if isinstance(state, kind) and np.ndim(state.h) == len(batch) + 1 and count == 1:
        return (state,)
    if _is_all(state, kind):
        if len(state) != count:
            raise ValueError(f"the state holds {len(state)} carries, expected {count}.")
        return tuple(state)
    parts = _parts(cell, kind, state)
    sizes = (getattr(cell, "proj_size", cell.hidden_size), cell.hidden_size)
    for name, part, size in zip(("h_0", "c_0"), parts, sizes, strict=False):
        if np.shape(part) != (count, *batch, size):
            hint = " Are h_0 and c_0 swapped?" if _are_swapped(parts, sizes) else ""
            raise ValueError(
                f"{name} has shape {np.shape(part)}, expected {(count, *batch, size)}: "
                "num_layers * num_directions, the batch if there is one, and size, "
                f"whatever batch_first.{hint}"
            )
    return LSTMState(*parts) if kind is LSTMCarry else parts[0]


def to_carries(stack: Stack, state: Any) -> tuple[Carry, ...]:
    """The carry of a stack from what `normal_state` returns."""
    if isinstance(state, tuple) and not isinstance(state, LSTMState):
        return state
    kind = _CARRIES[type(stack.cells[0])]
    parts = state if isinstance(state, LSTMState) else (state,)
    count = len(stack.cells) * stack.directions
    return tuple(kind(*(part[i] for part in parts)) for i in range(count))


def to_state(carries: tuple[Carry, ...]) -> Array | LSTMState:
    """The state of torch's layers from the carry of a stack of them."""
    h_n = jnp.stack([c.h for c in carries])
    if not isinstance(carries[0], LSTMCarry):
        return h_n
    return LSTMState(h_n=h_n, c_n=jnp.stack([c.c for c in carries]))


def from_named(cell: Cell, state: Any, batch: tuple[int, ...]) -> Carry:
    """The carry of a cell from what is one by name, or from the state of torch-like layers."""
    state = unboxed(without_torch(state))
    stack = cell if isinstance(cell, Stack) else Stack((cell,))
    kinds = {type(part) for part in stack.cells}
    if hasattr(state, "shape"):  # the h_n of a GRU or RNN
        if len(kinds) > 1 or not kinds <= {RNNCell, GRUCell}:
            return state
    elif not isinstance(state, LSTMState):
        return state
    elif not kinds <= {LSTMCell, LSTMPCell}:
        raise TypeError(f"an LSTMState is no carry of {cell}.")
    elif not isinstance(cell, Stack) and np.ndim(state.h_n) == len(batch) + 1:
        return LSTMCarry(h=state.h_n, c=state.c_n)
    carries = to_carries(stack, normal_state(stack, state, batch))
    return carries if isinstance(cell, Stack) else carries[0]


def _by_name(kind: Any, state: Any) -> Any:
    """Dicts, as files hold states, as what has their names."""
    if isinstance(state, list):
        return [_by_name(kind, part) if isinstance(part, Mapping) else part for part in state]
    if not isinstance(state, Mapping):
        return state
    for made in (LSTMState, kind):
        if set(state) == set(made._fields):
            return made(**state)
    return state


def _is_all(state: Any, kind: type) -> bool:
    """Whether a state is a row of carries."""
    row = isinstance(state, Sequence) and not hasattr(state, "_fields")
    return row and len(state) > 0 and all(isinstance(part, kind) for part in state)


def _parts(cell: Cell, kind: Any, state: Any) -> tuple[Any, ...]:
    """The arrays of a state: (h_0, c_0) of an LSTM, (h_0,) of the others."""
    if isinstance(cell, LSTMCell | LSTMPCell):
        pair = isinstance(state, tuple | list) and len(state) == 2
        named = not hasattr(state, "_fields") or isinstance(state, LSTMState | LSTMCarry)
        if not pair or not named:
            raise _no_state("the pair (h_0, c_0)", state)
        # Two layers' (h, c), (h, c) have the shape of a pair of stacked h and c.
        if any(isinstance(part, tuple | list) and _holds_arrays(part) for part in state):
            raise TypeError(
                "the state of this module is the pair (h_0, c_0) of two arrays, got a pair of "
                f"{type(state[0]).__name__}s; states layer by layer go by name, "
                "LSTMCarry(h=..., c=...)."
            )
        return tuple(state)
    if isinstance(state, kind):
        return tuple(state)
    if isinstance(state, tuple) or np.ndim(state) == 0:
        raise _no_state("the array h_0", state)
    return (jnp.asarray(state),)


def _holds_arrays(part: Any) -> bool:
    return any(hasattr(entry, "shape") for entry in part)


def _no_state(expected: str, state: Any) -> TypeError:
    hint = ""
    if jnp.issubdtype(getattr(state, "dtype", np.float32), jnp.integer):
        hint = " Lengths go by name: lengths=."
    elif getattr(state, "dtype", None) == np.bool_:
        hint = " Masks and resets go by name: mask=, reset=."
    return TypeError(f"the state of this module is {expected}, got {type(state).__name__}.{hint}")


def _are_swapped(parts: tuple[Any, ...], sizes: tuple[int, int]) -> bool:
    """Whether each of two arrays has the size of the other, and these sizes tell them apart."""
    given = [np.shape(part)[-1:] for part in parts]
    return given == [(size,) for size in sizes[::-1]] and sizes[0] != sizes[1]
