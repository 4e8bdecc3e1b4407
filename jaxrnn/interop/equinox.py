"""Weights from and to the recurrent cells of Equinox, by their names;
Equinox itself is not imported.

It keeps `weight_ih` [G*H, I], `weight_hh` [G*H, H] and one `bias` [G*H], and its GRU also `bias_n`
[H], our `b_hn`. Gates are in our order. With `use_bias=False` the biases are None.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrnn.cell import Cell, DType, Params
from jaxrnn.cells import GRUCell, GRUParams, LSTMCell, LSTMParams
from jaxrnn.interop.layouts import (
    GRU,
    LSTM,
    Arrays,
    Layout,
    check_activations,
    layout_of,
    load,
    side_by_side,
    split,
    store,
)

# what an Equinox cell holds beside its arrays
_SETTINGS = ("input_size", "hidden_size", "use_bias")


def from_equinox(cell: Cell, fields: Mapping[str, Any], dtype: DType = jnp.float32) -> Params:
    """The parameters of a cell from those of an Equinox cell.

    Args:
        cell: an LSTMCell or GRUCell, with `bias=False` for `use_bias=False`.
        fields: `vars(equinox_cell)`, or a dict of its arrays by their names; those that are None
            count as absent.
        dtype: of the parameters made.

    Returns:
        The parameters, as `cell.init` gives them.

    Raises:
        ConversionError: a cell that Equinox does not have.
        ValueError: missing, unexpected or misshapen entries, all of them listed.
        TypeError: no mapping of names to arrays, or an entry that is not floating point.

    Example:
        >>> import jax, jaxrnn
        >>> from jaxrnn.interop import from_equinox, to_equinox
        >>> cell = jaxrnn.GRUCell(4)
        >>> fields = to_equinox(cell, cell.init(jax.random.key(0), input_size=3))
        >>> fields["weight_ih"].shape, fields["bias_n"].shape
        ((12, 3), (4,))
        >>> from_equinox(cell, fields).w_x.shape
        (3, 3, 4)
    """
    layout = layout_of(cell, _LAYOUTS, "equinox")
    check_activations(cell, "equinox")
    if isinstance(fields, Mapping):
        fields = {name: a for name, a in fields.items() if a is not None and name not in _SETTINGS}
    return load(cell, layout, fields, dtype, "dict of the Equinox cell")


def to_equinox(cell: Cell, params: Params) -> dict[str, np.ndarray]:
    """The arrays of an Equinox cell from the parameters of a cell; the inverse of `from_equinox`.

    Args:
        cell: an LSTMCell or GRUCell.
        params: its parameters.

    Returns:
        Names to contiguous arrays of the parameters' dtype, without the biases for `bias=False`;
        `equinox.tree_at` sets them.

    Raises:
        ConversionError: a cell that Equinox does not have.
    """
    layout = layout_of(cell, _LAYOUTS, "equinox")
    check_activations(cell, "equinox")
    return store(cell, layout, params)


def _write(p: Any) -> Arrays:
    arrays = {"weight_ih": side_by_side(p.w_x).T, "weight_hh": side_by_side(p.w_h).T}
    if p.b is not None:
        arrays["bias"] = side_by_side(p.b)
    return arrays | ({"bias_n": p.b_hn} if getattr(p, "b_hn", None) is not None else {})


def _blocks(a: Arrays, gates: str) -> dict[str, Any]:
    w_x, w_h = (split(a[name].T, gates, gates) for name in ("weight_ih", "weight_hh"))
    return {
        "w_x": w_x,
        "w_h": w_h,
        "b": split(a["bias"], gates, gates) if "bias" in a else None,
    }


_LAYOUTS = {
    LSTMCell: Layout(_write, lambda a: LSTMParams(**_blocks(a, LSTM)), bias=True),
    GRUCell: Layout(
        _write, lambda a: GRUParams(**_blocks(a, GRU), b_hn=a.get("bias_n")), bias=True
    ),
}
