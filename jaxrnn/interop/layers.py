"""torch's layers in terms of the core: constructor arguments to a stack, states to carries,
and the call that modules share.
"""

import functools
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.cell import Array, Carry, Cell, DType, Params, zeros
from jaxrnn.cells import GRUCarry, GRUCell, LSTMCarry, LSTMCell, LSTMPCell, RNNCarry, RNNCell
from jaxrnn.checks import check_features, check_size
from jaxrnn.initializers import Chrono, Initializer
from jaxrnn.running import unroll
from jaxrnn.running.method import Method
from jaxrnn.sequences import lengths_to_mask
from jaxrnn.stack import Stack

_CARRIES: dict[type, Any] = {
    RNNCell: RNNCarry,
    LSTMCell: LSTMCarry,
    LSTMPCell: LSTMCarry,
    GRUCell: GRUCarry,
}


class LSTMState(NamedTuple):
    """The state of an LSTM, as torch returns it."""

    h_n: Array  # [num_layers * num_directions, batch, hidden_size or proj_size]
    c_n: Array  # [num_layers * num_directions, batch, hidden_size]


class Options(NamedTuple):
    """How a module is called: what it does not share with its cell."""

    batch_first: bool
    dtype: DType | None  # of the computation; None follows the input
    method: str | Method | None
    remat: str


def rnn(
    hidden_size: int,
    num_layers: int,
    nonlinearity: str,
    bias: bool,
    dropout: float,
    bidirectional: bool,
    recurrent_init: Initializer,
    input_init: Initializer,
    init_scheme: str,
) -> Stack:
    """The stack of `torch.nn.RNN`."""
    options = dict(
        recurrent_init=recurrent_init, input_init=input_init, bias=bias, init_scheme=init_scheme
    )
    return _stack(RNNCell(hidden_size, nonlinearity, **options), num_layers, dropout, bidirectional)


def lstm(
    hidden_size: int,
    num_layers: int,
    bias: bool,
    dropout: float,
    bidirectional: bool,
    proj_size: int,
    forget_bias: float | Chrono,
    recurrent_init: Initializer,
    input_init: Initializer,
    init_scheme: str,
) -> Stack:
    """The stack of `torch.nn.LSTM`."""
    options = dict(
        forget_bias=forget_bias, recurrent_init=recurrent_init, input_init=input_init, bias=bias
    )
    options["init_scheme"] = init_scheme
    cell: Cell = LSTMCell(hidden_size, **options)
    if proj_size:
        cell = LSTMPCell(hidden_size, proj_size, **options)
    return _stack(cell, num_layers, dropout, bidirectional)


def gru(
    hidden_size: int,
    num_layers: int,
    bias: bool,
    dropout: float,
    bidirectional: bool,
    update_bias: float | Chrono,
    recurrent_init: Initializer,
    input_init: Initializer,
    init_scheme: str,
) -> Stack:
    """The stack of `torch.nn.GRU`."""
    options = dict(
        update_bias=update_bias, recurrent_init=recurrent_init, input_init=input_init, bias=bias
    )
    cell = GRUCell(hidden_size, **options, init_scheme=init_scheme)
    return _stack(cell, num_layers, dropout, bidirectional)


def check_input_size(input_size: Any) -> None:
    """Raises unless `input_size` is a size; a cell there is a mistake of its own."""
    is_class = isinstance(input_size, type) and issubclass(input_size, Cell)
    if is_class or isinstance(input_size, Cell):
        raise TypeError(
            f"the first argument is input_size, got {input_size!r}; for a cell use Recurrent(cell)."
        )
    check_size("input_size", input_size)


def hidden_last(params: Params, hidden_axis: str) -> Params:
    """For each parameter the mesh axes of a split over hidden units, a tuple.

    Kernels are split on their last axis, and vectors that are as long; others, as the biases of
    several gates side by side, are whole on every device.
    """
    paths, tree = jax.tree.flatten_with_path(params)
    sizes = {(path[:-1], a.shape[-1]) for path, a in paths if a.ndim > 1}

    def axes(path: Any, a: Array) -> tuple[str | None, ...]:
        split = a.ndim > 1 or (path[:-1], *a.shape) in sizes
        return (None,) * (a.ndim - 1) + (hidden_axis if split else None,) if a.ndim else ()

    return jax.tree.unflatten(tree, [axes(path, a) for path, a in paths])


def warn_of_idle_dropout(dropout: float, num_layers: int) -> None:
    """Warns, as torch does, where dropout is asked for and has no place."""
    if dropout and num_layers == 1:
        text = (
            f"dropout={dropout} acts on the output of every layer but the last, "
            "so it does nothing with num_layers=1."
        )
        warnings.warn(text, stacklevel=3)


@functools.lru_cache(maxsize=256)
def is_noisy(cell: Cell, input_size: int) -> bool:
    """Whether a cell draws anything at random."""
    shape = (1,) * (cell.feature_axes - 1) + (input_size,)
    noise = jax.eval_shape(lambda: cell.noise(jax.random.key(0), 1, jnp.zeros(shape)))
    return bool(jax.tree.leaves(noise))


def call(
    cell: Cell,
    params: Params,
    xs: Any,
    carry: Carry | None,
    options: Options,
    *,
    lengths: Any,
    mask: Any,
    reset: Any,
    key: Array | None,
) -> tuple[Array, Carry]:
    """The call of every module: `xs` [T, *batch, I], or [*batch, T, I] with `batch_first`,
    to `(output, carry)`.
    """
    axes = "..., T" if options.batch_first else "T, ..."
    xs = check_features(
        cell, params, xs if options.dtype is None else jnp.asarray(xs, options.dtype), axes
    )
    axis = xs.ndim - cell.feature_axes - 1 if options.batch_first else 0  # where time is
    # of masks and resets, as the caller lays them out
    shape = xs.shape[: xs.ndim - cell.feature_axes]
    xs = jnp.moveaxis(xs, axis, 0)
    mask, reset = (
        None if rows is None else jnp.moveaxis(_rows(name, rows, shape), axis, 0)
        for name, rows in (("mask", mask), ("reset", reset))
    )
    if lengths is not None:
        lengths = _check_lengths(lengths, xs.shape[: xs.ndim - cell.feature_axes], options)
        valid = lengths_to_mask(lengths, xs.shape[0])
        mask = valid if mask is None else valid & mask
    noise = None
    if key is not None:
        noise = cell.noise(key, xs.shape[0], jnp.zeros_like(jnp.sum(xs, axis=0)))
    how = dict(mask=mask, reset=reset, noise=noise, method=options.method, remat=options.remat)
    carry, ys = unroll(cell, params, xs, carry, **how)
    return jnp.moveaxis(ys, 0, axis), carry


def torch_call(
    stack: Stack, params: Params, xs: Any, state: Any, options: Options, **sequence: Any
) -> tuple[Array, Array | LSTMState]:
    """The call of a torch-like module: `xs` [T, batch, I] (or [batch, T, I]) or [T, I],
    to `(output, state)`.
    """
    xs = xs if hasattr(xs, "ndim") else jnp.asarray(xs)
    if xs.ndim not in (2, 3):
        layout = "(batch, T, features)" if options.batch_first else "(T, batch, features)"
        raise ValueError(
            f"xs has shape {xs.shape}, expected {layout}, or (T, features) without batch."
        )
    options = options._replace(batch_first=options.batch_first and xs.ndim == 3)
    batch = xs.shape[1 - options.batch_first : 2 - options.batch_first] if xs.ndim == 3 else ()
    output, carry = call(stack, params, xs, _to_carry(stack, state, batch), options, **sequence)
    return output, _to_state(carry)


def step(
    cell: Cell, params: Params, x: Any, carry: Carry | None, options: Options
) -> tuple[Array, Carry]:
    """One step of a module: `x` [*batch, I] to `(y, carry)`,
    by the sequence of that one step, compiled once.
    """
    x = jnp.asarray(x) if options.dtype is None else jnp.asarray(x, options.dtype)
    if not cell.causal:
        raise ValueError(
            "a bidirectional module has no single step: its second direction starts at the end."
        )
    check_features(cell, params, x, axes="...")
    carry, ys = unroll(cell, params, x[None], carry, method=options.method)
    return ys[0], carry


def torch_step(
    stack: Stack, params: Params, x: Any, state: Any, options: Options
) -> tuple[Array, Array | LSTMState]:
    """One step of a torch-like module: `x` [batch, I] or [I] to `(y, state)`."""
    x = x if hasattr(x, "ndim") else jnp.asarray(x)
    if x.ndim not in (1, 2):
        raise ValueError(
            f"x has shape {x.shape}, expected (batch, features) or (features,): "
            "step takes no time axis."
        )
    y, carry = step(stack, params, x, _to_carry(stack, state, x.shape[:-1]), options)
    return y, _to_state(carry)


def like_inputs(carry: Carry, like: Array, feature_axes: int) -> Carry:
    """A carry with the batch axes of `like`, one step's input, brought to its dtype,
    sharding and varying axes.
    """
    batch = like.ndim - feature_axes
    return jax.tree.map(
        lambda c: zeros(like, *c.shape[batch:], feature_axes=feature_axes) + c.astype(like.dtype),
        carry,
    )


def _stack(cell: Cell, num_layers: int, dropout: float, bidirectional: bool) -> Stack:
    check_size("num_layers", num_layers)
    return Stack((cell,) * num_layers, bidirectional=bidirectional, dropout=dropout)


def _rows(name: str, rows: Any, shape: tuple[int, ...]) -> Array:
    rows = jnp.asarray(rows)
    if rows.shape != shape:
        hint = " Are time and batch swapped?" if rows.shape == shape[::-1] else ""
        raise ValueError(
            f"{name} has shape {rows.shape}, expected {shape}: "
            f"the leading axes of xs, as it was passed.{hint}"
        )
    return rows


def _check_lengths(lengths: Any, rows: tuple[int, ...], options: Options) -> Any:
    """Lengths of the batch axes of `rows`, (T, *batch) of the time-major inputs."""
    T, *batch = rows
    if np.shape(lengths) != tuple(batch):
        now, other = ("time-major", False) if options.batch_first else ("batch-first", True)
        swapped = f" Is xs {now}? Then make the module with batch_first={other}."
        hint = swapped if np.shape(lengths) == (T,) and len(batch) == 1 else ""
        raise ValueError(
            f"lengths has shape {np.shape(lengths)}, expected the batch axes of xs, "
            f"{tuple(batch)}.{hint}"
        )
    return lengths


def _to_carry(stack: Stack, state: Any, batch: tuple[int, ...]) -> tuple[Carry, ...] | None:
    """torch's state, [layers * directions, *batch, size] each, as the carry of a stack."""
    if state is None:
        return None
    cell: Any = stack.cells[0]
    count = len(stack.cells) * stack.directions
    parts = _parts(cell, state)
    sizes = (getattr(cell, "proj_size", cell.hidden_size), cell.hidden_size)
    for name, part, size in zip(("h_0", "c_0"), parts, sizes, strict=False):
        if np.shape(part) != (count, *batch, size):
            hint = " Are h_0 and c_0 swapped?" if _are_swapped(parts, sizes) else ""
            raise ValueError(
                f"{name} has shape {np.shape(part)}, expected {(count, *batch, size)}: "
                "num_layers * num_directions, the batch if there is one, and size, "
                f"whatever batch_first.{hint}"
            )
    carry = _CARRIES[type(cell)]
    return tuple(carry(*(part[i] for part in parts)) for i in range(count))


def _parts(cell: Cell, state: Any) -> tuple[Any, ...]:
    """The arrays of a state: (h_0, c_0) of an LSTM, (h_0,) of the others."""
    lstm = isinstance(cell, LSTMCell | LSTMPCell)
    if lstm != isinstance(state, tuple) or (lstm and len(state) != 2):
        expected = "the pair (h_0, c_0)" if lstm else "the array h_0"
        raise TypeError(f"the state of this module is {expected}, got {type(state).__name__}.")
    return state if lstm else (state,)


def _are_swapped(parts: tuple[Any, ...], sizes: tuple[int, int]) -> bool:
    """Whether each of two arrays has the size of the other, and these sizes tell them apart."""
    given = [np.shape(part)[-1:] for part in parts]
    return given == [(size,) for size in sizes[::-1]] and sizes[0] != sizes[1]


def _to_state(carry: tuple[Carry, ...]) -> Array | LSTMState:
    h_n = jnp.stack([c.h for c in carry])
    if not isinstance(carry[0], LSTMCarry):
        return h_n
    return LSTMState(h_n=h_n, c_n=jnp.stack([c.c for c in carry]))
