"""Weights from and to the recurrent cells of Flax nnx, by their names; Flax itself is not imported.

`LSTMCell` keeps `ii if_ ig io` and `hi hf hg ho` as linen does (but for `if_`). `OptimizedLSTMCell`
keeps `dense_i`, a kernel [I, 4H], and `dense_h`, kernel and bias: other names, whatever its
docstring says. `GRUCell` keeps `dense_i`, kernel [I, 3H] and bias, and `dense_h`, a kernel, and has
no `b_hn`. `SimpleCell` keeps `dense_i`, kernel and bias, and `dense_h`, a kernel.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrnn.cell import Cell, DType, Params
from jaxrnn.cells import GRUCell, GRUParams, LSTMCell, LSTMParams, RNNCell, RNNParams
from jaxrnn.interop import linen
from jaxrnn.interop.layouts import (
    GRU,
    LSTM,
    RNN,
    Arrays,
    ConversionError,
    Layout,
    flatten,
    layout_of,
    load,
    side_by_side,
    split,
    store,
)


def from_nnx(
    cell: Cell, state: Mapping[str, Any], dtype: DType = jnp.float32, *, residual: bool = False
) -> Params:
    """The parameters of a cell from those of a Flax nnx cell.

    LSTMCell takes `LSTMCell` and `OptimizedLSTMCell`, GRUCell takes `GRUCell` (`b_hn` is zero,
    until Flax has one), RNNCell takes `SimpleCell`, of the same `nonlinearity`, which is not
    written in weights.

    Args:
        cell: an LSTMCell, GRUCell or RNNCell.
        state: `nnx.to_pure_dict(nnx.state(module, nnx.Param))` of the Flax cell.
        dtype: of the parameters made.
        residual: whether the `SimpleCell` was made with `residual=True`, which adds h: W_h + 1 is
            our W_h.

    Returns:
        The parameters, as `cell.init` gives them.

    Raises:
        ConversionError: a cell that Flax does not have, or biases for a cell without.
        ValueError: missing, unexpected or misshapen entries, all of them listed.
        TypeError: no mapping of names to arrays, or an entry that is not floating point.

    Example:
        >>> import jax, jaxrnn
        >>> from jaxrnn.interop import from_nnx, to_nnx
        >>> cell = jaxrnn.LSTMCell(4)
        >>> state = to_nnx(cell, cell.init(jax.random.key(0), input_size=3))
        >>> sorted(state)
        ['hf', 'hg', 'hi', 'ho', 'if_', 'ig', 'ii', 'io']
        >>> from_nnx(cell, state).w_x.shape
        (3, 4, 4)
    """
    layout = _layout(cell, state)
    return load(
        cell,
        linen.add_residual(cell, layout) if residual else layout,
        state,
        dtype,
        "state of the Flax cell",
    )


def to_nnx(cell: Cell, params: Params, *, like: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The parameters of a Flax nnx cell from those of a cell; the inverse of `from_nnx`.

    Args:
        cell: an LSTMCell, GRUCell or RNNCell; the `SimpleCell` for a relu is made with
            `activation_fn=nnx.relu`.
        params: its parameters.
        like: the pure dict that is to be replaced, which tells an `OptimizedLSTMCell`, and a
            `GRUCell` with `b_hn`. None means `LSTMCell`, and `GRUCell` as it is in flax 0.12.

    Returns:
        Nested dicts of contiguous arrays of the parameters' dtype, for `nnx.replace_by_pure_dict`
        and `nnx.update`. Without biases they are zeros, with a warning, since Flax has no such
        cells.

    Raises:
        ConversionError: a cell that Flax does not have, or a GRU with `b_hn` other than zero, which
            Flax's has not.
    """
    return store(cell, _layout(cell, like), params)


def _layout(cell: Cell, state: Mapping[str, Any] | None) -> Layout:
    layout = layout_of(cell, _LAYOUTS, "flax.nnx")
    names = set() if state is None else set(flatten(state, "state of the Flax cell"))
    if type(cell) is LSTMCell and any(name.startswith("dense_") for name in names):
        return _OPTIMIZED
    return _GRU_WITH_B_HN if type(cell) is GRUCell and "b_hn" in names else layout


def _write_lstm(p: Any) -> Arrays:
    return {name.replace("if/", "if_/"): a for name, a in linen.write_lstm(p).items()}


def _read_lstm(a: Arrays) -> LSTMParams:
    return linen.read_lstm(a | {"if/kernel": a["if_/kernel"]})


def _write_optimized(p: Any) -> Arrays:
    return {
        "dense_i/kernel": side_by_side(p.w_x),
        "dense_h/kernel": side_by_side(p.w_h),
        "dense_h/bias": side_by_side(p.b),
    }


def _read_optimized(a: Arrays) -> LSTMParams:
    w_x, w_h, b = (
        split(a[name], LSTM, LSTM) for name in ("dense_i/kernel", "dense_h/kernel", "dense_h/bias")
    )
    return LSTMParams(w_x=w_x, w_h=w_h, b=b)


def _write_gru(p: Any) -> Arrays:
    if np.any(p.b_hn):
        raise ConversionError(
            "b_hn is not zero, and the GRUCell of flax.nnx has none. "
            "Use linen's GRUCell, or set b_hn to 0."
        )
    return _write_input_bias(p)


def _read_gru(a: Arrays) -> GRUParams:
    w_x, w_h, b = (
        split(a[name], GRU, GRU) for name in ("dense_i/kernel", "dense_h/kernel", "dense_i/bias")
    )
    return GRUParams(w_x=w_x, w_h=w_h, b=b, b_hn=a.get("b_hn", np.zeros_like(b[0])))


def _write_input_bias(p: Any) -> Arrays:
    return {
        "dense_i/kernel": side_by_side(p.w_x),
        "dense_i/bias": side_by_side(p.b),
        "dense_h/kernel": side_by_side(p.w_h),
    }


def _read_simple(a: Arrays) -> RNNParams:
    w_x, w_h, b = (
        split(a[name], RNN, RNN) for name in ("dense_i/kernel", "dense_h/kernel", "dense_i/bias")
    )
    return RNNParams(w_x=w_x, w_h=w_h, b=b)


_OPTIMIZED = Layout(_write_optimized, _read_optimized)
_GRU_WITH_B_HN = Layout(lambda p: _write_input_bias(p) | {"b_hn": p.b_hn}, _read_gru)
_LAYOUTS = {
    LSTMCell: Layout(_write_lstm, _read_lstm),
    GRUCell: Layout(_write_gru, _read_gru),
    RNNCell: Layout(_write_input_bias, _read_simple),
}
