"""`method="scan"`: plain `lax.scan` and automatic differentiation, the form that every other method is held against."""

from typing import Any

import jax
from jax import lax

from jaxrnn.typing import Array, Carry, Cell, Params, carry_dtype, cast, dot_in
from jaxrnn.unroll.sequence import select


def scan(
    cell: Cell,
    params: Params,
    xs: Array,
    carry: Carry,
    first: Carry,
    *,
    mask: Array | None,
    reset: Array | None,
    noise: Any,
    reverse: bool,
    remat: str,
) -> tuple[Carry, Array]:
    """Runs a cell over time, one step after another.

    Args:
        cell: the cell.
        params: its prepared parameters, in the carry dtype.
        xs: [T, *batch, *features], zero where masked.
        carry: the carry before the first step.
        first: the carry after a reset.
        mask: [T, *batch] or None; False holds the carry and puts out zero.
        reset: [T, *batch] or None; True replaces the carry before that step, in the order of the loop.
        noise: a pytree [T, ...] or None.
        reverse: whether time runs from T - 1 to 0.
        remat: "none", or "carry" to save the carries only and compute each step again in the backward pass.

    Returns:
        The carry after the last step, and ys [T, *batch, ...] in the dtype of `xs`.
    """
    compute, wide = xs.dtype, carry_dtype(xs.dtype)
    narrow, dot = cast(params, compute), dot_in(compute)
    us = cast(cell.project(narrow, xs, cast(noise, compute)), wide)

    def advance(carry: Carry, inputs: tuple[Any, Array | None, Array | None]) -> tuple[Carry, Array]:
        u, valid, new = inputs
        start = carry if new is None else select(new, first, carry)
        after, y = cell.step(params, start, u, dot)
        y = cast(y, compute)
        return (after, y) if valid is None else (select(valid, after, start), select(valid, y, 0))

    step = jax.checkpoint(advance, prevent_cse=False) if remat == "carry" else advance
    return lax.scan(step, carry, (us, mask, reset), reverse=reverse)
