"""How a cell runs over time: one file per method, one dispatcher. It knows the contract of a cell, never a cell."""

import functools

import jax
import jax.numpy as jnp

from jaxrnn.typing import (
    Array,
    Carry,
    Cell,
    Noise,
    Params,
    carry_dtype,
    cast,
    check_cell_type,
    check_features,
    check_params,
    fit_carry,
)
from jaxrnn.unroll.fused import fused
from jaxrnn.unroll.scan import Sequence, scan
from jaxrnn.unroll.sequence import fit_noise, fit_rows, initial_carry, lengths_to_mask, one_step, select

__all__ = ["initial_carry", "lengths_to_mask", "unroll"]

METHODS = {None: fused, "scan": scan, "fused": fused}
REMAT = {scan: ("none", "carry"), fused: ("none", "carry", "sqrt")}


def unroll(
    cell: Cell,
    params: Params,
    xs: Array,
    carry: Carry = None,
    *,
    mask: Array | None = None,
    reset: Array | None = None,
    noise: Noise = None,
    reverse: bool = False,
    method: str | None = None,
    remat: str = "none",
) -> tuple[Carry, Array]:
    """Runs a cell, or a stack of cells, over a sequence.

    Args:
        cell: the cell.
        params: its parameters, from `cell.init`.
        xs: [T, *batch, I], floating point. Its dtype is the compute dtype; the carry is float32 when that has 16 bits.
        carry: the carry before the first step; None means `cell.init_carry`. It is never what a reset returns to.
        mask: [T, *batch] booleans. Where False, the carry is held, the output is 0, and nothing that stands in `xs` (NaN too)
            reaches values or gradients. `lengths_to_mask` makes one.
        reset: [T, *batch] booleans. Where True a new sequence begins: the carry is replaced by `cell.init_carry` before that
            step is seen, on a masked step too. With `reverse` the same boundaries hold, between t - 1 and t.
        noise: None for evaluation; `cell.noise(key, T, like)` for training, with one step's input as `like`.
        reverse: whether time runs from T - 1 to 0. Outputs stay aligned with the inputs.
        method: how it is run, which never changes the result beyond rounding. None is the fastest, which is "fused": a backward
            pass of its own, with one matmul per product and step, and one per weight and chunk of steps. It refuses `jvp` and
            `jacfwd` of the primal (`hessian`, and `jvp` of a gradient, work). "scan" is plain `lax.scan` and autodiff.
        remat: "none" saves what the backward pass needs; "carry" saves the carries only and computes the rest again, in a third
            of the memory; "sqrt", not for "scan", saves the carry before each of about sqrt(T) chunks.

    Returns:
        (carry, ys): the carry after the last step, and the outputs [T, *batch, ...] in the dtype of `xs`.

    Raises:
        TypeError: `cell` is no cell, or a dtype is wrong.
        ValueError: shapes, structures or options that do not fit; the message says what was expected.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.LSTMCell(hidden_size=20)
        >>> params = cell.init(jax.random.key(0), input_size=10)
        >>> xs = jax.random.normal(jax.random.key(1), (15, 5, 10))  # time, batch, features
        >>> carry, ys = jaxrnn.unroll(cell, params, xs, mask=jaxrnn.lengths_to_mask([15, 7, 0, 1, 3], T=15))
        >>> ys.shape, carry.h.shape
        ((15, 5, 20), (5, 20))
    """
    check_cell_type(cell)
    check_method(method, remat)
    return _jitted(cell, params, xs, carry, mask, reset, noise, reverse, method, remat)


def check_method(method: str | None, remat: str) -> None:
    """Raises ValueError unless there is such a method and such a `remat`."""
    if method not in METHODS:
        raise ValueError(f"method must be one of {tuple(METHODS)}, got {method!r}.")
    if remat not in REMAT[METHODS[method]]:
        raise ValueError(f"remat must be one of {REMAT[METHODS[method]]} for method={method!r}, got {remat!r}.")


@functools.partial(jax.jit, static_argnums=(0, 7, 8, 9))
def _jitted(
    cell: Cell,
    params: Params,
    xs: Array,
    carry: Carry,
    mask: Array | None,
    reset: Array | None,
    noise: Noise,
    reverse: bool,
    method: str | None,
    remat: str,
) -> tuple[Carry, Array]:
    # An eager lax.scan compiles anew on every call (50-200 ms): this is the library's only jit.
    return _run(cell, params, xs, carry, mask=mask, reset=reset, noise=noise, reverse=reverse, method=method, remat=remat)


def _run(
    cell: Cell,
    params: Params,
    xs: Array,
    carry: Carry,
    *,
    mask: Array | None,
    reset: Array | None,
    noise: Noise,
    reverse: bool,
    method: str | None,
    remat: str,
) -> tuple[Carry, Array]:
    xs = check_features(cell, params, xs, axes="T, ...")
    mask = None if mask is None else fit_rows("mask", mask, xs, cell.feature_axes)
    reset = None if reset is None else fit_rows("reset", reset, xs, cell.feature_axes)
    layers = getattr(cell, "unroll_layers", None)  # a stack: one layer after another, each of them through here
    if layers is not None:
        run = functools.partial(_run, mask=mask, reset=reset, method=method, remat=remat)
        return layers(run, params, xs, carry, noise=noise, reverse=reverse)
    wide = carry_dtype(xs.dtype)
    params = cell.prepare(cast(check_params(cell, params), wide))
    like = one_step(xs, params, carry, mask, reset, noise).astype(wide)
    first = cell.init_carry(params, like)
    carry = first if carry is None else fit_carry(carry, first)
    xs = xs if mask is None else select(mask, xs, 0)
    if reset is not None and reverse:  # the boundary between t - 1 and t comes before step t - 1
        reset = jnp.concatenate([reset[1:], jnp.zeros_like(reset[:1])])
    sequence = Sequence(xs=xs, mask=mask, reset=reset, noise=fit_noise(noise, xs.shape[0]))
    return METHODS[method](cell, params, sequence, carry, first, reverse=reverse, remat=remat)
