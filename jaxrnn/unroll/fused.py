"""The fast sequential path: one forward and one backward loop for every cell whose products go through `dot`.

Forward, a lean loop records what each product gave; with small kernels on a CPU it multiplies input and state together
(`joined`). Backward, time is cut into chunks. In a chunk a loop replays `step` with a `dot` that returns the recorded products;
it carries the adjoint of the carry, has one matmul per product, and writes down the cotangent of each product. Then every
weight gets its gradient from the whole chunk, as one large matmul. `remat` chooses what is saved between the two:

- "none": the carry and the products of every step, with the projected input added where their sum is enough (`study`), but not
  what the outputs hold already (h);
- "carry": the carries; inputs and products of a chunk are computed again, all at once;
- "sqrt": the carry before each of about sqrt(T) chunks; a chunk runs forward again before it runs backward.

A product written without `dot` is differentiated as any other operation: exact, but computed again backward.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxrnn.typing import Array, Carry, Cell, Params, Tree, dot_in
from jaxrnn.unroll import carried, columns, joined, parts, products
from jaxrnn.unroll.backward import Plan, backward, cut, join
from jaxrnn.unroll.carried import Kept
from jaxrnn.unroll.form import Form, on_platform
from jaxrnn.unroll.scan import Sequence, advance, project, scan
from jaxrnn.unroll.study import NestedProductError, Study, study


def fused(
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
    """Runs a cell over time; arguments and returns are those of `scan`, and `remat` is "none", "carry" or "sqrt".

    Where it cannot take the cell apart it runs it as `scan` does: sizes that are symbols, a leaf of the carry without the batch
    axes, a `dot` that is called inside a loop, branch or transform of its own, and, off meshes, a step without any product.
    """
    plain = functools.partial(scan, cell, params, sequence, carry, first, reverse=reverse, collect=collect)
    params, first, carry = _varying((params, first, carry), sequence.xs)
    examined = examine(cell, params, sequence, first, remat)
    if isinstance(examined, str):
        return plain(remat="none" if remat == "none" else "carry")
    if remat == "sqrt":
        return _in_chunks(cell, params, sequence, carry, first, reverse, collect)
    found, weights = examined
    shown, dtype = sequence.mask is None and not collect, sequence.xs.dtype
    shared = tuple(o and shown and leaf.dtype == dtype for o, leaf in zip(found.output, jax.tree.leaves(first), strict=True))
    return _run(Plan(cell, reverse, remat, collect, shared, found), params, weights, first, carry, sequence)


def examine(cell: Cell, params: Params, sequence: Sequence, first: Carry, remat: str) -> tuple[Study, list[Array]] | str:
    """What a step does, and the weights of its products; or, as a sentence, why the cell is run as `scan` does."""
    xs, dot = sequence.xs, dot_in(sequence.xs.dtype)
    batch = xs.shape[1 : xs.ndim - cell.feature_axes]
    if not all(isinstance(size, int) for size in xs.shape):  # where `jax.export` makes them symbols
        return "sizes are symbols."
    if xs.size == 0:
        return "there is nothing to run over."
    if any(leaf.shape[: len(batch)] != batch for leaf in jax.tree.leaves(first)):
        return "a leaf of the carry does not have the batch axes."
    u = project(cell, params, jax.tree.map(lambda a: a[0], sequence))
    try:
        found = study(cell, params, first, u, dot, rows=len(batch))
    except NestedProductError:
        return "its step calls dot inside a loop, branch or transform of its own."
    if not found.products and remat != "sqrt" and jax.sharding.get_abstract_mesh().empty:
        return (
            "its step has no product."  # IndRNN, UnICORNN took 1.4 to 1.8 times as long; on a mesh it would reduce at each step
        )
    run = functools.partial(cell.step, params, *lax.stop_gradient((first, u)))
    return found, products.weights(run, dot, found.inside)


def _in_chunks(
    cell: Cell, params: Params, sequence: Sequence, carry: Carry, first: Carry, reverse: bool, collect: bool
) -> tuple[Carry, Any]:
    """Chunks of about sqrt(T) steps, of which the carry before each is all that is saved."""

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def chunk(carry: Carry, piece: Sequence) -> tuple[Carry, Any]:
        return fused(cell, params, piece, carry, first, reverse=reverse, remat="none", collect=collect)

    ys = []
    for piece in cut(sequence, math.isqrt(sequence.xs.shape[0]), reverse):
        carry, y = lax.scan(chunk, carry, piece, reverse=reverse)
        ys.append(y)
    return carry, join(ys, reverse)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _run(plan: Plan, *args: Any) -> tuple[Carry, Any]:
    return on_platform(functools.partial(_forward, plan, False), plan.study, plan.remat, args[-1], args[1], *args)[0]


def _run_forward(plan: Plan, *args: Any) -> tuple[Any, Any]:
    params, weights, first, carry, sequence = args
    result, (own, saved) = on_platform(functools.partial(_forward, plan, True), plan.study, plan.remat, sequence, weights, *args)
    kept = Kept(own, result[1] if any(plan.shared) else None, carried.split(plan.shared, carry)[1])
    return result, (params, weights, first, sequence, (kept, saved))


def _run_backward(plan: Plan, residuals: Any, cotangents: tuple[Carry, Any]) -> tuple[Any, ...]:
    (_, weights, _, sequence, _), run = residuals, functools.partial(backward, plan)
    *gradients, d_xs, d_noise = on_platform(run, plan.study, plan.remat, sequence, weights, *residuals, cotangents)
    mask, reset = jax.tree.map(lambda a: np.zeros(a.shape, jax.dtypes.float0), (sequence.mask, sequence.reset))
    return *gradients, Sequence(d_xs, mask, reset, d_noise)


_run.defvjp(_run_forward, _run_backward)


def _forward(
    plan: Plan, save: bool, form: Form, params: Params, weights: list[Array], first: Carry, carry: Carry, sequence: Sequence
) -> tuple[tuple[Carry, Any], Any]:
    """The result, and what the backward pass needs of it: the carries before each step, and what `remat` asks to save else."""
    study, dot = plan.study, dot_in(sequence.xs.dtype)
    us = None if form.project_inside else project(plan.cell, params, sequence)
    save_parts, rows = save and plan.remat == "none", 0 if form.columns else study.rows
    joint = joined.join(plan.cell, params, study, weights, sequence) if form.joined else None
    weights = weights if joint is None else joint.weights
    held = columns.turned((params, weights)) if form.columns else (params, weights)

    def one(carry: Carry, first: Carry, u: Any, step: Sequence) -> tuple[Carry, Array, Any]:
        params, weights = columns.turned_back(held) if form.columns else held
        found: list[Array] = []
        if joint is not None:
            u = jax.tree.map(lambda rest: jnp.broadcast_to(rest, step.xs.shape[: study.rows] + rest.shape), joint.rest)
        elif form.project_inside:
            u = project(plan.cell, params, step)
        multiply = dot if joint is None else joined.with_input(dot, joint, step.xs)
        recording = products.recording(multiply, weights, study.inside, found)
        after, y = advance(plan.cell, params, carry, first, u, step, recording)
        saved = parts.save(study, found, u, rows) if form.project_inside else found
        return after, y, saved if save_parts else None

    one = columns.in_columns(one, study.rows) if form.columns else one

    def body(carry: Carry, inputs: tuple[Any, Sequence]) -> tuple[Carry, Any]:
        after, y, saved = one(carry, first, *inputs)
        own = carried.split(plan.shared, carry)[0] if save else None
        return after, ((y, after) if plan.collect else y, own, saved)

    carry, (ys, own, saved) = lax.scan(body, carry, (us, sequence), reverse=plan.reverse)
    if save_parts and not form.project_inside:
        saved = parts.save(study, saved, us, study.rows + 1)
    return (carry, ys), (own, saved)


def _varying(tree: Tree, xs: Array) -> Tree:
    """Under `jax.shard_map`, makes what is the same on all devices vary as `xs` does, so that one reduction follows the loop."""
    if not jax.sharding.get_abstract_mesh().manual_axes:
        return tree
    zero = jnp.zeros_like(jnp.sum(xs))
    return jax.tree.map(lambda a: a + zero.astype(a.dtype), tree)
