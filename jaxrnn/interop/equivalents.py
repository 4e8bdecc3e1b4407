"""Cells that are special cases of the common ones: rewritten as such, they go wherever those go."""

from typing import Any

import jax.numpy as jnp

from jaxrnn.cell import Cell, Params
from jaxrnn.cells import (
    CIFGCell,
    GRUCell,
    GRUParams,
    IndRNNCell,
    LSTMCell,
    LSTMParams,
    MGUResetAfterCell,
    RNNCell,
    RNNParams,
)
from jaxrnn.interop.layouts import ConversionError, layout_of
from jaxrnn.structure import check_params


def as_common_cell(cell: Cell, params: Params) -> tuple[Cell, Params]:
    """The same function as an LSTMCell, GRUCell or RNNCell, with more parameters,
    which training then unties.

    CIFGCell is an LSTM whose input gate has the forget gate's weights negated, since
    1 - sigmoid(a) = sigmoid(-a); MGUResetAfterCell is a GRU whose two gates are equal; IndRNNCell
    is an RNN whose recurrent kernel is diagonal.

    Args:
        cell: one of these cells.
        params: its parameters.

    Returns:
        (cell, params): the common cell, and its parameters in the same dtype. Carries have the same
        fields.

    Raises:
        ConversionError: another cell.

    Example:
        >>> import jax, jaxrnn
        >>> from jaxrnn.interop import as_common_cell, to_keras
        >>> cell = jaxrnn.cells.CIFGCell(4)
        >>> common, params = as_common_cell(cell, cell.init(jax.random.key(0), input_size=3))
        >>> type(common).__name__, to_keras(common, params)["kernel"].shape
        ('LSTMCell', (3, 16))
    """
    rewrite = layout_of(cell, _REWRITES, "as_common_cell")
    return rewrite(cell, check_params(cell, params))


def _cifg(cell: CIFGCell, p: Any) -> tuple[Cell, Params]:
    def four(a: Any) -> Any:  # f g o to i f g o
        return jnp.concatenate([-a[..., :1, :], a], axis=-2)

    if cell.recurrent_activation != "sigmoid":
        raise ConversionError(
            "1 - f(a) is f(-a) for sigmoid only, and this cell has "
            f"recurrent_activation={cell.recurrent_activation!r}."
        )
    common = LSTMCell(cell.hidden_size, bias=cell.bias, activation=cell.activation)
    return common, LSTMParams(w_x=four(p.w_x), w_h=four(p.w_h), b=_bias(four, p.b, cell))


def _mgu(cell: MGUResetAfterCell, p: Any) -> tuple[Cell, Params]:
    def three(a: Any) -> Any:  # f n to r z n
        return jnp.concatenate([a[..., :1, :], a], axis=-2)

    common = GRUCell(
        cell.hidden_size,
        bias=cell.bias,
        activation=cell.activation,
        recurrent_activation=cell.recurrent_activation,
    )
    b = _bias(three, p.b, cell)
    return common, GRUParams(w_x=three(p.w_x), w_h=three(p.w_h), b=b, b_hn=p.b_hn)


def _bias(rewrite: Any, b: Any, cell: Any) -> Any:
    """A bias [G * H] rewritten as kernels are, gate by gate."""
    return None if b is None else rewrite(b.reshape(-1, cell.hidden_size)).reshape(-1)


def _indrnn(cell: IndRNNCell, p: Any) -> tuple[Cell, Params]:
    w_h = jnp.diag(cell.prepare(p).w_h)[:, None, :]
    return RNNCell(cell.hidden_size, cell.nonlinearity, bias=cell.bias), RNNParams(
        w_x=p.w_x, w_h=w_h, b=p.b
    )


_REWRITES = {CIFGCell: _cifg, MGUResetAfterCell: _mgu, IndRNNCell: _indrnn}
