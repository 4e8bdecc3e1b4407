"""Weights from and to the recurrent layers of Keras 3, by their names;
Keras itself is not imported.

Keras keeps `kernel` [*kernel, I, G*H], `recurrent_kernel` [*kernel, H, G*H] and `bias` [G*H], for a
GRU with `reset_after=True` [2, G*H]: row 0 on the input's side, row 1 on the recurrent one. The
gates of its GRU stand in the order `z r n`. The forget bias is stored.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrnn.cell import Cell, DType, Params
from jaxrnn.cells import (
    ConvLSTMCell,
    ConvParams,
    GRUCell,
    GRUParams,
    GRUResetBeforeCell,
    GRUResetBeforeParams,
    LSTMCell,
    LSTMParams,
    RNNCell,
    RNNParams,
)
from jaxrnn.interop.layouts import (
    Arrays,
    ConversionError,
    Layout,
    fuse,
    layout_of,
    load,
    split,
    store,
)

_NAMES = ("kernel", "recurrent_kernel", "bias")  # the order of get_weights()


def from_keras(
    cell: Cell, weights: Mapping[str, Any] | Sequence[Any], dtype: DType = jnp.float32
) -> Params:
    """The parameters of a cell from a Keras layer's weights.

    RNNCell takes `SimpleRNN`, LSTMCell `LSTM`, GRUCell `GRU`, GRUResetBeforeCell
    `GRU(reset_after=False)` and ConvLSTMCell `ConvLSTM1D` to `ConvLSTM3D`, whose `padding` is
    "valid" by default. Activations are not written in weights: they must be Keras's own defaults,
    and that of `SimpleRNN` the cell's `nonlinearity`.

    Args:
        cell: one of these cells, with `bias=False` for a layer with `use_bias=False`.
        weights: `layer.get_weights()`, or a dict of "kernel", "recurrent_kernel" and "bias".
        dtype: of the parameters made.

    Returns:
        The parameters, as `cell.init` gives them.

    Raises:
        ConversionError: a cell that Keras does not have, or the bias of a GRU of the other kind.
        ValueError: missing, unexpected or misshapen entries, all of them listed.
        TypeError: no arrays, or one that is not floating point.

    Example:
        >>> import jax, jaxrnn
        >>> from jaxrnn.interop import from_keras, to_keras
        >>> cell = jaxrnn.GRUCell(4)
        >>> weights = to_keras(cell, cell.init(jax.random.key(0), input_size=3))
        >>> [(name, a.shape) for name, a in weights.items()]
        [('kernel', (3, 12)), ('recurrent_kernel', (4, 12)), ('bias', (2, 12))]
        >>> from_keras(cell, list(weights.values())).w_x.shape
        (3, 3, 4)
    """
    layout = layout_of(cell, _LAYOUTS, "keras")
    if isinstance(weights, list | tuple):
        if len(weights) not in (2, 3):
            raise ValueError(
                f"one Keras layer in one direction has 2 or 3 weights, {', '.join(_NAMES)}; "
                f"got {len(weights)}."
            )
        weights = dict(zip(_NAMES, weights, strict=False))
    _check_kind_of_gru(cell, weights)
    return load(cell, layout, weights, dtype, "weights of the Keras layer")


def to_keras(cell: Cell, params: Params) -> dict[str, np.ndarray]:
    """A Keras layer's weights from the parameters of a cell; the inverse of `from_keras`.

    Args:
        cell: one of those cells.
        params: its parameters.

    Returns:
        "kernel", "recurrent_kernel" and, unless `bias=False`, "bias", contiguous and of the
        parameters' dtype, in the order of `layer.set_weights(list(weights.values()))`.

    Raises:
        ConversionError: a cell that Keras does not have.
    """
    return store(cell, layout_of(cell, _LAYOUTS, "keras"), params)


def _check_kind_of_gru(cell: Cell, weights: Any) -> None:
    bias: Any = weights.get("bias") if isinstance(weights, Mapping) else None
    # a bias of two rows is that of reset_after=True
    kinds: dict[type, int] = {GRUCell: 2, GRUResetBeforeCell: 1}
    axes = kinds.get(type(cell), 0)
    if axes and len(getattr(bias, "shape", ())) == 3 - axes:
        other = "GRUResetBeforeCell" if axes == 2 else "GRUCell"
        raise ConversionError(
            f"this bias, of shape {tuple(bias.shape)}, is that of a GRU with "
            f"reset_after={axes == 1}, another function than "
            f"{type(cell).__name__}. Use {other} for it."
        )


def _write(p: Any) -> Arrays:
    arrays = {"kernel": fuse(p.w_x, "keras"), "recurrent_kernel": fuse(p.w_h, "keras")}
    return arrays if p.b is None else arrays | {"bias": fuse(p.b, "keras")}


def _write_gru(p: Any) -> Arrays:
    if p.b is None or p.b_hn is None:
        return _write(p)
    recurrent = np.concatenate([np.zeros_like(p.b[:2]), p.b_hn[None]])
    return _write(p) | {"bias": np.stack([fuse(p.b, "keras"), fuse(recurrent, "keras")])}


def _blocks(a: Arrays, gates: int) -> dict[str, Any]:
    w_x, w_h, b = (split(a[name], gates, "keras") if name in a else None for name in _NAMES)
    return {"w_x": w_x, "w_h": w_h, "b": b}


def _read_gru(a: Arrays) -> GRUParams:
    if "bias" not in a:
        return GRUParams(**_blocks(a, 3), b_hn=None)
    b, recurrent = split(a["bias"], 3, "keras")
    gates = np.where(recurrent[:2] == 0, b[:2], b[:2] + recurrent[:2])  # -0.0 + 0.0 would be 0.0
    return GRUParams(**_blocks(a, 3) | {"b": np.concatenate([gates, b[2:]])}, b_hn=recurrent[2])


_LAYOUTS = {
    RNNCell: Layout(_write, lambda a: RNNParams(**_blocks(a, 1)), bias=True),
    ConvLSTMCell: Layout(_write, lambda a: ConvParams(**_blocks(a, 4)), bias=True),
    LSTMCell: Layout(_write, lambda a: LSTMParams(**_blocks(a, 4)), bias=True),
    GRUCell: Layout(_write_gru, _read_gru, bias=True),
    GRUResetBeforeCell: Layout(_write, lambda a: GRUResetBeforeParams(**_blocks(a, 3)), bias=True),
}
