"""Weights from and to `torch.nn.RNNCell`, `LSTMCell` and `GRUCell`, by their names;
torch itself is not imported.

They keep what one layer of `torch.nn.LSTM` and its like keeps, under names without a suffix.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.cell import Cell, DType, Params
from jaxrnn.cells import GRUCell, GRUParams, LSTMCell, LSTMParams, RNNCell, RNNParams
from jaxrnn.checks import check_text
from jaxrnn.interop.layouts import Arrays, Layout, check_activations, layout_of, load, store
from jaxrnn.interop.torch import export_cell, import_cell
from jaxrnn.structure import fit_params


def from_torch_cell(
    cell: Cell, state_dict: Mapping[str, Any], dtype: DType = jnp.float32, *, prefix: str = ""
) -> Params:
    """The parameters of a cell from the `state_dict()` of a torch cell.

    torch's two biases are added in at least float32 (in float64 if they are float64), then
    everything is cast to `dtype`.

    Args:
        cell: an RNNCell, LSTMCell or GRUCell, with torch's `bias`; of an RNNCell `nonlinearity`
            must be the same too.
        state_dict: names to arrays: torch tensors or NumPy arrays.
        dtype: of the parameters made.
        prefix: what stands before each name, such as "decoder.cell."; names without it are then
            left alone.

    Returns:
        The parameters, as `cell.init` gives them.

    Raises:
        ConversionError: a cell that torch does not have; an LSTM with projection is only in its
            layers (`from_torch`).
        ValueError: missing, unexpected or misshapen entries, all of them listed.
        TypeError: no mapping of names to arrays, or an entry that is not floating point.

    Example:
        >>> import jax, jaxrnn
        >>> from jaxrnn.interop import from_torch_cell, to_torch_cell
        >>> cell = jaxrnn.LSTMCell(4)
        >>> weights = to_torch_cell(cell, cell.init(jax.random.key(0), input_size=3))
        >>> list(weights)
        ['weight_ih', 'weight_hh', 'bias_ih', 'bias_hh']
        >>> from_torch_cell(cell, weights).w_x.shape
        (3, 4, 4)
    """
    check_text("prefix", prefix)
    layout = layout_of(cell, _LAYOUTS, "torch")
    check_activations(cell, "torch")
    if prefix and isinstance(state_dict, Mapping):
        state_dict = {
            name[len(prefix) :]: a for name, a in state_dict.items() if name.startswith(prefix)
        }
    return load(cell, layout, state_dict, dtype, "state_dict")


def to_torch_cell(cell: Cell, params: Params, *, prefix: str = "") -> dict[str, np.ndarray]:
    """The entries of a torch cell's `state_dict` from the parameters of a cell;
    the inverse of `from_torch_cell`.

    Args:
        cell: an RNNCell, LSTMCell or GRUCell.
        params: its parameters.
        prefix: what to write before each name.

    Returns:
        Names to contiguous arrays of the parameters' dtype, and of float32 for bfloat16, which
        torch does not take from NumPy. The one bias goes to `bias_ih`, and `bias_hh` is zero (GRU:
        `[0, 0, b_hn]`).

    Raises:
        ConversionError: a cell that torch does not have.
    """
    check_text("prefix", prefix)
    layout = layout_of(cell, _LAYOUTS, "torch")
    check_activations(cell, "torch")
    params = fit_params(cell, params)
    params = jax.tree.map(
        lambda a: np.asarray(a, np.float32 if a.dtype == jnp.bfloat16 else None), params
    )
    return {prefix + name: a for name, a in store(cell, layout, params).items()}


def _layout(kind: type) -> Layout:
    """The layout of parameters of one kind."""

    def read(a: Arrays) -> Params:
        return import_cell(kind, a)

    return Layout(export_cell, read, bias=True)


_LAYOUTS = {RNNCell: _layout(RNNParams), LSTMCell: _layout(LSTMParams), GRUCell: _layout(GRUParams)}
