"""`method="scan"`: plain `lax.scan` and automatic differentiation, the form that every other method is held against."""

from typing import Any, NamedTuple

import jax
from jax import lax

from jaxrnn.typing import Array, Carry, Cell, Dot, Noise, Params, carry_dtype, cast, dot_in
from jaxrnn.unroll.sequence import select


class Sequence(NamedTuple):
    """What a loop runs over; every leaf leads with time."""

    xs: Array  # [T, *batch, *features], zero where masked
    mask: Array | None  # [T, *batch], False holds the carry and puts out zero
    reset: Array | None  # [T, *batch], True replaces the carry before that step, in the order of the loop
    noise: Noise


def project(cell: Cell, params: Params, sequence: Sequence) -> Any:
    """The projected inputs of all steps, in the carry dtype."""
    compute = sequence.xs.dtype
    us = cell.project(cast(params, compute), sequence.xs, cast(sequence.noise, compute))
    return cast(us, carry_dtype(compute))


def advance(cell: Cell, params: Params, carry: Carry, first: Carry, u: Any, step: Sequence, dot: Dot) -> tuple[Carry, Array]:
    """One step with its mask and reset; any leading axes, so that a whole chunk of steps can be replayed at once."""
    start = carry if step.reset is None else select(step.reset, first, carry)
    after, y = cell.step(params, start, u, dot)
    y = cast(y, step.xs.dtype)
    return (after, y) if step.mask is None else (select(step.mask, after, start), select(step.mask, y, 0))


def scan(
    cell: Cell,
    params: Params,
    sequence: Sequence,
    carry: Carry,
    first: Carry,
    *,
    reverse: bool,
    remat: str,
    collect: bool = False,
) -> tuple[Carry, Any]:
    """Runs a cell over time, one step after another.

    Args:
        cell: the cell.
        params: its prepared parameters, in the carry dtype.
        sequence: what it runs over.
        carry: the carry before the first step.
        first: the carry after a reset.
        reverse: whether time runs from T - 1 to 0.
        remat: "none"; otherwise only the carries are saved, and each step is computed again in the backward pass.
        collect: whether ys are followed by the carries after each step.

    Returns:
        The carry after the last step, and ys [T, *batch, ...] in the dtype of `xs`; with `collect` `(ys, carries)`.
    """
    dot = dot_in(sequence.xs.dtype)
    us = project(cell, params, sequence)

    def body(carry: Carry, inputs: tuple[Any, Sequence]) -> tuple[Carry, Any]:
        u, step = inputs
        after, y = advance(cell, params, carry, first, u, step, dot)
        return after, (y, after) if collect else y

    step = body if remat == "none" else jax.checkpoint(body, prevent_cse=False)
    return lax.scan(step, carry, (us, sequence), reverse=reverse)
