"""Weights from and to the recurrent cores of Haiku, by their names; Haiku itself is not imported.

`VanillaRNN` keeps two layers, `linear` and `linear_1`, `w` [I, H] and [H, H] and a bias `b` each.
`LSTM` keeps one, `linear`, `w` [I + H, 4H] and `b`, with the gates `i g f o`; it adds 1 to the
forget gate when it runs, which we store. `GRU` keeps `w_i` [I, 3H], `w_h` [H, 3H] and `b`, with the
gates `z r n`; its z is 1 - z here, so that the signs of that block change. `Conv2DLSTM` keeps
`input_to_hidden` and `hidden_to_hidden`, `w` [*kernel, I, 4H] and `b` each, and is in all else as
`LSTM`.

TensorFlow 1 keeps its `BasicLSTMCell` and `LSTMCell` as Haiku its `LSTM`: `kernel` is `w` and
`bias` is `b`, with the same order of gates and the same `forget_bias=1.0` when it runs. So
`from_haiku(LSTMCell(H), {"lstm/linear": {"w": kernel, "b": bias}})` takes them.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrnn.cell import Cell, DType, Params
from jaxrnn.cells import (
    ConvLSTMCell,
    ConvParams,
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
    Arrays,
    ConversionError,
    Layout,
    check_activations,
    check_same_padding,
    flatten,
    fuse,
    layout_of,
    load,
    shifted,
    split,
    store,
)

_LSTM = "igfo"  # its gates, side by side
_GRU = "zrn"


def from_haiku(
    cell: Cell, params: Mapping[str, Any], dtype: DType = jnp.float32, *, name: str | None = None
) -> Params:
    """The parameters of a cell from those of a Haiku core.

    RNNCell with `nonlinearity="relu"` takes `VanillaRNN`, LSTMCell `LSTM`, GRUResetBeforeCell `GRU`
    and ConvLSTMCell `Conv1DLSTM` to `Conv3DLSTM`. Two biases, and the 1 of the forget gate, are
    added in at least float32 before all is cast to `dtype`.

    Args:
        cell: one of these cells.
        params: what `transformed.init` gives: names of modules to dicts of arrays.
        dtype: of the parameters made.
        name: the name of the core among the modules, such as "model/~/lstm"; all others are then
            left alone. None means Haiku's own ("vanilla_rnn", "lstm", "gru", "conv2_dlstm"), and
            nothing beside it.

    Returns:
        The parameters, as `cell.init` gives them.

    Raises:
        ConversionError: a cell that Haiku does not have (any non-relu RNN, a GRU that resets after
            the product, a ConvLSTMCell with strides, dilation or "valid" padding), or biases for a
            cell without.
        ValueError: missing, unexpected or misshapen entries, all of them listed.
        TypeError: no mapping of names to arrays, or an entry that is not floating point.

    Example:
        >>> import jax, jaxrnn
        >>> from jaxrnn.interop import from_haiku, to_haiku
        >>> cell = jaxrnn.LSTMCell(4)
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> theirs = to_haiku(cell, params)
        >>> theirs["lstm/linear"]["w"].shape
        (7, 16)
        >>> from_haiku(cell, theirs).w_x.shape
        (3, 4, 4)
    """
    make = _kind(cell)
    entries = flatten(params, "params of the Haiku core")
    if name is not None:
        entries = {path: a for path, a in entries.items() if path.startswith(name + "/")}
    both = type(cell) is not RNNCell or any(path.endswith("linear_1/b") for path in entries)
    return load(
        cell, make(cell, name, both), entries, dtype, "params of the Haiku core", named=True
    )


def to_haiku(
    cell: Cell, params: Params, *, name: str | None = None, double_bias: bool = True
) -> dict[str, Any]:
    """The parameters of a Haiku core from those of a cell; the inverse of `from_haiku`.

    Args:
        cell: one of those cells.
        params: its parameters.
        name: the name of the core; None means Haiku's own.
        double_bias: as in `VanillaRNN`, whose second bias is written as zeros.

    Returns:
        Names of modules to dicts of contiguous arrays of the parameters' dtype. Without biases they
        are zeros, with a warning, since Haiku has no such cores.

    Raises:
        ConversionError: a cell that Haiku does not have.
    """
    return store(cell, _kind(cell)(cell, name, double_bias), params)


def _kind(cell: Cell) -> Any:
    make = layout_of(cell, _LAYOUTS, "haiku")
    if isinstance(cell, RNNCell) and cell.nonlinearity != "relu":
        raise ConversionError(
            f"Haiku's VanillaRNN is a relu, this cell a {cell.nonlinearity}. "
            "Use RNNCell(nonlinearity='relu')."
        )
    check_activations(cell, "haiku")
    if isinstance(cell, ConvLSTMCell):
        check_same_padding(cell, "haiku")
    return make


def _vanilla(cell: Any, name: str | None, double_bias: bool) -> Layout:
    inner, outer = (f"{name or 'vanilla_rnn'}/{layer}" for layer in ("linear", "linear_1"))

    def write(p: Any) -> Arrays:
        arrays = {f"{inner}/w": p.w_x[:, 0], f"{inner}/b": p.b[0], f"{outer}/w": p.w_h[:, 0]}
        return arrays | ({f"{outer}/b": np.zeros_like(p.b[0])} if double_bias else {})

    def read(a: Arrays) -> RNNParams:
        b = a[f"{inner}/b"] + a[f"{outer}/b"] if double_bias else a[f"{inner}/b"]
        return RNNParams(w_x=a[f"{inner}/w"][:, None], w_h=a[f"{outer}/w"][:, None], b=b[None])

    return Layout(write, read)


def _lstm(cell: Any, name: str | None, double_bias: bool) -> Layout:
    linear = f"{name or 'lstm'}/linear"

    def write(p: Any) -> Arrays:
        w = np.concatenate([fuse(p.w_x, LSTM, _LSTM), fuse(p.w_h, LSTM, _LSTM)])
        return {f"{linear}/w": w, f"{linear}/b": fuse(shifted(p.b, -1), LSTM, _LSTM)}

    def read(a: Arrays) -> LSTMParams:
        w, b = (split(a[f"{linear}/{n}"], LSTM, _LSTM) for n in "wb")
        return LSTMParams(w_x=w[: -b.shape[-1]], w_h=w[-b.shape[-1] :], b=shifted(b, 1))

    return Layout(write, read)


def _gru(cell: Any, name: str | None, double_bias: bool) -> Layout:
    core = name or "gru"
    names = dict(zip(GRUResetBeforeParams._fields, ("w_i", "w_h", "b"), strict=True))

    def write(p: Any) -> Arrays:
        return {
            f"{core}/{theirs}": fuse(_negated(getattr(p, ours)), GRU, _GRU)
            for ours, theirs in names.items()
        }

    def read(a: Arrays) -> GRUResetBeforeParams:
        arrays = {
            ours: _negated(split(a[f"{core}/{theirs}"], GRU, _GRU))
            for ours, theirs in names.items()
        }
        return GRUResetBeforeParams(**arrays)

    return Layout(write, read)


def _conv(cell: Any, name: str | None, double_bias: bool) -> Layout:
    inner, outer = (
        f"{name or f'conv{cell.dims}_dlstm'}/{layer}_to_hidden" for layer in ("input", "hidden")
    )

    def write(p: Any) -> Arrays:
        b = fuse(shifted(p.b, -1), LSTM, _LSTM)
        kernels = {f"{inner}/w": fuse(p.w_x, LSTM, _LSTM), f"{outer}/w": fuse(p.w_h, LSTM, _LSTM)}
        return kernels | {f"{inner}/b": b, f"{outer}/b": np.zeros_like(b)}

    def read(a: Arrays) -> ConvParams:
        w_x, w_h = (split(a[f"{layer}/w"], LSTM, _LSTM) for layer in (inner, outer))
        return ConvParams(
            w_x=w_x, w_h=w_h, b=shifted(split(a[f"{inner}/b"] + a[f"{outer}/b"], LSTM, _LSTM), 1)
        )

    return Layout(write, read)


def _negated(blocks: Any) -> Any:
    """[..., 3, H] with the other sign for z: 1 - sigmoid(a) = sigmoid(-a)."""
    return np.stack([blocks[..., 0, :], -blocks[..., 1, :], blocks[..., 2, :]], axis=-2)


_LAYOUTS = {RNNCell: _vanilla, LSTMCell: _lstm, GRUResetBeforeCell: _gru, ConvLSTMCell: _conv}
