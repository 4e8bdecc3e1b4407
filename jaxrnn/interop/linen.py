"""Weights from and to the recurrent cells of Flax's older API, by their names;
Flax itself is not imported.

`LSTMCell` and `OptimizedLSTMCell` keep `ii if ig io`, kernels [I, H], and `hi hf hg ho`, kernels
[H, H] and biases. `GRUCell` keeps `ir iz in`, kernels and biases, and `hr hz hn`, of which `hn` has
a bias, our `b_hn`. `MGUCell` keeps `if in hf hn`: a GRU whose reset and update gates share their
weights. `SimpleCell` keeps `i`, kernel and bias, and `h`, a kernel. `ConvLSTMCell` keeps `ih` and
`hh`, kernels [*kernel, I, 4H] and biases, with the gates `i g f o`.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrnn.cell import Cell, DType, Params
from jaxrnn.cells import (
    ConvLSTMCell,
    ConvParams,
    GRUCell,
    GRUParams,
    LSTMCell,
    LSTMParams,
    MGUResetAfterCell,
    MGUResetAfterParams,
    RNNCell,
    RNNParams,
    UGRNNCell,
    UGRNNParams,
)
from jaxrnn.interop.layouts import (
    LSTM,
    Arrays,
    ConversionError,
    Layout,
    check_same_padding,
    flatten,
    fuse,
    layout_of,
    load,
    shifted,
    split,
    store,
)

_CONV = "igfo"  # the gates of its ConvLSTMCell, side by side


def from_linen(
    cell: Cell, tree: Mapping[str, Any], dtype: DType = jnp.float32, *, residual: bool = False
) -> Params:
    """The parameters of a cell from those of a Flax linen cell.

    LSTMCell takes `LSTMCell` and `OptimizedLSTMCell`, GRUCell takes `GRUCell` and `MGUCell`,
    MGUResetAfterCell takes `MGUCell` and UGRNNCell that with `reset_gate=False`, RNNCell takes
    `SimpleCell` and ConvLSTMCell takes `ConvLSTMCell`, whose forget gate's run-time 1 is added to
    the bias. Whether `activation_fn` is tanh or relu is not written in weights: give RNNCell the
    same `nonlinearity`.

    Args:
        cell: one of these cells.
        tree: `variables["params"]` of the Flax cell, or `variables["params"]["cell"]` of an
            `nn.RNN` around it.
        dtype: of the parameters made.
        residual: whether the `SimpleCell` was made with `residual=True`, which adds h: W_h + 1 is
            our W_h.

    Returns:
        The parameters, as `cell.init` gives them.

    Raises:
        ConversionError: a cell that Flax does not have, an `MGUCell` of the other kind, a
            ConvLSTMCell with strides, dilation or "valid" padding, or biases for a cell without.
        ValueError: missing, unexpected or misshapen entries, all of them listed.
        TypeError: no mapping of names to arrays, or an entry that is not floating point.

    Example:
        >>> import jax, jaxrnn
        >>> from jaxrnn.interop import from_linen, to_linen
        >>> cell = jaxrnn.GRUCell(4)
        >>> tree = to_linen(cell, cell.init(jax.random.key(0), input_size=3))
        >>> tree["ir"]["kernel"].shape, sorted(tree["hn"])
        ((3, 4), ['bias', 'kernel'])
        >>> from_linen(cell, tree).w_x.shape
        (3, 3, 4)
    """
    layout = _layout(cell, tree)
    return load(
        cell,
        add_residual(cell, layout) if residual else layout,
        tree,
        dtype,
        "tree of the Flax cell",
    )


def to_linen(
    cell: Cell, params: Params, *, like: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The parameters of a Flax linen cell from those of a cell; the inverse of `from_linen`.

    Args:
        cell: one of those cells; the `SimpleCell` for a relu is made with `activation_fn=nn.relu`.
        params: its parameters.
        like: the tree that is to be replaced. It is needed only for an `MGUCell` from a GRUCell
            whose two gates are equal.

    Returns:
        Nested dicts of contiguous arrays of the parameters' dtype, to be used as
        `{"params": tree}`. Without biases they are zeros, with a warning, since Flax has no such
        cells.

    Raises:
        ConversionError: a cell that Flax does not have, for an `MGUCell` a GRU with two different
            gates, or a ConvLSTM with strides, dilation or "valid" padding.
    """
    return store(cell, _layout(cell, like), params)


def _layout(cell: Cell, tree: Mapping[str, Any] | None) -> Layout:
    layout = layout_of(cell, _LAYOUTS, "flax.linen")
    if isinstance(cell, ConvLSTMCell):
        check_same_padding(cell, "flax.linen")
    names = set() if tree is None else set(flatten(tree, "tree of the Flax cell"))
    if "if/kernel" not in names or "ig/kernel" in names:
        return layout
    if type(cell) in (GRUCell, MGUResetAfterCell) and "hn/bias" not in names:
        raise ConversionError(
            "hn has no bias: an MGUCell with reset_gate=False, which is no GRU. "
            "Use jaxrnn.cells.UGRNNCell for it."
        )
    if type(cell) is UGRNNCell and "hn/bias" in names:
        raise ConversionError(
            "hn has a bias: an MGUCell with a reset gate. "
            "Use jaxrnn.cells.MGUResetAfterCell for it."
        )
    return _TIED if type(cell) is GRUCell else layout


def add_residual(cell: Cell, layout: Layout) -> Layout:
    """The layout of a `SimpleCell` with `residual=True`:
    the identity is added before anything is rounded to 16 bits.
    """
    if type(cell) is not RNNCell:
        raise ConversionError(
            f"only SimpleCell, our RNNCell, has residual=True, got {cell}; "
            "jaxrnn.wrappers.Residual adds to outputs."
        )

    def read(a: Arrays) -> RNNParams:
        params = layout.read(a)
        return params._replace(
            w_h=params.w_h + np.eye(len(params.w_h), dtype=params.w_h.dtype)[:, None]
        )

    return layout._replace(read=read)


def write_lstm(p: Any) -> Arrays:
    inputs = {f"i{gate}/kernel": p.w_x[:, k] for k, gate in enumerate("ifgo")}
    return inputs | {
        f"h{gate}/{n}": a
        for k, gate in enumerate("ifgo")
        for n, a in (("kernel", p.w_h[:, k]), ("bias", p.b[k]))
    }


def read_lstm(a: Arrays) -> LSTMParams:
    w_x, w_h = (_stack(a, [f"{side}{gate}/kernel" for gate in "ifgo"]) for side in "ih")
    return LSTMParams(w_x=w_x, w_h=w_h, b=_stack(a, [f"h{gate}/bias" for gate in "ifgo"]))


def _gated(kind: Any, gates: str) -> Layout:
    """The layout of the GRU family: biases on the input's side, and `b_hn`, where there is one,
    on the recurrent one.
    """

    def write(p: Any) -> Arrays:
        inputs = {
            f"i{gate}/{n}": a
            for k, gate in enumerate(gates)
            for n, a in (("kernel", p.w_x[:, k]), ("bias", p.b[k]))
        }
        arrays = inputs | {f"h{gate}/kernel": p.w_h[:, k] for k, gate in enumerate(gates)}
        return arrays | ({"hn/bias": p.b_hn} if "b_hn" in kind._fields else {})

    def read(a: Arrays) -> Params:
        w_x, w_h = (_stack(a, [f"{side}{gate}/kernel" for gate in gates]) for side in "ih")
        b_hn = {"b_hn": a["hn/bias"]} if "b_hn" in kind._fields else {}
        return kind(w_x=w_x, w_h=w_h, b=_stack(a, [f"i{gate}/bias" for gate in gates]), **b_hn)

    return Layout(write, read)


_GRU = _gated(GRUParams, "rzn")


def _write_tied(p: Any) -> Arrays:
    for name, r, z in (
        ("w_x", p.w_x[:, 0], p.w_x[:, 1]),
        ("w_h", p.w_h[:, 0], p.w_h[:, 1]),
        ("b", p.b[0], p.b[1]),
    ):
        if not np.array_equal(r, z):
            raise ConversionError(
                f"an MGUCell has one gate, and in {name} those for r and z differ. "
                "Use Flax's GRUCell."
            )
    return {name.replace("z", "f"): a for name, a in _GRU.write(p).items() if name[1] != "r"}


def _read_tied(a: Arrays) -> GRUParams:
    return _GRU.read(
        a | {name.replace("f", gate): a[name] for name in a if name[1] == "f" for gate in "rz"}
    )


def _write_simple(p: Any) -> Arrays:
    return {"i/kernel": p.w_x[:, 0], "i/bias": p.b[0], "h/kernel": p.w_h[:, 0]}


def _read_simple(a: Arrays) -> RNNParams:
    return RNNParams(w_x=a["i/kernel"][:, None], w_h=a["h/kernel"][:, None], b=a["i/bias"][None])


def _write_conv(p: Any) -> Arrays:
    b = fuse(shifted(p.b, -1), LSTM, _CONV)
    kernels = {"ih/kernel": fuse(p.w_x, LSTM, _CONV), "hh/kernel": fuse(p.w_h, LSTM, _CONV)}
    return kernels | {"ih/bias": b, "hh/bias": np.zeros_like(b)}


def _read_conv(a: Arrays) -> ConvParams:
    w_x, w_h = (split(a[f"{side}/kernel"], LSTM, _CONV) for side in ("ih", "hh"))
    return ConvParams(
        w_x=w_x, w_h=w_h, b=shifted(split(a["ih/bias"] + a["hh/bias"], LSTM, _CONV), 1)
    )


def _stack(a: Arrays, names: list[str]) -> Any:
    """Arrays [..., H] as blocks by gate, [..., G, H]."""
    return np.stack([a[name] for name in names], axis=-2)


_TIED = Layout(_write_tied, _read_tied)
_LAYOUTS = {
    LSTMCell: Layout(write_lstm, read_lstm),
    GRUCell: _GRU,
    MGUResetAfterCell: _gated(MGUResetAfterParams, "fn"),
    UGRNNCell: _gated(UGRNNParams, "fn"),
    RNNCell: Layout(_write_simple, _read_simple),
    ConvLSTMCell: Layout(_write_conv, _read_conv),
}
