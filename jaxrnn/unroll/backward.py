"""The backward pass of the fast path, chunk by chunk."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxrnn.typing import Array, Carry, Cell, Params, Tree, dot_in
from jaxrnn.unroll import carried, parts, products
from jaxrnn.unroll.form import Form
from jaxrnn.unroll.parts import Saved
from jaxrnn.unroll.products import NOWHERE, Slot
from jaxrnn.unroll.scan import Sequence, advance, project
from jaxrnn.unroll.study import Study


class Plan(NamedTuple):
    """What a run is compiled for."""

    cell: Cell
    reverse: bool
    remat: str  # "none" or "carry"
    collect: bool  # whether the carries after each step are put out too
    shared: tuple[bool, ...]  # for each leaf of the carry, whether it is not saved since the outputs are the same
    study: Study


class Given(NamedTuple):
    """What is the same for all chunks."""

    params: Params
    weights: list[Array]
    transposed: list[Array | None]
    first: Carry


class Sums(NamedTuple):
    """The gradients that add up over the chunks."""

    params: Params
    weights: list[Array]
    first: Carry


class Chunk(NamedTuple):
    """Every leaf is [n, *batch, ...], but for `Kept.start`."""

    steps: Sequence
    carries: Any  # before each step; on the way into a chunk a `Kept`
    saved: Any  # parts.Saved; None where the carries are all that is saved
    d_ys: Array  # the cotangents of the outputs
    d_carries: Carry | None  # those of the carries after each step, where they are put out


def backward(
    plan: Plan,
    form: Form,
    params: Params,
    weights: list[Array],
    first: Carry,
    sequence: Sequence,
    saved: Any,
    cotangents: Any,
    loop: Callable[..., Any] | None = None,
) -> tuple[Any, ...]:
    """The gradients of parameters, weights, reset carry, first carry, inputs and noise; `loop` may take the place of `_loop`."""
    (d_carry, d_ys), (kept, saved) = cotangents, saved
    given = Given(params, weights, products.transposed(dot_in(sequence.xs.dtype), weights), first)
    state, d_inputs = (d_carry, jax.tree.map(_zero, Sums(params, weights, first))), []
    d_ys, d_carries = d_ys if plan.collect else (d_ys, None)
    whole = Chunk(sequence, kept._replace(start=None), saved, d_ys, d_carries)
    pieces, ends = cut(whole, form.chunk, not plan.reverse), spans(sequence.xs.shape[0], form.chunk, not plan.reverse)
    for piece, span in zip(pieces, ends, strict=True):
        start = carried.heads(kept, *span, plan.reverse)
        piece = piece._replace(carries=piece.carries._replace(start=start))
        state, d_piece = _each(functools.partial(_chunk, plan, form, loop or _loop, given), state, piece, not plan.reverse)
        d_inputs.append(d_piece)
    d_carry, sums = state
    return *sums, d_carry, *join(d_inputs, not plan.reverse)


def cut(tree: Tree, length: int, reverse: bool) -> list[Tree]:
    """Chunks [chunks, length, ...] of a tree [T, ...] in the order of the loop; where T leaves a rest, one of that length too."""
    ends = spans(jax.tree.leaves(tree)[0].shape[0], length, reverse)
    return [jax.tree.map(lambda a, i=i, j=j, n=n: a[i:j].reshape(-1, n, *a.shape[1:]), tree) for i, j, n in ends]


def spans(T: int, length: int, reverse: bool) -> list[tuple[int, int, int]]:
    """(begin, end, steps of a chunk) of the pieces of `cut`."""
    length = min(length, T)
    at = T % length if reverse else T - T % length
    both = [(at, T, length), (0, at, at)] if reverse else [(0, at, length), (at, T, T - at)]
    return [(i, j, n) for i, j, n in both if j > i]


def join(pieces: list[Tree], reverse: bool) -> Tree:
    """The inverse of `cut`."""
    flat = [jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), piece) for piece in pieces]
    return jax.tree.map(lambda *a: jnp.concatenate(a) if len(a) > 1 else a[0], *(flat[::-1] if reverse else flat))


def _each(chunk: Callable[..., Any], state: Any, piece: Chunk, reverse: bool) -> tuple[Any, Any]:
    """A scan over chunks; no loop where there is one chunk."""
    if piece.steps.xs.shape[0] > 1:
        return lax.scan(chunk, state, piece, reverse=reverse)
    state, out = chunk(state, jax.tree.map(lambda a: a[0], piece))
    return state, jax.tree.map(lambda a: a[None], out)


def _chunk(
    plan: Plan, form: Form, loop: Callable[..., Any], given: Given, state: tuple[Carry, Sums], chunk: Chunk
) -> tuple[Any, Any]:
    """The state before a chunk, and the gradients of its inputs and noise."""
    (d_carry, sums), rows = state, plan.study.rows
    chunk = chunk._replace(carries=carried.carries(chunk.carries, given.first, plan.reverse))
    chunk = chunk if chunk.saved is not None else chunk._replace(saved=_again(plan, given, chunk))
    (d_carry, d_first), d_products, d_us, d_afters = loop(plan, form, given, (d_carry, sums.first), chunk)
    n, *batch = chunk.steps.xs.shape[: rows + 1]
    starts = _like(given.first, chunk.carries)
    if form.fold:
        chunk, starts, d_us, d_afters = _fold(rows, (chunk, starts, d_us, d_afters))
        d_products = [d.reshape(-1, *d.shape[rows + 1 :]) for d in d_products]
    d_us = parts.input_cotangents(plan.study, d_products, d_us)
    d_weights = _weight_gradients(plan, given, starts, chunk, d_products)
    d_params = _step_gradients(plan, given, starts, chunk, d_products, d_afters)
    steps = chunk.steps
    _, pull = jax.vjp(
        lambda p, xs, noise: project(plan.cell, p, steps._replace(xs=xs, noise=noise)), given.params, steps.xs, steps.noise
    )
    d_project, *d_inputs = pull(d_us)
    if form.fold:
        d_inputs = jax.tree.map(lambda a: jnp.moveaxis(a.reshape(*batch, n, *a.shape[1:]), rows, 0), d_inputs)
    d_params = _add(_add(sums.params, d_params), d_project)
    return (d_carry, Sums(d_params, _add(sums.weights, d_weights), d_first)), d_inputs


def _fold(rows: int, tree: Tree) -> Tree:
    """Leaves [n, *batch, ...] with their leading axes made one, in which a sharded batch stays the outer one."""
    return jax.tree.map(lambda a: jnp.moveaxis(a, 0, rows).reshape(-1, *a.shape[rows + 1 :]), tree)


def _again(plan: Plan, given: Given, chunk: Chunk) -> Saved:
    """What was not saved of a chunk, from its carries."""
    found: list[Array] = []
    starts = _like(given.first, chunk.carries)
    dot = products.recording(dot_in(chunk.steps.xs.dtype), given.weights, plan.study.inside, found)
    us = project(plan.cell, given.params, chunk.steps)
    advance(plan.cell, given.params, chunk.carries, starts, us, chunk.steps, dot)
    return parts.save(plan.study, found, us, plan.study.rows + 1)


def _loop(
    plan: Plan, form: Form, given: Given, state: tuple[Carry, Carry], chunk: Chunk
) -> tuple[Any, list[Array], Any, Carry | None]:
    """Runs the adjoint of the carry through a chunk, and writes down the cotangents of products and projected inputs.

    Returns:
        The state before the chunk: the adjoint, and the sum for the reset carry; the cotangents of the products, time behind the
        batch where `form.fold`; those of the inputs as in `Saved.us`; and where parameters act elementwise the adjoints after
        each step.
    """
    study, dot, (d_carry, d_first) = plan.study, dot_in(chunk.steps.xs.dtype), state
    axis = study.rows if form.fold else 0

    def body(state: Any, inputs: tuple[Array, Chunk]) -> tuple[Any, Any]:
        (d_after, d_first), buffers = state
        index, now = inputs
        d_after = d_after if now.d_carries is None else _add(d_after, now.d_carries)
        found, _ = parts.restore(study, now.saved)

        def replay(carry: Carry, us: Any, buffers: list[Array], first: Carry) -> tuple[Carry, Array]:
            def again(k: int, v: Array, w: Array, op: Any) -> Array:
                slot = Slot(buffers[k], index, axis, form.by_gate and parts.has_gates(found[k].shape, study.rows))
                return products.replayed(dot, found[k], given.weights[k], given.transposed[k], slot, v, op)

            _, u = parts.restore(study, now.saved._replace(us=us))
            return advance(plan.cell, given.params, carry, first, u, now.steps, products.handled(dot, study.inside, again))

        _, pull = jax.vjp(replay, now.carries, now.saved.us, buffers, given.first)
        d_carry, d_us, buffers, more = pull((d_after, now.d_ys))
        return ((d_carry, _add(d_first, more)), buffers), (d_us, d_after if any(study.elementwise) else None)

    blank = [jnp.moveaxis(jnp.zeros_like(a), 0, axis) for a in parts.restore(study, chunk.saved)[0]]
    steps = jnp.arange(chunk.steps.xs.shape[0], dtype=jnp.uint32)  # unsigned: none is counted from the end, in an operation more
    start, inputs = ((d_carry, d_first), blank), (steps, chunk)
    (state, d_products), (d_us, d_afters) = lax.scan(body, start, inputs, reverse=not plan.reverse)
    return state, d_products, d_us, d_afters


def _pick(study: Study, params: Params) -> list[Array]:
    """The parameters that act elementwise."""
    return [leaf for leaf, used in zip(jax.tree.leaves(params), study.elementwise, strict=True) if used]


def _put(study: Study, chosen: list[Array], params: Params) -> Params:
    """`params` with those that act elementwise replaced."""
    (leaves, tree), each = jax.tree.flatten(params), iter(chosen)
    return jax.tree.unflatten(tree, [next(each) if used else a for a, used in zip(leaves, study.elementwise, strict=True)])


def _weight_gradients(plan: Plan, given: Given, starts: Carry, chunk: Chunk, d_products: list[Array]) -> list[Array]:
    """The gradient of every weight from a whole chunk: one matmul each."""
    dot, gradients = dot_in(chunk.steps.xs.dtype), []
    found, us = parts.restore(plan.study, chunk.saved)

    def take(k: int, v: Array, w: Array, op: Any) -> Array:
        gradients.append(products.weight_gradient(dot, op, v, given.weights[k], d_products[k]))
        return found[k]

    replaying = products.handled(dot, plan.study.inside, take)
    advance(plan.cell, given.params, chunk.carries, starts, us, chunk.steps, replaying)
    return gradients


def _step_gradients(
    plan: Plan, given: Given, starts: Carry, chunk: Chunk, d_products: list[Array], d_afters: Carry | None
) -> Params:
    """The gradients of the parameters that act inside `step`, from a whole chunk: one reduction each."""
    study, dot = plan.study, dot_in(chunk.steps.xs.dtype)
    leaves, tree = jax.tree.flatten(jax.tree.map(_zero, given.params))
    for (product, gate), leaf in study.biases:
        part = d_products[product] if gate is None else d_products[product][..., gate, :]
        leaves[leaf] = jnp.sum(part, axis=tuple(range(part.ndim - leaves[leaf].ndim)))
    if not any(study.elementwise):
        return jax.tree.unflatten(tree, leaves)
    found, us = parts.restore(study, chunk.saved)

    def replay(chosen: list[Array], found: list[Array]) -> tuple[Carry, Array]:
        def again(k: int, v: Array, w: Array, op: Any) -> Array:
            return products.replayed(dot, found[k], given.weights[k], given.transposed[k], NOWHERE, v, op)

        params, replaying = _put(study, chosen, given.params), products.handled(dot, study.inside, again)
        return advance(plan.cell, params, chunk.carries, starts, us, chunk.steps, replaying)

    # In `found` too, so that the rule of each product is used here and is not left to a second differentiation.
    chosen, _ = jax.vjp(replay, _pick(study, given.params), found)[1]((d_afters, chunk.d_ys))
    return _put(study, chosen, jax.tree.unflatten(tree, leaves))


def _like(first: Carry, carries: Carry) -> Carry:
    return jax.tree.map(lambda f, c: jnp.broadcast_to(f, c.shape), first, carries)


def _zero(a: Array) -> Any:
    """The cotangent that adds nothing; that of an integer (a counter in the carry) has no numbers."""
    return jnp.zeros_like(a) if jnp.issubdtype(a.dtype, jnp.inexact) else np.zeros(a.shape, jax.dtypes.float0)


def _add(a: Tree, b: Tree) -> Tree:
    return jax.tree.map(lambda a, b: a if a.dtype == jax.dtypes.float0 else a + b, a, b)
