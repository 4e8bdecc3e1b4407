"""What the public entries run, once compiled: a sequence, one with the carries of all steps, and one in windows."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxrnn.typing import (
    Array,
    Carry,
    Cell,
    Noise,
    Params,
    carry_dtype,
    cast,
    check_features,
    check_params,
    fit_carry,
    lstm_layers,
)
from jaxrnn.unroll.backward import cut, join
from jaxrnn.unroll.cudnn import cudnn
from jaxrnn.unroll.fused import fused
from jaxrnn.unroll.persistent import persistent
from jaxrnn.unroll.scan import Sequence, scan
from jaxrnn.unroll.sequence import check_noise, fit_noise, fit_rows, one_step, select

METHODS = {None: fused, "scan": scan, "fused": fused, "cudnn": cudnn, "persistent": persistent}
REMAT = {scan: ("none", "carry"), fused: ("none", "carry", "sqrt"), cudnn: ("none",), persistent: ("none",)}


def check_method(method: str | None, remat: str) -> None:
    """Raises ValueError unless there is such a method and such a `remat`."""
    if method not in METHODS:
        raise ValueError(f"method must be one of {tuple(METHODS)}, got {method!r}.")
    if remat not in REMAT[METHODS[method]]:
        raise ValueError(f"remat must be one of {REMAT[METHODS[method]]} for method={method!r}, got {remat!r}.")


def run(
    cell: Cell,
    params: Params,
    xs: Array,
    carry: Carry,
    *,
    mask: Array | None,
    reset: Array | None,
    noise: Noise,
    reverse: bool,
    method: str | Callable[..., Any] | None,
    remat: str,
    collected: list[Carry] | None = None,
) -> tuple[Carry, Array]:
    """Runs a cell, or one layer after another; appends the carries after every step to `collected` where there is one.

    `method` is a name, or a function like those in METHODS.
    """
    xs = check_features(cell, params, xs, axes="T, ...")
    mask = None if mask is None else fit_rows("mask", mask, xs, cell.feature_axes)
    reset = None if reset is None else fit_rows("reset", reset, xs, cell.feature_axes)
    xs = xs if mask is None else select(mask, xs, 0)
    if noise is not None:
        check_noise(cell, noise, xs)
    layers = getattr(cell, "unroll_layers", None)  # a stack: one layer after another, each of them through here
    runner = method if callable(method) else METHODS[method]
    whole = runner is cudnn and noise is None and lstm_layers(cell, params) is not None
    if layers is not None and not whole:
        each = functools.partial(run, mask=mask, reset=reset, method=method, remat=remat, collected=collected)
        return layers(each, params, xs, carry, noise=noise, reverse=reverse)
    if not cell.causal and not whole:
        raise ValueError(f"{cell} runs step by step, which a bidirectional stack cannot; wrap the cell of each of its layers.")
    params, carry, first = _start(cell, params, xs, carry, mask, reset, noise)
    if noise is not None:
        params, noise = cell.absorb(params, noise)
    if reset is not None and reverse:  # the boundary between t - 1 and t comes before step t - 1
        reset = jnp.concatenate([reset[1:], jnp.zeros_like(reset[:1])])
    sequence = Sequence(xs=xs, mask=mask, reset=reset, noise=fit_noise(noise, xs.shape[0]))
    each = functools.partial(runner, cell, params, sequence, carry, first, reverse=reverse, remat=remat)
    if collected is None:
        return each()
    carry, (ys, after) = each(collect=True)
    collected.append(after)
    return carry, ys


def _start(cell: Cell, params: Params, xs: Array, carry: Carry, *others: Any) -> tuple[Params, Carry, Carry]:
    """Prepared parameters in the carry dtype, the carry before the first step, and that after a reset."""
    wide = carry_dtype(xs.dtype)
    params = cell.prepare(cast(check_params(cell, params), wide))
    like = one_step(xs, params, carry, *others).astype(wide)
    first = cell.init_carry(params, like)
    return params, first if carry is None else fit_carry(carry, first), first


def carries(cell: Cell, *args: Any, **options: Any) -> tuple[Carry, Array]:
    collected: list[Carry] = []
    carry, ys = run(cell, *args, **options, collected=collected)
    return jax.tree.unflatten(jax.tree.structure(carry), jax.tree.leaves(collected)), ys


def windows(
    cell: Cell,
    params: Params,
    xs: Array,
    carry: Carry,
    *,
    window: int,
    mask: Array | None,
    reset: Array | None,
    noise: Noise,
    method: str | None,
    remat: str,
) -> tuple[Carry, Array]:
    each = functools.partial(run, cell, params, reverse=False, method=method, remat=remat)
    T = jnp.shape(xs)[0] if jnp.ndim(xs) else 0
    if not isinstance(T, int):
        raise ValueError(f"windows need a known number of steps, got the symbol {T}; the values of unroll are the same.")
    if T <= window:
        return each(xs, carry, mask=mask, reset=reset, noise=noise)
    xs = check_features(cell, params, xs, axes="T, ...")
    carry = _start(cell, params, xs, carry, mask, reset, noise)[1]
    rows = [None if a is None else fit_rows(n, a, xs, cell.feature_axes) for n, a in (("mask", mask), ("reset", reset))]
    leaves, tree = jax.tree.flatten(noise)
    fit_noise(noise, T)  # checks its lengths
    timed = [leaf if leaf.shape[:1] == (T,) else None for leaf in leaves]  # the others are held over all windows

    def body(carry: Carry, piece: Any) -> tuple[Carry, Array]:
        index, xs, (mask, reset), drawn = piece
        carry = jax.tree.map(lambda c: jnp.where(index == 0, c, lax.stop_gradient(c)), carry)
        noise = jax.tree.unflatten(tree, [held if now is None else now for held, now in zip(leaves, drawn, strict=True)])
        return each(xs, carry, mask=mask, reset=reset, noise=noise)

    pieces, ys = cut((xs, tuple(rows), timed), window, reverse=False), []
    for number, piece in enumerate(pieces):
        count = piece[0].shape[0]
        indices = jnp.arange(count) + (pieces[0][0].shape[0] if number else 0)
        carry, y = lax.scan(body, carry, (indices, *piece))
        ys.append(y)
    return carry, join(ys, reverse=False)
