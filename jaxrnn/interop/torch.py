"""Weights from and to `torch.nn.RNN`, `LSTM` and `GRU`, by their names and shapes;
torch itself is not imported.

torch keeps `weight_ih_l{k}` [G*H, I], `weight_hh_l{k}` [G*H, R], `bias_ih_l{k}` and `bias_hh_l{k}`
[G*H], and `weight_hr_l{k}` [P, H] for a projection, with `_reverse` after the names of the second
direction. Gates are in our order (`i f g o`, `r z n`).
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.cell import DType, Params
from jaxrnn.cells import (
    GRUCell,
    GRUParams,
    LSTMCell,
    LSTMParams,
    LSTMPCell,
    LSTMPParams,
    RNNCell,
    RNNParams,
)
from jaxrnn.checks import check_float, check_size, check_text
from jaxrnn.interop.layouts import (
    Arrays,
    ConversionError,
    check_activations,
    check_entries,
    side_by_side,
    to_numpy,
)
from jaxrnn.stack import Stack
from jaxrnn.structure import check_params


def from_torch(
    stack: Stack,
    input_size: int,
    state_dict: Mapping[str, Any],
    dtype: DType | None = jnp.float32,
    *,
    prefix: str = "",
) -> tuple[Params, ...]:
    """The parameters of a stack from a torch module's `state_dict()`.

    torch's two biases are added in at least float32 (in float64 if they are float64), then
    everything is cast to `dtype`.

    Args:
        stack: a stack of equal RNNCell, LSTMCell, LSTMPCell or GRUCell.
        input_size: the number of input features.
        state_dict: names to arrays: torch tensors (bfloat16 and such that require grad, too) or
            NumPy arrays.
        dtype: of the parameters made; None keeps torch's, in float32 at least.
        prefix: what stands before each name, such as "encoder.lstm."; names without it are then
            left alone.

    Returns:
        The parameters, as `stack.init` gives them.

    Raises:
        ValueError: missing, unexpected or misshapen entries, all of them listed; an `input_size`
            below 1.
        ConversionError: a cell that torch does not have, layers that differ, or directions that are
            not concatenated.
        TypeError: no mapping of names to arrays, an entry that is not floating point, or a prefix
            that is no string.

    Example:
        >>> import jax, jaxrnn
        >>> from jaxrnn.interop import from_torch, to_torch
        >>> stack = jaxrnn.Stack((jaxrnn.GRUCell(4),))
        >>> params = stack.init(jax.random.key(0), input_size=3)
        >>> weights = to_torch(stack, params)
        >>> weights["weight_ih_l0"].shape
        (12, 3)
        >>> bool((from_torch(stack, 3, weights)[0].w_x == params[0].w_x).all())
        True
    """
    if dtype is not None:
        check_float("dtype", dtype)
    check_size("input_size", input_size)
    check_text("prefix", prefix)
    _check_arrays(state_dict)
    _check_stack(stack)
    own = jax.eval_shape(lambda: stack.init(jax.random.key(0), input_size))
    blank = jax.tree.map(lambda a: np.empty(a.shape, np.int8), own)
    wanted = {prefix + name: a.shape for name, a in _export(stack, blank).items()}
    arrays = {name: value for name, value in state_dict.items() if name.startswith(prefix)}
    given = {name: tuple(value.shape) for name, value in arrays.items()}
    check_entries(wanted, given, "the state_dict does not fit this module")
    arrays = {name: to_numpy(name, value) for name, value in arrays.items()}
    params = tuple(
        import_cell(type(like), _of_one(arrays, prefix, end))
        for end, like in zip(_endings(stack), own, strict=True)
    )
    return jax.tree.map(lambda a: jnp.array(a, dtype), params)


def to_torch(
    stack: Stack, params: tuple[Params, ...], *, prefix: str = ""
) -> dict[str, np.ndarray]:
    """The entries of a torch module's `state_dict` from the parameters of a stack.

    The one bias goes to `bias_ih`, and `bias_hh` is zero (GRU: `[0, 0, b_hn]`), so that
    `from_torch` gives back every bit.

    Args:
        stack: a stack of equal RNNCell, LSTMCell, LSTMPCell or GRUCell.
        params: its parameters.
        prefix: what to write before each name.

    Returns:
        Names to contiguous arrays, in torch's order, of the parameters' dtype; of float32 for
        bfloat16, which torch does not take from NumPy and which loses nothing.

    Raises:
        ConversionError: a cell that torch does not have, layers that differ, or directions that are
            not concatenated.
        ValueError: parameters of another structure or other shapes than the stack's.
    """
    check_text("prefix", prefix)
    _check_stack(stack)
    half = jnp.bfloat16
    params = check_params(stack, params)
    arrays = _export(
        stack,
        jax.tree.map(lambda a: np.asarray(a, np.float32 if a.dtype == half else None), params),
    )
    # contiguous, writable copies
    return {prefix + name: np.array(a, order="C") for name, a in arrays.items()}


_GATES = {RNNParams: 1, LSTMParams: 4, LSTMPParams: 4, GRUParams: 3}
_KINDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")


def _endings(stack: Stack) -> list[str]:
    return [
        f"_l{k}{end}"
        for k in range(len(stack.cells))
        for end in ("", "_reverse")[: stack.directions]
    ]


def _of_one(arrays: Arrays, prefix: str, end: str) -> Arrays:
    """The arrays of one layer and direction, by their names without prefix and ending."""
    names = {kind: f"{prefix}{kind}{end}" for kind in _KINDS}
    return {kind: arrays[name] for kind, name in names.items() if name in arrays}


def _check_arrays(state_dict: Any) -> None:
    """Raises TypeError unless `state_dict` maps names to arrays."""
    if not isinstance(state_dict, Mapping) or not all(
        hasattr(value, "shape") for value in state_dict.values()
    ):
        hint = " Pass module.state_dict()." if hasattr(state_dict, "state_dict") else ""
        raise TypeError(
            f"state_dict must map names to arrays, got {type(state_dict).__name__}.{hint}"
        )


def _check_stack(stack: Stack) -> None:
    if not isinstance(stack, Stack):
        raise TypeError(
            f"torch's modules are stacks here, as Stack((cell,)) for one layer, got {stack!r}. "
            "from_torch_cell and to_torch_cell are for torch's single cells."
        )
    kind = type(stack.cells[0])
    for cell in stack.cells:
        if type(cell) not in (RNNCell, LSTMCell, LSTMPCell, GRUCell) or type(cell) is not kind:
            raise ConversionError(
                f"torch has no module of these cells: {stack.cells}. "
                "Use equal RNN, LSTM, LSTMP or GRU cells."
            )
    for cell in stack.cells:
        check_activations(cell, "torch")
    for name in ("hidden_size", "proj_size", "nonlinearity", "bias"):
        values = [getattr(cell, name, None) for cell in stack.cells]
        if any(value != values[0] for value in values):
            raise ConversionError(
                f"torch's layers share one {name}, those of this stack have {values}."
            )
    if stack.merge != "concat":
        raise ConversionError(
            "torch concatenates the outputs of both directions, "
            f"this stack has merge={stack.merge!r}."
        )


def _export(stack: Stack, params: tuple[Params, ...]) -> dict[str, np.ndarray]:
    return {
        kind + end: array
        for end, p in zip(_endings(stack), params, strict=True)
        for kind, array in export_cell(p).items()
    }


def export_cell(params: Any) -> Arrays:
    """One cell's parameters under torch's names without their suffixes."""
    arrays = {
        "weight_ih": side_by_side(params.w_x).T,
        "weight_hh": side_by_side(params.w_h).T,
    }
    if params.b is not None:
        bias_ih = params.b.reshape(-1)
        bias_hh = np.zeros_like(bias_ih)
        if hasattr(params, "b_hn"):
            bias_hh[-len(params.b_hn) :] = params.b_hn
        arrays |= {"bias_ih": bias_ih, "bias_hh": bias_hh}
    if hasattr(params, "w_p"):
        arrays["weight_hr"] = params.w_p.T
    return arrays


def import_cell(kind: Any, arrays: Arrays) -> Params:
    """Parameters of one kind from arrays under torch's names without their suffixes."""
    gates = _GATES[kind]
    w_x, w_h = (
        arrays[name].T.reshape(arrays[name].shape[1], gates, -1)
        for name in ("weight_ih", "weight_hh")
    )
    values: dict[str, Any] = {"w_x": w_x, "w_h": w_h}
    if "bias_ih" in arrays:
        bias_ih = arrays["bias_ih"]
        bias_hh = arrays["bias_hh"]
        # it stands inside the reset gate's product, and is no part of the sum
        if "b_hn" in kind._fields:
            H = w_x.shape[-1]
            values["b_hn"] = bias_hh[-H:]
            bias_hh = np.concatenate([bias_hh[:-H], np.zeros_like(bias_hh[-H:])])
        values["b"] = np.where(bias_hh == 0, bias_ih, bias_ih + bias_hh)  # -0.0 + 0.0 would be 0.0
    if "weight_hr" in arrays:
        values["w_p"] = arrays["weight_hr"].T
    return kind(**{name: values.get(name) for name in kind._fields})
