"""What every method of running shares: initial carries that fit the inputs, masks, and selection by row."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import checkify

from jaxrnn.typing import Array, Carry, Cell, DType, Params, Tree, carry_dtype, cast, check_cell_type


def lengths_to_mask(lengths: Any, T: int) -> Array:
    """The mask of right-padded sequences: True at the first `lengths` steps of each.

    Args:
        lengths: [*batch] integers from 0 to T. While tracing, where they cannot be checked, a value beyond T means T and one
            below 0 means 0; `check_lengths` checks them at run time.
        T: the number of steps.

    Returns:
        [T, *batch] booleans.

    Raises:
        TypeError: lengths are not integers.
        ValueError: a length is negative or beyond T.

    Example:
        >>> import jaxrnn
        >>> jaxrnn.lengths_to_mask([2, 0], T=3).astype(int).tolist()
        [[1, 0], [1, 0], [0, 0]]
    """
    traced = isinstance(lengths, jax.core.Tracer)
    lengths = lengths if traced else np.asarray(lengths)
    lengths = lengths if traced or lengths.size else lengths.astype(np.int32)  # an empty list is one of floats to NumPy
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise TypeError(f"lengths must be integers, got dtype {lengths.dtype}.")
    if not traced and lengths.size and (lengths.min() < 0 or lengths.max() > T):
        raise ValueError(f"lengths must lie between 0 and T={T}, got {lengths.min()} to {lengths.max()}.")
    lengths = jnp.asarray(lengths, jnp.int32)
    return jnp.arange(T, dtype=jnp.int32).reshape((T,) + (1,) * lengths.ndim) < lengths


def check_lengths(lengths: Array, T: int) -> None:
    """A switch for debugging: checks lengths at run time, inside `jax.jit`, of a function that `checkify` has transformed.

    Elsewhere it does nothing. It is a call of its own since a program with checks, done or not, starts more slowly and cannot be
    exported.

    Args:
        lengths: [*batch] integers, traced or not.
        T: the number of steps.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> from jax.experimental import checkify
        >>> checked = checkify.checkify(jax.jit(lambda n: jaxrnn.check_lengths(n, T=5)), errors=checkify.user_checks)
        >>> error, _ = checked(jnp.array([3, 9]))
        >>> error.get().splitlines()[0].split(" (")[0]
        'lengths must lie between 0 and T=5, got [3 9].'
    """
    lengths = jnp.asarray(lengths)
    inside = jnp.all((lengths >= 0) & (lengths <= T))
    checkify.debug_check(inside, f"lengths must lie between 0 and T={T}, got {{lengths}}.", lengths=lengths)


def initial_carry(
    cell: Cell,
    params: Params,
    batch_shape: tuple[int, ...] = (),
    dtype: DType = None,
    *,
    spatial_shape: tuple[int, ...] = (),
) -> Carry:
    """The carry before the first step, where no input exists yet: `unroll(..., carry=None)` starts from the same.

    Args:
        cell: the cell or stack.
        params: its parameters.
        batch_shape: the batch axes.
        dtype: the compute dtype, that of the inputs to come; None means that of the parameters.
        spatial_shape: the spatial axes of the inputs of a convolutional cell.

    Returns:
        The cell's carry, each leaf [*batch_shape, ...], in `carry_dtype(dtype)`.

    Raises:
        ValueError: `spatial_shape` does not fit the cell.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.LSTMCell(4)
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> jaxrnn.initial_carry(cell, params, (2,)).c.shape
        (2, 4)
    """
    check_cell_type(cell)
    if len(spatial_shape) != cell.feature_axes - 1:
        raise ValueError(f"{type(cell).__name__} needs {cell.feature_axes - 1} spatial axes, got spatial_shape={spatial_shape}.")
    floats = [a.dtype for a in jax.tree.leaves(params) if jnp.issubdtype(a.dtype, jnp.floating)]
    wide = carry_dtype(jnp.result_type(*floats) if dtype is None else dtype)
    features = cell.input_size(params)
    like = jnp.zeros((*batch_shape, *spatial_shape, 1 if features is None else features), wide)
    return cell.init_carry(cell.prepare(cast(params, wide)), like)


def refusal(method: str, cell: Cell, reason: str) -> str:
    """The message of a method that cannot run a cell."""
    return f'method="{method}" cannot run {type(cell).__name__}: {reason} method=None runs everything.'


def one_step(xs: Array, *others: Any) -> Array:
    """Zeros like one step of `xs` [T, ...], made without indexing time, so that T = 0 works.

    They vary over the manual mesh axes (`jax.shard_map`) of `xs` and of `others`, so that a carry made from them fits the loop.
    """
    like = jnp.zeros_like(jnp.sum(xs, axis=0))
    for leaf in jax.tree.leaves(others):
        if not jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.extended):  # a random key does not add
            like = like + jnp.zeros_like(jnp.sum(leaf)).astype(like.dtype)  # nothing of this is left after compilation
    return like


def select(rows: Array, yes: Tree, no: Tree | int) -> Tree:
    """`where` by row: `rows` has the leading axes of every leaf. `no` may be a number."""

    def where(a: Array, b: Any) -> Array:
        return jnp.where(rows.reshape(rows.shape + (1,) * (a.ndim - rows.ndim)), a, b)

    if isinstance(no, int | float):
        return jax.tree.map(lambda a: where(a, jnp.asarray(no, a.dtype)), yes)
    return jax.tree.map(where, yes, no)


def fit_rows(name: str, rows: Any, xs: Array, feature_axes: int) -> Array:
    """A mask or reset, checked and brought to the sharding of `xs`.

    Raises:
        ValueError: not of shape [T, *batch].
        TypeError: not boolean.
    """
    shape, rows = xs.shape[: xs.ndim - feature_axes], jnp.asarray(rows)
    if rows.shape != shape:
        hint = " Is the time axis first?" if rows.shape == (*shape[1:], shape[0]) else ""
        raise ValueError(f"{name} has shape {rows.shape}, expected {shape}: (T, *batch) of xs, whose shape is {xs.shape}.{hint}")
    if rows.dtype != jnp.bool_:
        raise TypeError(f"{name} must be boolean, got dtype {rows.dtype}; {name} != 0 makes one.")
    return rows | jnp.zeros_like(jnp.sum(xs, axis=tuple(range(-feature_axes, 0))), dtype=jnp.bool_)


def check_noise(cell: Cell, noise: Any, xs: Array) -> None:
    """Raises ValueError unless noise is what `cell.noise` would draw for these inputs [T, ...]."""
    like = jax.ShapeDtypeStruct(xs.shape[1:], xs.dtype)
    want = jax.eval_shape(lambda like: cell.noise(jax.random.key(0), xs.shape[0], like), like)
    if not jax.tree.leaves(want):
        if jax.tree.leaves(noise):
            raise ValueError(f"noise was given, but {type(cell).__name__} draws none: noise must be None.")
        return
    shapes, wanted = (jax.tree.map(lambda a: ("T or 1", *jnp.shape(a)[1:]), tree) for tree in (noise, want))
    if shapes != wanted:
        raise ValueError(
            f"noise does not fit {type(cell).__name__} and xs of shape {xs.shape}: its leaves have shapes {shapes}, expected "
            f"{wanted}. cell.noise(key, T, like) draws it, with one step of these inputs as `like`."
        )


def fit_noise(noise: Any, T: int) -> Any:
    """The noise with T steps: what is held over time (leading axis 1) is repeated.

    Raises:
        ValueError: a leading axis that is neither T nor 1.
    """
    for leaf in jax.tree.leaves(noise):
        if leaf.shape[:1] not in ((T,), (1,)):
            raise ValueError(f"noise has a leaf of shape {leaf.shape}, whose first axis must be T={T} or 1.")
    return jax.tree.map(lambda n: jnp.broadcast_to(n, (T, *n.shape[1:])), noise)
