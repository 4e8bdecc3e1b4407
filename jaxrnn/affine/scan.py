"""Linear recurrences: one affine scan, differentiable any number of times in both modes.

A state is an array, or a tuple of k arrays, its slots. `a` acts on it in one of three forms:

- diagonal: an array with the axes of the state;
- blocks: a k x k tuple of such arrays, None for zeros: each unit mixes its k slots;
- dense: an array with one axis more, [..., H, H].
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxrnn.affine.matrices import Matrix, State, filled, identity, times
from jaxrnn.affine.ways import in_order, last, shifted, start_of_share, two_levels
from jaxrnn.cell import Array, carry_dtype, select
from jaxrnn.checks import as_array, check_flag


def affine_scan(
    a: Matrix,
    b: State,
    start: State,
    *,
    mask: Array | None = None,
    reset: Array | None = None,
    first: State | None = None,
    reverse: bool = False,
    axis_name: str | None = None,
) -> tuple[State, State]:
    """The states h_t = a_t h_{t-1} + b_t, with h_0 = `start` before the first step.

    On a CPU it is one `lax.scan`, elsewhere a scan of two levels. Its derivative is a scan of the
    same kind, of which the states are saved; `jax.grad`, `jvp`, `vmap` and their compositions work.

    Args:
        a: [T, ...] or [1, ...], which is the same at every step: diagonal, blocks or dense, as
            above. Float32 at the least, since numbers near 1 do not survive 16 bits.
        b: [T, ...]; for blocks a tuple of k of them.
        start: [...], or a tuple.
        mask: [T, *batch] booleans; where False the state stays as it is.
        reset: [T, *batch] booleans; where True the state before the step is `first`, on masked
            steps too.
        first: [...], or a tuple; None is zeros.
        reverse: from the last step to the first.
        axis_name: under `jax.shard_map`, the mesh axis over which time is split; None is a whole
            sequence.

    Returns:
        The state after the last step, with `axis_name` of this device's share, and all states
        [T, ...], in float32 at the least.

    Raises:
        TypeError: `a` has 16 bits, or an array is not floating-point.
        ValueError: shapes do not fit.

    Example:
        >>> import jax.numpy as jnp, jaxrnn
        >>> last, hs = jaxrnn.affine_scan(jnp.full((4, 1), 0.5), jnp.ones((4, 1)), jnp.zeros(1))
        >>> hs[:, 0].tolist()
        [1.0, 1.5, 1.75, 1.875]
    """
    check_flag("reverse", reverse)
    for name, given in (("a", a), ("b", b), ("start", start)):
        if given is None:
            raise TypeError(f"{name} must be an array, or a tuple of them, got None.")
    a, b, start, first = _checked(a, b, start, first)
    mask, reset = (_rows(name, rows, b) for name, rows in (("mask", mask), ("reset", reset)))
    a, b = _conditioned(a, b, first, mask, reset)
    if axis_name is not None:
        start = start_of_share(_states, a, b, start, reset, reverse, axis_name)
    return scan(a, b, start, reset, reverse)


def scan(
    a: Matrix, b: State, start: State, cut: Array | None, reverse: bool
) -> tuple[State, State]:
    """The last state and all, of arguments that fit; where `cut` [T, *batch], h_t = b_t."""
    hs = _states(a, b, start, cut, reverse)
    if not len(jax.tree.leaves(b)[0]):
        return start, hs
    return last(hs, reverse), hs


def _checked(a: Matrix, b: State, start: State, first: State | None) -> tuple[Any, ...]:
    """All as arrays in one dtype, and of shapes that fit."""
    a, b, start, first = (
        jax.tree.map(lambda x, name=name: _floating(name, x), tree, is_leaf=_is_list)
        for name, tree in (("a", a), ("b", b), ("start", start), ("first", first))
    )
    for leaf in jax.tree.leaves(a):
        if jnp.dtype(leaf.dtype).itemsize < 4:
            raise TypeError(f"a has dtype {leaf.dtype}: compute it in float32 from the gates on.")
    dtype = functools.reduce(
        jnp.promote_types, [carry_dtype(leaf.dtype) for leaf in jax.tree.leaves((a, b, start))]
    )
    a, b, start = jax.tree.map(lambda leaf: leaf.astype(dtype), (a, b, start))
    first = jax.tree.map(jnp.zeros_like, start) if first is None else first
    first = jax.tree.map(lambda leaf: leaf.astype(dtype), first)
    _check_shapes(a, b, start, first)
    # under shard_map the start must vary over the devices as what is added to it does
    zero = jnp.zeros_like(sum(jnp.sum(leaf) for leaf in jax.tree.leaves((a, b))))
    start = jax.tree.map(lambda s: s + zero, start)
    return a, b, start, first


def _is_list(x: Any) -> bool:
    return isinstance(x, list)


def _floating(name: str, x: Any) -> Array:
    x = jnp.asarray(as_array(name, x))
    if not jnp.issubdtype(x.dtype, jnp.floating):
        hint = "; give a complex state as two slots" if jnp.iscomplexobj(x) else ""
        raise TypeError(f"{name} must be floating-point, got {x.dtype}{hint}.")
    return x


def _check_shapes(a: Matrix, b: State, start: State, first: State) -> None:
    slots = b if isinstance(b, tuple) else (b,)
    shapes = {leaf.shape for leaf in slots}
    if len(shapes) != 1 or not slots[0].ndim:
        raise ValueError(
            f"b must have a time axis, and slots of one shape, got {[s.shape for s in slots]}."
        )
    rows = _rows_of_blocks(a, b, len(slots))
    _check_blocks(rows, slots[0], dense=not isinstance(a, tuple) and a.ndim == slots[0].ndim + 1)
    _check_state("start", start, b)
    _check_state("first", first, b)


def _rows_of_blocks(a: Matrix, b: State, count: int) -> tuple[tuple[Any, ...], ...]:
    """`a` as k x k blocks, k the number of slots."""
    rows = a if isinstance(a, tuple) else ((a,),)
    square = all(isinstance(row, tuple) and len(row) == count for row in rows)
    if len(rows) != count or not square or isinstance(a, tuple) != isinstance(b, tuple):
        raise ValueError(f"a must be {count} x {count} blocks, tuples of a tuple, as b has slots.")
    return rows


def _check_state(name: str, given: State, b: State) -> None:
    if jax.tree.structure(given) != jax.tree.structure(b):
        counts = [len(jax.tree.leaves(tree)) for tree in (b, given)]
        raise ValueError(f"{name} must have {counts[0]} slots, as b has, got {counts[1]}.")
    wanted = jax.tree.leaves(b)[0].shape[1:]
    for leaf in jax.tree.leaves(given):
        if leaf.shape != wanted:
            raise ValueError(f"{name} has shape {leaf.shape}, expected {wanted}.")


def _check_blocks(rows: Matrix, b: Array, dense: bool) -> None:
    T, *state = b.shape
    wanted = [*state, state[-1]] if dense else state
    for block in jax.tree.leaves(rows):
        if block.shape[:1] not in ((1,), (T,)) or [*block.shape[1:]] != wanted:
            raise ValueError(
                f"a has shape {block.shape}, expected ({T} or 1, "
                f"{', '.join(map(str, wanted))}), as b has shape {b.shape}."
            )


def _rows(name: str, rows: Any, b: State) -> Array | None:
    """A mask or a reset as booleans [T, *batch], of which a state has some axes in front."""
    if rows is None:
        return None
    rows = jnp.asarray(as_array(name, rows))
    shape = jax.tree.leaves(b)[0].shape
    if rows.dtype != jnp.bool_:
        raise TypeError(f"{name} must be boolean, got {rows.dtype}.")
    if not rows.ndim or rows.shape != shape[: rows.ndim]:
        raise ValueError(
            f"{name} has shape {rows.shape}, expected the first axes of b, which has shape {shape}."
        )
    return rows


def _conditioned(
    a: Matrix, b: State, first: State, mask: Array | None, reset: Array | None
) -> tuple[Matrix, State]:
    """`a` and `b` with the mask in them, and what a makes of `first` at a reset.

    A step that is left out has a = 1 and b = 0; after a reset its state is `first`.
    """
    some = jax.tree.leaves(b)[0]
    if mask is not None:
        one = identity(a, some.shape[1:], some.dtype)
        full = filled(a, b), filled(one, b)
        a = jax.tree.map(lambda x, y: jnp.where(_spread(mask, x), x, y), *full)
        b = select(mask, b, 0)
    if reset is not None:
        begun = jax.tree.map(jnp.add, times(a, jax.tree.map(lambda f: f[None], first)), b)
        b = select(reset, begun, b)
    return a, b


def _spread(rows: Array, like: Array) -> Array:
    return rows.reshape(rows.shape + (1,) * (like.ndim - rows.ndim))


@functools.partial(jax.custom_jvp, nondiff_argnums=(4,))
def _states(a: Matrix, b: State, start: State, cut: Array | None, reverse: bool) -> State:
    """All states. Here, and nowhere else, the platform decides how."""
    cpu = functools.partial(in_order, reverse=reverse)
    others = functools.partial(two_levels, reverse=reverse)
    return lax.platform_dependent(a, b, start, cut, cpu=cpu, default=others)


@functools.partial(_states.defjvp, symbolic_zeros=True)
def _states_jvp(reverse: bool, primals: Any, tangents: Any) -> tuple[State, State]:
    """The tangent is the same scan, of what da makes of the states before each step, and db."""
    a, b, start, cut = primals
    da, db, dstart, _ = tangents
    hs = _states(a, b, start, cut, reverse)
    pushed = jax.tree.map(_solid, db, b)
    if any(not _is_zero(leaf) for leaf in jax.tree.leaves(da)):
        before = jax.tree.map(functools.partial(shifted, reverse=reverse), hs, start)
        before = before if cut is None else select(~cut, before, 0)
        moved = times(jax.tree.map(lambda d: None if _is_zero(d) else d, da), before)
        pushed = jax.tree.map(jnp.add, moved, pushed)
    return hs, _states(a, pushed, jax.tree.map(_solid, dstart, start), cut, reverse)


def _is_zero(tangent: Any) -> bool:
    return isinstance(tangent, jax.custom_derivatives.SymbolicZero)


def _solid(tangent: Any, primal: Array) -> Array:
    """A tangent as an array, also where it is known to be zero."""
    return jnp.zeros_like(primal) if _is_zero(tangent) else tangent
