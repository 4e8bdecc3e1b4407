"""How the states of an affine scan are computed: in order, in two levels, and over devices.

`cut` [T, *batch] is True where a step does not see the state before it, whatever that is; None is
nowhere.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxrnn.affine.matrices import Matrix, State, advance, filled, identity, powers
from jaxrnn.cell import Array

CHUNK = 128  # steps in a row of the form with two levels


def in_order(a: Matrix, b: State, start: State, cut: Array | None, reverse: bool) -> State:
    """One step after another."""
    T = len(jax.tree.leaves(b)[0])
    constant = T != 1 and all(len(x) == 1 for x in jax.tree.leaves(a))
    every = None if constant else _long(a, T)

    def step(h: State, inputs: tuple[Matrix, State, Array | None]) -> tuple[State, State]:
        a_t, b_t, cut_t = inputs
        h = advance(jax.tree.map(lambda x: x[0], a) if constant else a_t, h, b_t, cut_t)
        return h, h

    return lax.scan(step, start, (every, b, cut), reverse=reverse)[1]


def _long(a: Matrix, T: int) -> Matrix:
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (T, *x.shape[1:])), a)


def two_levels(a: Matrix, b: State, start: State, cut: Array | None, reverse: bool) -> State:
    """Rows of CHUNK steps side by side, each from zero; then the states before the rows, one row
    after another; then what they add within each row."""
    T = len(jax.tree.leaves(b)[0])
    rows = -(-T // CHUNK)
    if rows < 2:
        return in_order(a, b, start, cut, reverse)
    missing = rows * CHUNK - T
    one = identity(a, jax.tree.leaves(b)[0].shape[1:], jax.tree.leaves(b)[0].dtype)
    a = jax.tree.map(functools.partial(_padded, missing, reverse), _long(filled(a, b), T), one)
    b, cut = jax.tree.map(lambda x: _padded(missing, reverse, x, jnp.zeros_like(x[:1])), (b, cut))
    a, b, cut = jax.tree.map(
        lambda x: x.reshape(rows, CHUNK, *x.shape[1:]).swapaxes(0, 1), (a, b, cut)
    )
    zero = jax.tree.map(lambda x: jnp.zeros_like(x[0]), b)
    within = in_order(a, b, zero, cut, reverse)
    power = powers(a, zero, lambda b, start: in_order(a, b, start, cut, reverse))
    # whether the state before the row is cut off; also where it is not finite, and its power 0
    gone = None if cut is None else lax.cummax(cut.astype(jnp.int8), 0, reverse) > 0
    ends = last((power, within, gone), reverse)
    after = in_order(ends[0], ends[1], start, ends[2], reverse)
    before = jax.tree.map(functools.partial(shifted, reverse=reverse), after, start)
    hs = advance(power, jax.tree.map(lambda x: x[None], before), within, gone)
    hs = jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(rows * CHUNK, *x.shape[2:]), hs)
    return jax.tree.map(lambda x: x[missing:] if reverse else x[:T], hs)


def _padded(missing: int, reverse: bool, x: Array, with_: Array) -> Array:
    rest = jnp.broadcast_to(with_, (missing, *x.shape[1:])).astype(x.dtype)
    return jnp.concatenate([rest, x] if reverse else [x, rest])


def start_of_share(
    run: Callable[..., State],
    a: Matrix,
    b: State,
    start: State,
    cut: Array | None,
    reverse: bool,
    axis_name: str,
) -> State:
    """The state before the first step of this device's share of the time: each share runs from
    zero, and then all that ended before are put one behind the other. `run` is like `in_order`."""
    zero = jax.tree.map(jnp.zeros_like, start)
    T = len(jax.tree.leaves(b)[0])
    ended = last(run(a, b, zero, cut, reverse), reverse)
    a = _long(filled(a, b), T)
    whole = last(powers(a, zero, lambda b, start: run(a, b, start, cut, reverse)), reverse)
    gone = None if cut is None else jnp.any(cut, axis=0)
    wholes, ends, cuts = lax.all_gather((whole, ended, gone), axis_name)
    after = run(wholes, ends, start, cuts, reverse)
    before = jax.tree.map(functools.partial(shifted, reverse=reverse), after, start)
    return jax.tree.map(lambda h: h[lax.axis_index(axis_name)], before)


def shifted(hs: Array, start: Array, reverse: bool) -> Array:
    """The state before each step."""
    parts = [hs[1:], start[None]] if reverse else [start[None], hs[:-1]]
    return jnp.concatenate(parts) if len(hs) else hs


def last(hs: Any, reverse: bool) -> Any:
    return jax.tree.map(lambda h: h[0 if reverse else -1], hs)
