"""The matrices of an affine scan: diagonal, blocks of diagonals, or dense."""

import functools
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.cell import Array, select

State = Any  # an array or a tuple of them
Matrix = Any  # an array with the axes of the state or one more, or a k x k tuple of such arrays


def filled(a: Matrix, b: State) -> Matrix:
    """`a` without None."""
    if not isinstance(a, tuple):
        return a
    zero = jnp.zeros((1, *b[0].shape[1:]), b[0].dtype)
    return tuple(tuple(zero if x is None else x for x in row) for row in a)


def identity(a: Matrix, state: tuple[int, ...], dtype: Any) -> Matrix:
    """The matrix that changes nothing, in the form of `a`, with a leading axis of 1."""
    if isinstance(a, tuple):
        count = range(len(a))
        return tuple(
            tuple(jnp.full((1, *state), float(i == j), dtype) for j in count) for i in count
        )
    if a.ndim == len(state) + 2:
        return jnp.broadcast_to(jnp.eye(state[-1], dtype=dtype), (1, *state, state[-1]))
    return jnp.ones((1, *state), dtype)


def times(a: Matrix, h: State) -> State:
    """`a` applied to a state, at one step or at all."""
    if isinstance(a, tuple):
        zero = jnp.zeros_like(h[0])
        return tuple(
            functools.reduce(
                operator.add,
                [x * s for x, s in zip(row, h, strict=True) if x is not None] or [zero],
            )
            for row in a
        )
    if a.ndim > h.ndim:  # summed in its own dtype: on a GPU not in TF32
        return jnp.einsum("...ij,...j->...i", a, h, precision="highest")
    return a * h


def advance(a: Matrix, h: State, b: State, cut: Array | None = None) -> State:
    """The state after a step, or after each. Where `cut`, a state that is not finite is not seen
    either: 0 * NaN is NaN."""
    moved = times(a, h)
    if cut is not None:
        moved = select(~cut, moved, 0)
    return jax.tree.map(jnp.add, moved, b)


def powers(a: Matrix, zero: State, run: Callable[[State, State], State]) -> Matrix:
    """The products of `a` from the first step up to each, in the form of `a`.

    Args:
        a: [T, ...].
        zero: a state of zeros.
        run: gives all states from what is added at each step and a first state.
    """
    T = len(jax.tree.leaves(a)[0])
    nothing = jax.tree.map(lambda z: jnp.broadcast_to(z, (T, *z.shape)), zero)
    if isinstance(a, tuple):
        count = range(len(a))
        units = [tuple(z + float(i == j) for i, z in enumerate(zero)) for j in count]
        columns = [run(nothing, unit) for unit in units]
        return tuple(tuple(columns[j][i] for j in count) for i in count)
    if a.ndim == zero.ndim + 2:
        eye = jnp.eye(zero.shape[-1], dtype=zero.dtype)
        units = zero[None] + eye.reshape(-1, *(1,) * (zero.ndim - 1), zero.shape[-1])
        return jnp.moveaxis(jax.vmap(functools.partial(run, nothing))(units), 0, -1)
    return run(nothing, zero + 1)
