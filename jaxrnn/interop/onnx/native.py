"""Layers as ONNX's own recurrent operators, and back."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxrnn.cell import Cell, Params
from jaxrnn.cells import (
    CIFGCell,
    GRUCell,
    GRUParams,
    GRUResetBeforeCell,
    IndRNNCell,
    LSTMCell,
    LSTMParams,
    MGUResetAfterCell,
    PeepholeLSTMCell,
    RNNCell,
    RNNParams,
)
from jaxrnn.cells.gru import GRUResetBeforeParams
from jaxrnn.cells.peephole import PeepholeLSTMParams
from jaxrnn.interop.equivalents import as_common_cell
from jaxrnn.interop.layouts import ConversionError

LSTM = (0, 3, 1, 2)  # i o f c of i f g o
GRU = (1, 0, 2)  # z r h of r z n
# ONNX's names of activations, with their numbers alpha and beta where they have them
ACTIVATIONS: dict[str, tuple[str, float | None, float | None]] = {
    "tanh": ("Tanh", None, None),
    "sigmoid": ("Sigmoid", None, None),
    "relu": ("Relu", None, None),
    "elu": ("Elu", 1.0, None),
    "softplus": ("Softplus", None, None),
    "linear": ("Affine", 1.0, 0.0),
    "hard_sigmoid": ("HardSigmoid", 1 / 6, 0.5),
}


class Operator(NamedTuple):
    """A direction of a layer as ONNX has it."""

    kind: str  # LSTM, GRU or RNN
    w: Any  # [G * H, I]
    r: Any  # [G * H, H]
    b: Any  # [2 * G * H], those of both products
    p: Any  # [3 * H], peepholes i o f; None without
    activations: tuple[str, ...]  # by our names
    attributes: dict[str, Any]


def operator(cell: Cell, params: Params) -> Operator | None:
    """The operator that is this cell; None where there is none."""
    if isinstance(cell, MGUResetAfterCell | IndRNNCell):
        cell, params = as_common_cell(cell, params)
    kind = _KINDS.get(type(cell))
    if kind is None or (isinstance(cell, CIFGCell) and cell.recurrent_activation != "sigmoid"):
        return None
    made = kind(cell, params)
    known = all(isinstance(a, str) and a in ACTIVATIONS for a in made.activations)
    return made if known else None


def _rows(a: Any, order: tuple[int, ...]) -> np.ndarray:
    """A kernel [I, G, H] as [G * H, I], gates in ONNX's order."""
    a = np.asarray(a)[:, list(order)]
    return a.reshape(a.shape[0], -1).T


def _bias(b: Any, order: tuple[int, ...], H: int, like: Any) -> np.ndarray:
    if b is None:
        return np.zeros(len(order) * H, np.asarray(like).dtype)
    return np.asarray(b).reshape(-1, H)[list(order)].ravel()


def _lstm(cell: Any, p: Any) -> Operator:
    b = _bias(p.b, LSTM, cell.hidden_size, p.w_x)
    peepholes = None
    if isinstance(cell, PeepholeLSTMCell):
        peepholes = np.concatenate([np.asarray(a) for a in (p.p_i, p.p_o, p.p_f)])
    return Operator(
        "LSTM",
        _rows(p.w_x, LSTM),
        _rows(p.w_h, LSTM),
        np.concatenate([b, np.zeros_like(b)]),
        peepholes,
        (cell.recurrent_activation, cell.activation, cell.activation),
        {},
    )


def _cifg(cell: Any, p: Any) -> Operator:
    """i = 1 - f is the gate with f's weights negated; the operator makes f of it again."""
    common, four = as_common_cell(cell, p)
    return _lstm(common, four)._replace(attributes={"input_forget": 1})


def _gru(cell: Any, p: Any) -> Operator:
    H = cell.hidden_size
    b = _bias(p.b, GRU, H, p.w_x)
    inner = np.zeros_like(b)
    if getattr(p, "b_hn", None) is not None:
        inner[2 * H :] = np.asarray(p.b_hn)
    after = int(isinstance(cell, GRUCell))
    return Operator(
        "GRU",
        _rows(p.w_x, GRU),
        _rows(p.w_h, GRU),
        np.concatenate([b, inner]),
        None,
        (cell.recurrent_activation, cell.activation),
        {"linear_before_reset": after},
    )


def _rnn(cell: Any, p: Any) -> Operator:
    b = _bias(p.b, (0,), cell.hidden_size, p.w_x)
    w, r = (_rows(a, (0,)) for a in (p.w_x, p.w_h))
    return Operator(
        "RNN", w, r, np.concatenate([b, np.zeros_like(b)]), None, (cell.nonlinearity,), {}
    )


_KINDS: dict[type[Cell], Callable[[Any, Any], Operator]] = {
    LSTMCell: _lstm,
    PeepholeLSTMCell: _lstm,
    CIFGCell: _cifg,
    GRUCell: _gru,
    GRUResetBeforeCell: _gru,
    RNNCell: _rnn,
}


def cell_of(found: Operator, input_forget: bool, before: bool) -> tuple[Cell, Params]:
    """The cell that is an operator, with its parameters.

    Args:
        found: the operator.
        input_forget: of an LSTM, whether f is 1 - i.
        before: of a GRU, whether it resets before the product.

    Raises:
        ConversionError: what no cell here is.
    """
    H = found.r.shape[-1]
    gates = found.r.shape[0] // H
    order = {"LSTM": LSTM, "GRU": GRU, "RNN": (0,)}[found.kind]
    back = np.argsort(order)
    kernels: list[Any] = [
        a.reshape(gates, H, -1)[back].transpose(2, 0, 1) for a in (found.w, found.r)
    ]
    w_x, w_h = kernels
    halves: list[Any] = [half.reshape(gates, H)[back] for half in np.split(found.b, 2)]
    outer, inner = halves
    options: dict[str, Any] = dict(activation=found.activations[-1])
    if found.kind == "RNN":
        cell = RNNCell(H, found.activations[0])
        return cell, RNNParams(w_x=w_x, w_h=w_h, b=(outer + inner).ravel())
    options["recurrent_activation"] = found.activations[0]
    if found.kind == "GRU":
        if before:
            b = (outer + inner).ravel()
            return GRUResetBeforeCell(H, **options), GRUResetBeforeParams(w_x=w_x, w_h=w_h, b=b)
        sums: Any = outer + np.concatenate([inner[:2], np.zeros_like(inner[2:])])
        return GRUCell(H, **options), GRUParams(w_x=w_x, w_h=w_h, b=sums.ravel(), b_hn=inner[2])
    if found.activations[1] != found.activations[2]:
        raise ConversionError(
            f"an LSTM with {found.activations[1]} and {found.activations[2]}: cells here have one "
            "activation for both."
        )
    b = outer + inner
    if input_forget:  # f = 1 - i: the gate with i's weights negated
        for a in (w_x, w_h):
            a[:, 1] = -a[:, 0]
        b[1] = -b[0]
        if found.activations[0] != "sigmoid" or found.p is not None:
            raise ConversionError(
                "an LSTM with input_forget and peepholes or another gate than sigmoid."
            )
    if found.p is None:
        return LSTMCell(H, **options), LSTMParams(w_x=w_x, w_h=w_h, b=b.ravel())
    peepholes: list[Any] = np.split(found.p, 3)
    p_i, p_o, p_f = peepholes
    params = PeepholeLSTMParams(w_x=w_x, w_h=w_h, b=b.ravel(), p_i=p_i, p_f=p_f, p_o=p_o)
    return PeepholeLSTMCell(H, **options), params
