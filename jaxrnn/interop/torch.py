"""Weights from and to `torch.nn.RNN`, `LSTM` and `GRU`, by their names and shapes; torch itself is not imported.

torch keeps `weight_ih_l{k}` [G*H, I], `weight_hh_l{k}` [G*H, R], `bias_ih_l{k}` and `bias_hh_l{k}` [G*H], and `weight_hr_l{k}`
[P, H] for a projection, with `_reverse` after the names of the second direction. Gates are in our order (`i f g o`, `r z n`).
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.cells import GRUCell, LSTMCell, LSTMPCell, RNNCell
from jaxrnn.stack import Stack
from jaxrnn.typing import DType, Params


def from_torch(
    stack: Stack, input_size: int, state_dict: Mapping[str, Any], dtype: DType = jnp.float32, *, prefix: str = ""
) -> tuple[Params, ...]:
    """The parameters of a stack from a torch module's `state_dict()`.

    torch's two biases are added in at least float32 (in float64 if they are float64), then everything is cast to `dtype`.

    Args:
        stack: a stack of equal RNNCell, LSTMCell, LSTMPCell or GRUCell.
        input_size: the number of input features.
        state_dict: names to arrays: torch tensors (bfloat16 and such that require grad, too) or NumPy arrays.
        dtype: of the parameters made.
        prefix: what stands before each name, such as "encoder.lstm."; names without it are then left alone.

    Returns:
        The parameters, as `stack.init` gives them.

    Raises:
        ValueError: missing, unexpected or misshapen entries, all of them listed.
        TypeError: a cell that torch does not have, no mapping of names to arrays, or an entry that is not floating point.

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
    if not isinstance(state_dict, Mapping) or not all(hasattr(value, "shape") for value in state_dict.values()):
        hint = " Pass module.state_dict()." if hasattr(state_dict, "state_dict") else ""
        raise TypeError(f"state_dict must map names to arrays, got {type(state_dict).__name__}.{hint}")
    own = jax.eval_shape(lambda: stack.init(jax.random.key(0), input_size))
    wanted = {prefix + n: a.shape for n, a in _export(stack, jax.tree.map(lambda a: np.empty(a.shape, np.int8), own)).items()}
    arrays = {name: value for name, value in state_dict.items() if name.startswith(prefix)}
    _check(wanted, {name: tuple(value.shape) for name, value in arrays.items()}, prefix)
    arrays = {name: _numpy(name, value) for name, value in arrays.items()}
    params = (_import(like, {k: arrays[prefix + k + end] for k in _KINDS if prefix + k + end in arrays})
              for end, like in zip(_endings(stack), own, strict=True))  # fmt: skip
    return jax.tree.map(lambda a: jnp.asarray(a, dtype), tuple(params))


def to_torch(stack: Stack, params: tuple[Params, ...], *, prefix: str = "") -> dict[str, np.ndarray]:
    """The entries of a torch module's `state_dict` from the parameters of a stack.

    The one bias goes to `bias_ih`, and `bias_hh` is zero (GRU: `[0, 0, b_hn]`), so that `from_torch` gives back every bit.

    Args:
        stack: a stack of equal RNNCell, LSTMCell, LSTMPCell or GRUCell.
        params: its parameters.
        prefix: what to write before each name.

    Returns:
        Names to contiguous arrays, in torch's order, of the parameters' dtype; of float32 for bfloat16, which torch does not take
        from NumPy and which loses nothing.

    Raises:
        TypeError: a cell that torch does not have.
    """
    half = jnp.bfloat16
    arrays = _export(stack, jax.tree.map(lambda a: np.asarray(a, np.float32 if a.dtype == half else None), params))
    return {prefix + name: np.array(a, order="C") for name, a in arrays.items()}  # contiguous, writable copies


_KINDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")


def _endings(stack: Stack) -> list[str]:
    return [f"_l{k}{end}" for k in range(len(stack.cells)) for end in ("", "_reverse")[: stack.directions]]


def _export(stack: Stack, params: tuple[Params, ...]) -> dict[str, np.ndarray]:
    for cell in stack.cells:
        if type(cell) not in (RNNCell, LSTMCell, LSTMPCell, GRUCell) or type(cell) is not type(stack.cells[0]):
            raise TypeError(f"torch has no module of these cells: {stack.cells}. Use equal RNN, LSTM, LSTMP or GRU cells.")
    if stack.merge != "concat":
        raise TypeError(f"torch concatenates the outputs of both directions, this stack has merge={stack.merge!r}.")
    return {kind + end: array for end, p in zip(_endings(stack), params, strict=True) for kind, array in _export_cell(p).items()}


def _export_cell(params: Params) -> dict[str, np.ndarray]:
    arrays = {
        "weight_ih": params.w_x.reshape(params.w_x.shape[0], -1).T,
        "weight_hh": params.w_h.reshape(params.w_h.shape[0], -1).T,
    }
    if params.b is not None:
        bias_hh = np.zeros_like(params.b)
        if hasattr(params, "b_hn"):
            bias_hh[-1] = params.b_hn
        arrays |= {"bias_ih": params.b.reshape(-1), "bias_hh": bias_hh.reshape(-1)}
    if hasattr(params, "w_p"):
        arrays["weight_hr"] = params.w_p.T
    return arrays


def _import(like: Params, arrays: dict[str, np.ndarray]) -> Params:
    values: dict[str, np.ndarray | None] = {
        "w_x": arrays["weight_ih"].T.reshape(like.w_x.shape),
        "w_h": arrays["weight_hh"].T.reshape(like.w_h.shape),
        "b": None,
    }
    if like.b is not None:
        bias_ih, bias_hh = arrays["bias_ih"].reshape(like.b.shape), arrays["bias_hh"].reshape(like.b.shape)
        if hasattr(like, "b_hn"):  # it stands inside the reset gate's product, and is no part of the sum
            values["b_hn"], bias_hh = bias_hh[-1], np.concatenate([bias_hh[:-1], np.zeros_like(bias_hh[-1:])])
        values["b"] = np.where(bias_hh == 0, bias_ih, bias_ih + bias_hh)  # -0.0 + 0.0 would be 0.0
    if hasattr(like, "w_p"):
        values["w_p"] = arrays["weight_hr"].T
    return type(like)(**{name: values.get(name) for name in like._fields})


def _numpy(name: str, value: Any) -> np.ndarray:
    """A torch tensor or an array as NumPy, in float32 or wider."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    array = np.asarray(value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name} has dtype {array.dtype}, expected floating point.")
    return array.astype(np.float32) if array.dtype.itemsize <= 2 else array


def _check(wanted: dict[str, tuple[int, ...]], given: dict[str, tuple[int, ...]], prefix: str) -> None:
    missing = [n for n in wanted if n not in given]
    unexpected = [n for n in given if n not in wanted]
    misshapen = [f"{n} {given[n]}, expected {s}" for n, s in wanted.items() if n in given and given[n] != s]
    problems = {"missing": missing, "unexpected": unexpected, "misshapen": misshapen}
    if not any(problems.values()):
        return
    text = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in problems.items() if names)
    before = {n[: -len(w)] for n in unexpected for w in wanted if n.endswith("." + w)} if not prefix else set()
    hint = f" Pass prefix={min(before)!r} for the names under it." if before else ""
    raise ValueError(f"the state_dict does not fit this module. {text}.{hint}")
