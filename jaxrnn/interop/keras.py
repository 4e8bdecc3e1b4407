"""Weights from and to the recurrent layers of Keras 3, by their names;
Keras itself is not imported.

Keras keeps `kernel` [*kernel, I, G*H], `recurrent_kernel` [*kernel, H, G*H] and `bias` [G*H], for a
GRU with `reset_after=True` [2, G*H]: row 0 on the input's side, row 1 on the recurrent one. The
gates of its GRU stand in the order `z r n`. The forget bias is stored. The older `CuDNNLSTM` and
`CuDNNGRU` keep of each gate the memory of cuDNN's matrix, [H, I] and [H, H], and both of its biases
in one: [8H] of an LSTM, the input's half before the recurrent one, which are added; [6H] of a GRU,
which is its [2, 3H].
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
    GRU,
    LSTM,
    RNN,
    Arrays,
    ConversionError,
    Layout,
    fuse,
    layout_of,
    load,
    split,
    store,
    to_numpy,
)

_NAMES = ("kernel", "recurrent_kernel", "bias")  # the order of get_weights()
_GRU = "zrn"  # the gates of its GRU, side by side


def from_keras(
    cell: Cell, weights: Mapping[str, Any] | Sequence[Any], dtype: DType = jnp.float32
) -> Params:
    """The parameters of a cell from a Keras layer's weights.

    RNNCell takes `SimpleRNN`, LSTMCell `LSTM` and `CuDNNLSTM`, GRUCell `GRU` and `CuDNNGRU`,
    GRUResetBeforeCell `GRU(reset_after=False)` and ConvLSTMCell `ConvLSTM1D` to `ConvLSTM3D`, whose
    `padding` is "valid" by default. Activations are not written in weights: give the cell those of
    the layer, `activation` and `recurrent_activation` of a gated one, `nonlinearity` of an RNNCell.

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
    weights = _from_cudnn(cell, weights)
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


def _from_cudnn(cell: Cell, weights: Any) -> Any:
    """The weights of `CuDNNLSTM` and `CuDNNGRU` as Keras keeps those of `LSTM` and `GRU`; others as
    they are. The length of the bias tells them."""
    orders: dict[type, str] = {LSTMCell: LSTM, GRUCell: GRU}
    gates = len(orders.get(type(cell), ""))
    bias: Any = weights.get("bias") if isinstance(weights, Mapping) else None
    H = getattr(cell, "hidden_size", 0)
    if not gates or getattr(bias, "shape", None) != (2 * gates * H,):
        return weights
    arrays = {name: to_numpy(name, a) for name, a in weights.items() if hasattr(a, "shape")}
    found: dict[str, Any] = {**weights, "bias": arrays["bias"].reshape(2, gates * H)}
    if type(cell) is LSTMCell:
        found["bias"] = found["bias"][0] + found["bias"][1]
    for name in ("kernel", "recurrent_kernel"):
        if name in arrays and arrays[name].shape[1:] == (gates * H,):
            blocks = np.split(arrays[name], gates, axis=1)
            # each is the memory of cuDNN's matrix [H, I] in the shape of its transpose
            found[name] = np.concatenate([block.reshape(H, -1).T for block in blocks], axis=1)
    return found


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


def _layout(kind: Any, ours: str, theirs: str) -> Layout:
    """The layout of parameters of one kind, with one bias."""

    def write(p: Any) -> Arrays:
        kernels = {
            "kernel": fuse(p.w_x, ours, theirs),
            "recurrent_kernel": fuse(p.w_h, ours, theirs),
        }
        return kernels if p.b is None else kernels | {"bias": fuse(p.b, ours, theirs)}

    def read(a: Arrays) -> Any:
        return kind(**_blocks(a, ours, theirs))

    return Layout(write, read, bias=True)


def _blocks(a: Arrays, ours: str, theirs: str) -> dict[str, Any]:
    w_x, w_h, b = (split(a[name], ours, theirs) if name in a else None for name in _NAMES)
    return {"w_x": w_x, "w_h": w_h, "b": b}


def _write_gru(p: Any) -> Arrays:
    arrays = {"kernel": fuse(p.w_x, GRU, _GRU), "recurrent_kernel": fuse(p.w_h, GRU, _GRU)}
    if p.b is None or p.b_hn is None:
        return arrays
    recurrent = np.concatenate([np.zeros_like(p.b[:2]), p.b_hn[None]])
    return arrays | {"bias": np.stack([fuse(p.b, GRU, _GRU), fuse(recurrent, GRU, _GRU)])}


def _read_gru(a: Arrays) -> GRUParams:
    if "bias" not in a:
        return GRUParams(**_blocks(a, GRU, _GRU), b_hn=None)
    b, recurrent = split(a["bias"], GRU, _GRU)
    gates = np.where(recurrent[:2] == 0, b[:2], b[:2] + recurrent[:2])  # -0.0 + 0.0 would be 0.0
    b = np.concatenate([gates, b[2:]])
    return GRUParams(**_blocks(a, GRU, _GRU) | {"b": b}, b_hn=recurrent[2])


_LAYOUTS = {
    RNNCell: _layout(RNNParams, RNN, RNN),
    ConvLSTMCell: _layout(ConvParams, LSTM, LSTM),
    LSTMCell: _layout(LSTMParams, LSTM, LSTM),
    GRUCell: Layout(_write_gru, _read_gru, bias=True),
    GRUResetBeforeCell: _layout(GRUResetBeforeParams, GRU, _GRU),
}
