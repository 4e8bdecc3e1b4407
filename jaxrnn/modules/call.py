"""The call that the modules of both APIs share: layout, lengths and randomness around `unroll`, in
one compiled program."""

import functools
import numbers
from typing import Any, NamedTuple

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np

from jaxrnn.cell import Array, Carry, Cell, DType, Params, carry_dtype, cast
from jaxrnn.checks import (
    as_array,
    as_arrays,
    as_floating,
    axes_of,
    check_boolean,
    check_features,
)
from jaxrnn.interop.torch_states import LSTMState, from_named, normal_state, to_carries, to_state
from jaxrnn.running import unroll
from jaxrnn.running.method import Method
from jaxrnn.running.unroll import compiled
from jaxrnn.sequences import lengths_to_mask
from jaxrnn.sequences.lengths import as_lengths


class Options(NamedTuple):
    """How a module is called: what it does not share with its cell."""

    batch_first: bool
    dtype: DType | None  # of the computation; None follows the input
    method: Method | None
    remat: str
    reverse: bool = False
    torch: bool = False  # whether states are those of torch's layers


def call(
    cell: Cell,
    params: Params,
    xs: Any,
    state: Any,
    options: Options,
    *,
    lengths: Any,
    mask: Any,
    reset: Any,
    key: Array | None,
) -> tuple[Any, Any]:
    """The call of a module: `xs` [T, *batch, I], or [*batch, T, I] with `batch_first`, to
    `(output, state)`."""
    xs = _check_inputs(cell, params, xs, options)
    if options.torch:
        options = options._replace(batch_first=options.batch_first and xs.ndim == 3)
    rows = xs.shape[: xs.ndim - cell.feature_axes]  # the axes of masks, as the caller has them
    axis = len(rows) - 1 if options.batch_first else 0  # where time is
    batch = (*rows[:axis], *rows[axis + 1 :])
    mask = None if mask is None else _rows("mask", mask, rows)
    reset = None if reset is None else _rows("reset", reset, rows)
    if lengths is not None:
        lengths = _check_lengths(lengths, rows[axis], batch, options)
    given = _state(cell, params, state, xs, batch, options)
    return compiled(_sequence, cell, options, params, xs, given, mask, reset, lengths, key)


def step(
    cell: Cell, params: Params, x: Any, state: Any, options: Options, reset: Any
) -> tuple[Any, Any]:
    """One step of a module: `x` [*batch, I] to `(y, state)`, by the sequence of that one step."""
    if not cell.causal:
        raise ValueError(
            "a bidirectional module has no single step: its second direction starts at the end."
        )
    if options.reverse:
        raise ValueError("a module with reverse=True has no single step: it starts at the end.")
    x = as_floating(x)
    if options.torch and x.ndim not in (1, 2):
        raise ValueError(
            f"x has shape {x.shape}, expected (batch, features) or (features,): "
            "step takes no time axis."
        )
    check_features(cell, params, x, axes="...")
    batch = x.shape[: x.ndim - cell.feature_axes]
    reset = None if reset is None else _rows("reset", reset, batch, "the batch axes of x")
    given = _state(cell, params, state, x, batch, options)
    return compiled(_one_step, cell, options, params, x, given, reset)


def first_state(
    cell: Cell, params: Params, given: tuple[Any, int, Any], options: Options, dtype: DType
) -> Any:
    """The state before the first step. `given` is the number of sequences or the batch axes, the
    number of features, and the spatial axes of the inputs.

    `params` may be shapes only, where the first carry is not learned.
    """
    batch_size, input_size, spatial_shape = given
    batch = axes_of("batch_size", batch_size)
    space = axes_of("spatial_shape", spatial_shape)
    dtype = jax.dtypes.canonicalize_dtype(dtype)
    if options.torch:
        if len(batch) > 1:
            raise ValueError(f"batch_size is one number, or () for none, got {batch_size}.")
        return jax.tree.map(jnp.asarray, _zero_state(cell, batch, carry_dtype(dtype)))
    if len(space) != cell.feature_axes - 1:
        raise ValueError(
            f"{type(cell).__name__} needs {cell.feature_axes - 1} spatial axes, got {space}."
        )
    row = first_row(cell, (*space, input_size), dtype)
    if row is not None:
        return jax.tree.map(lambda a: jnp.broadcast_to(a, (*batch, *a.shape)), row)
    if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(params)):
        raise ValueError(
            f"the first state of {cell} is learned: initial_state(batch_size, variables)."
        )
    return _begin(cell, params, (*batch, *space, input_size), dtype)


def like_inputs(carry: Carry, like: Array, feature_axes: int) -> Carry:
    """A carry with the batch axes of `like`, one step's input, brought to its dtype,
    sharding and varying axes.
    """
    batch = like.ndim - feature_axes
    zero = jnp.zeros_like(jnp.sum(like, axis=tuple(range(-feature_axes, 0))))

    def brought(c: Array) -> Array:
        return zero.reshape(zero.shape + (1,) * (c.ndim - batch)) + c.astype(like.dtype)

    return jax.tree.map(brought, carry)


def _sequence(
    cell: Any,
    options: Options,
    params: Params,
    xs: Array,
    state: Any,
    mask: Array | None,
    reset: Array | None,
    lengths: Array | None,
    key: Array | None,
) -> tuple[Any, Any]:
    xs = xs if options.dtype is None else xs.astype(options.dtype)
    rows = xs.ndim - cell.feature_axes
    axis = rows - 1 if options.batch_first else 0
    xs = jnp.moveaxis(xs, axis, 0)
    mask, reset = (None if a is None else jnp.moveaxis(a, axis, 0) for a in (mask, reset))
    if lengths is not None:
        valid = lengths_to_mask(lengths, xs.shape[0])
        mask = valid if mask is None else valid & mask
    noise = None
    if key is not None:
        noise = cell.noise(key, xs.shape[0], jnp.zeros_like(jnp.sum(xs, axis=0)))
    how = dict(mask=mask, reset=reset, noise=noise, method=options.method, remat=options.remat)
    carry = to_carries(cell, state) if options.torch and state is not None else state
    carry, ys = unroll(cell, params, xs, carry, reverse=options.reverse, **how)
    output = jax.tree.map(lambda y: jnp.moveaxis(y, 0, axis), ys)
    return output, to_state(carry) if options.torch else carry


def _one_step(
    cell: Any, options: Options, params: Params, x: Array, state: Any, reset: Array | None
) -> tuple[Any, Any]:
    x = x if options.dtype is None else x.astype(options.dtype)
    carry = to_carries(cell, state) if options.torch and state is not None else state
    reset = None if reset is None else reset[None]
    carry, ys = unroll(cell, params, x[None], carry, reset=reset, method=options.method)
    return jax.tree.map(lambda y: y[0], ys), to_state(carry) if options.torch else carry


def _check_inputs(cell: Cell, params: Params, xs: Any, options: Options) -> Array:
    xs = as_floating(xs)
    if options.torch and xs.ndim not in (2, 3):
        layout = "(batch, T, features)" if options.batch_first else "(T, batch, features)"
        raise ValueError(
            f"xs has shape {xs.shape}, expected {layout}, or (T, features) without batch."
        )
    batch_first = options.batch_first and not (options.torch and xs.ndim == 2)
    return check_features(cell, params, xs, "..., T" if batch_first else "T, ...")


def _state(
    cell: Any, params: Params, state: Any, at: Array, batch: tuple[int, ...], options: Options
) -> Any:
    """The state that the program takes: one form for all that may be given, None too, so that it
    is compiled once. While something outside is traced there is no program, and None stays."""
    if state is not None:
        named = normal_state if options.torch else from_named
        return named(cell, as_arrays("state", state), batch)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in (at, *jax.tree.leaves(params))):
        return None
    dtype = jax.dtypes.canonicalize_dtype(at.dtype if options.dtype is None else options.dtype)
    if options.torch:
        return _zero_state(cell, batch, carry_dtype(dtype))
    features = at.shape[at.ndim - cell.feature_axes :]
    row = first_row(cell, features, dtype)
    if row is None:
        return _begin(cell, params, (*batch, *features), dtype)
    return jax.tree.map(lambda a: np.broadcast_to(a, (*batch, *a.shape)), row)


def _zero_state(stack: Any, batch: tuple[int, ...], dtype: DType) -> Any:
    """torch's first state, of NumPy zeros that take no memory."""
    cell = stack.cells[0]
    count = len(stack.cells) * stack.directions
    known = all(isinstance(size, numbers.Integral) for size in batch)
    spread: Any = np.broadcast_to if known else jnp.broadcast_to  # a symbol of `jax.export`
    zero = np.zeros((), dtype)
    h_n: Any = spread(zero, (count, *batch, getattr(cell, "proj_size", cell.hidden_size)))
    if not hasattr(cell, "forget_bias"):
        return h_n
    c_n: Any = spread(zero, (count, *batch, cell.hidden_size))
    return LSTMState(h_n=h_n, c_n=c_n)


def _begin(cell: Cell, params: Params, shape: tuple[int, ...], dtype: DType) -> Carry:
    """The first carry, for one step's inputs of that shape."""
    wide = carry_dtype(dtype)
    return cell.init_carry(cell.prepare(cast(params, wide)), jnp.zeros(shape, wide))


@functools.lru_cache(maxsize=256)
def first_row(cell: Cell, features: tuple[int, ...], dtype: DType) -> Carry | None:
    """The first carry of one sequence, as NumPy arrays; None where it is made of parameters."""
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), features[-1]))

    def make(params: Params) -> Carry:
        return _begin(cell, params, features, dtype)

    program = jax.make_jaxpr(make)(params)
    behind = set(program.jaxpr.invars)
    for equation in program.jaxpr.eqns:
        if any(isinstance(v, jax.extend.core.Var) and v in behind for v in equation.invars):
            behind.update(equation.outvars)
    if any(isinstance(v, jax.extend.core.Var) and v in behind for v in program.jaxpr.outvars):
        return None
    with jax.ensure_compile_time_eval():
        carry = make(jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), params))
    return jax.tree.map(np.asarray, carry)


def _rows(
    name: str,
    rows: Any,
    shape: tuple[int, ...],
    axes: str = "the leading axes of xs, as it was passed",
) -> Array:
    rows = jnp.asarray(as_array(name, rows))
    if rows.shape != shape:
        swapped = rows.shape == shape[::-1] and len(shape) > 1
        hint = " Are time and batch swapped?" if swapped else ""
        raise ValueError(f"{name} has shape {rows.shape}, expected {shape}: {axes}.{hint}")
    check_boolean(name, rows)
    return rows


def _check_lengths(lengths: Any, T: int, batch: tuple[int, ...], options: Options) -> Array:
    """Lengths as an array, of the batch axes and, where they are known, from 0 to T."""
    if np.shape(lengths) != batch:
        now, other = ("time-major", False) if options.batch_first else ("batch-first", True)
        swapped = f" Is xs {now}? Then make the module with batch_first={other}."
        hint = swapped if np.shape(lengths) == (T,) and len(batch) == 1 else ""
        raise ValueError(
            f"lengths has shape {np.shape(lengths)}, expected the batch axes of xs, {batch}.{hint}"
        )
    return as_lengths(lengths, T)
