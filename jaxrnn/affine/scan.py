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
from jaxrnn.cell import Array, carry_dtype
from jaxrnn.checks import as_array


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
    a, b, start, first = _checked(a, b, start, first)
    if mask is not None or reset is not None:
        a, b = _conditioned(a, b, first, mask, reset)
    if axis_name is not None:
        start = start_of_share(a, b, start, reverse, axis_name)
    hs = _states(a, b, start, reverse)
    if not len(jax.tree.leaves(b)[0]):
        return start, hs
    return last(hs, reverse), hs


def _checked(a: Matrix, b: State, start: State, first: State | None) -> tuple[Any, ...]:
    """All as arrays in one dtype, and of shapes that fit."""
    a, b, start, first = (
        jax.tree.map(lambda x, name=name: _floating(name, x), tree)
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


def _floating(name: str, x: Any) -> Array:
    x = jnp.asarray(as_array(name, x))
    if not jnp.issubdtype(x.dtype, jnp.floating):
        hint = "; give a complex state as two slots" if jnp.iscomplexobj(x) else ""
        raise TypeError(f"{name} must be floating-point, got {x.dtype}{hint}.")
    return x


def _check_shapes(a: Matrix, b: State, start: State, first: State) -> None:
    slots = b if isinstance(b, tuple) else (b,)
    if len({leaf.shape for leaf in slots}) > 1:
        raise ValueError(f"the slots of b differ in shape: {[leaf.shape for leaf in slots]}.")
    rows = a if isinstance(a, tuple) else ((a,),)
    if {len(rows), *map(len, rows)} != {len(slots)}:
        raise ValueError(f"a must be {len(slots)} x {len(slots)} blocks, as b has slots.")
    _check_blocks(rows, slots[0], dense=not isinstance(a, tuple) and a.ndim == slots[0].ndim + 1)
    state = slots[0].shape[1:]
    for name, tree in (("start", start), ("first", first)):
        for leaf in jax.tree.leaves(tree):
            if leaf.shape != state:
                raise ValueError(f"{name} has shape {leaf.shape}, expected {state}.")


def _check_blocks(rows: Matrix, b: Array, dense: bool) -> None:
    T, *state = b.shape
    wanted = [*state, state[-1]] if dense else state
    for block in jax.tree.leaves(rows):
        if block.shape[0] not in (1, T) or [*block.shape[1:]] != wanted:
            raise ValueError(
                f"a has shape {block.shape}, expected ({T} or 1, "
                f"{', '.join(map(str, wanted))}), as b has shape {b.shape}."
            )


def _conditioned(
    a: Matrix, b: State, first: State, mask: Array | None, reset: Array | None
) -> tuple[Matrix, State]:
    """`a` and `b` with the mask and the reset in them.

    A reset puts `first` in place of the state: a = 0, and what a makes of `first` goes to b. A step
    that is left out has a = 1 and b = 0; after a reset its state is `first`.
    """
    some = jax.tree.leaves(b)[0]
    one = identity(a, some.shape[1:], some.dtype)
    if mask is not None:
        a, b = _where(mask, a, one, b, jax.tree.map(jnp.zeros_like, b))
    if reset is not None:
        begun = jax.tree.map(jnp.add, times(a, jax.tree.map(lambda f: f[None], first)), b)
        a, b = _where(reset, _zero(a), a, begun, b)
    return a, b


def _where(condition: Array, a: Matrix, other_a: Matrix, b: State, other_b: State) -> Any:
    """The first of each pair where the condition [T, *batch] holds."""

    def select(x: Array, y: Array) -> Array:
        shape = condition.shape + (1,) * (x.ndim - condition.ndim)
        return jnp.where(condition.reshape(shape), x, y)

    full = filled(a, b), filled(other_a, b)
    return jax.tree.map(select, *full), jax.tree.map(select, b, other_b)


def _zero(a: Matrix) -> Matrix:
    return jax.tree.map(jnp.zeros_like, a)


@functools.partial(jax.custom_jvp, nondiff_argnums=(3,))
def _states(a: Matrix, b: State, start: State, reverse: bool) -> State:
    """All states. Here, and nowhere else, the platform decides how."""
    cpu = functools.partial(in_order, reverse=reverse)
    others = functools.partial(two_levels, reverse=reverse)
    return lax.platform_dependent(a, b, start, cpu=cpu, default=others)


@functools.partial(_states.defjvp, symbolic_zeros=True)
def _states_jvp(reverse: bool, primals: Any, tangents: Any) -> tuple[State, State]:
    """The tangent is the same scan, of what da makes of the states before each step, and db."""
    a, b, start = primals
    da, db, dstart = tangents
    hs = _states(a, b, start, reverse)
    before = jax.tree.map(functools.partial(shifted, reverse=reverse), hs, start)
    pushed = jax.tree.map(_solid, db, b)
    if any(not _is_zero(leaf) for leaf in jax.tree.leaves(da)):
        moved = times(jax.tree.map(lambda d: None if _is_zero(d) else d, da), before)
        pushed = jax.tree.map(jnp.add, moved, pushed)
    return hs, _states(a, pushed, jax.tree.map(_solid, dstart, start), reverse)


def _is_zero(tangent: Any) -> bool:
    return isinstance(tangent, jax.custom_derivatives.SymbolicZero)


def _solid(tangent: Any, primal: Array) -> Array:
    """A tangent as an array, also where it is known to be zero."""
    return jnp.zeros_like(primal) if _is_zero(tangent) else tangent
