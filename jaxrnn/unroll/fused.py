"""The fast sequential path: one forward and one backward loop for every cell whose products go through `dot`.

Time is cut into chunks. Forward, the inputs of a chunk are projected by one matmul, and a lean loop records what each product
gave. Backward, a loop replays `step` with a `dot` that returns the recorded products, and carries the adjoint of the carry alone,
so that it has one matmul per product; then one derivative of the replayed chunk gives every parameter's gradient, each weight's
as one large matmul. What is saved between the two is the choice of `remat`:

- "none": projected inputs, carries and products of every step;
- "carry": the carries; inputs and products of a chunk are computed again at once;
- "sqrt": the carry before each chunk of about sqrt(T) steps; a chunk runs forward again before it runs backward.

A product written without `dot` is differentiated as any other operation: exact, but computed again backward.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from jaxrnn.typing import Array, Carry, Cell, Dot, Params, Tree, dot_in
from jaxrnn.unroll.scan import Sequence, advance, project, scan


class Plan(NamedTuple):
    """What a chunked run is compiled for."""

    cell: Cell
    reverse: bool
    remat: str


class Saved(NamedTuple):
    """The steps of a chunk as the backward pass needs them; every leaf leads with time."""

    us: Any
    carries: Carry  # before each step
    products: tuple[Array, ...]


def fused(
    cell: Cell, params: Params, sequence: Sequence, carry: Carry, first: Carry, *, reverse: bool, remat: str
) -> tuple[Carry, Array]:
    """Runs a cell over time; arguments and returns are those of `scan`, and `remat` is "none", "carry" or "sqrt"."""
    if sequence.xs.size == 0:
        return scan(cell, params, sequence, carry, first, reverse=reverse, remat="none")
    plan, ys = Plan(cell, reverse, remat), []
    params, first, carry = _varying((params, first, carry), sequence.xs)
    for start, stop, length in pieces(sequence.xs.shape[0], remat, reverse):
        piece = jax.tree.map(lambda a, s=start, e=stop, n=length: a[s:e].reshape(-1, n, *a.shape[1:]), sequence)
        carry, y = _chunks(plan, params, first, carry, piece)
        ys.append(jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), y))
    join = lambda *parts: jnp.concatenate(parts)  # noqa: E731
    return carry, jax.tree.map(join, *(ys[::-1] if reverse else ys))


def pieces(T: int, remat: str, reverse: bool) -> list[tuple[int, int, int]]:
    """`(start, stop, chunk length)` of each run of equal chunks, in the order of the loop: one, or two where T leaves a rest."""
    length = max(1, math.isqrt(T)) if remat == "sqrt" else chunk_length(T)
    cut = T % length if reverse else T - T % length
    spans = [(cut, T, length), (0, cut, cut)] if reverse else [(0, cut, length), (cut, T, T - cut)]
    return [(start, stop, n) for start, stop, n in spans if stop > start]


def chunk_length(T: int) -> int:
    """The steps of a chunk: the largest divisor of T from 16 to 32, else 32."""
    return next((n for n in range(32, 15, -1) if T % n == 0), min(32, max(T, 1)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _chunks(plan: Plan, params: Params, first: Carry, carry: Carry, sequence: Sequence) -> tuple[Carry, Array]:
    """Runs over a sequence whose leaves are [chunks, steps, ...]."""
    (carry, ys), _ = _forward(plan, params, first, carry, sequence, save=lambda start, saved: None)
    return carry, ys


def _chunks_forward(plan: Plan, params: Params, first: Carry, carry: Carry, sequence: Sequence) -> tuple[Any, Any]:
    save = {
        "none": lambda start, saved: saved,
        "carry": lambda start, saved: saved.carries,
        "sqrt": lambda start, saved: start,
    }[plan.remat]
    result, saved = _forward(plan, params, first, carry, sequence, save)
    return result, (params, first, sequence, saved)


def _forward(
    plan: Plan, params: Params, first: Carry, carry: Carry, sequence: Sequence, save: Callable[[Carry, Saved], Any]
) -> tuple[tuple[Carry, Array], Any]:
    def chunk(carry: Carry, steps: Sequence) -> tuple[Carry, tuple[Array, Any]]:
        after, ys, saved = _run_chunk(plan, params, first, carry, steps)
        return after, (ys, save(carry, saved))

    carry, (ys, saved) = lax.scan(chunk, carry, sequence, reverse=plan.reverse)
    return (carry, ys), saved


def _run_chunk(plan: Plan, params: Params, first: Carry, carry: Carry, steps: Sequence) -> tuple[Carry, Array, Saved]:
    rows = steps.xs.ndim - plan.cell.feature_axes
    us = lax.optimization_barrier(_split(project(plan.cell, params, steps), rows))

    def body(carry: Carry, inputs: tuple[Any, Sequence]) -> tuple[Carry, Any]:
        products: list[Array] = []
        u, step = inputs
        after, y = advance(plan.cell, params, carry, first, _join(u), step, _recording(dot_in(steps.xs.dtype), products))
        return after, (y, carry, _split(tuple(products), rows - 1))

    carry, (ys, carries, products) = lax.scan(body, carry, (us, steps), reverse=plan.reverse)
    return carry, ys, Saved(us, carries, products)


def _restore(plan: Plan, params: Params, first: Carry, steps: Sequence, saved: Any) -> Saved:
    """The steps of a chunk from what was kept of them."""
    if plan.remat == "none":
        return saved
    if plan.remat == "sqrt":
        return _run_chunk(plan, params, first, saved, steps)[2]
    products: list[Array] = []
    us = project(plan.cell, params, steps)
    advance(plan.cell, params, saved, _like(first, saved), us, steps, _recording(dot_in(steps.xs.dtype), products))
    rows = steps.xs.ndim - plan.cell.feature_axes
    return lax.optimization_barrier(Saved(_split(us, rows), saved, _split(tuple(products), rows)))


def _chunks_backward(plan: Plan, residuals: Any, cotangents: tuple[Carry, Array]) -> tuple[Any, ...]:
    params, first, sequence, saved = residuals
    d_carry, d_ys = cotangents

    def chunk(state: tuple[Any, ...], inputs: tuple[Sequence, Any, Array]) -> tuple[tuple[Any, ...], Sequence]:
        d_carry, d_params, d_first = state
        steps, saved, d_ys = inputs
        saved = _restore(plan, params, first, steps, saved)
        d_carry, d_afters = _adjoint(plan, params, first, steps, saved, d_carry, d_ys)
        more_params, more_first, d_steps = _gradients(plan, params, first, steps, saved, d_afters, d_ys)
        return (d_carry, _add(d_params, more_params), _add(d_first, more_first)), d_steps

    state = (d_carry, *jax.tree.map(jnp.zeros_like, (params, first)))
    inputs = (sequence, saved, d_ys)
    (d_carry, d_params, d_first), d_sequence = lax.scan(chunk, state, inputs, reverse=not plan.reverse)
    none = jax.tree.map(lambda a: np.zeros(a.shape, jax.dtypes.float0), (sequence.mask, sequence.reset))
    return d_params, d_first, d_carry, d_sequence._replace(mask=none[0], reset=none[1])


_chunks.defvjp(_chunks_forward, _chunks_backward)


def _adjoint(
    plan: Plan, params: Params, first: Carry, steps: Sequence, saved: Saved, d_carry: Carry, d_ys: Array
) -> tuple[Carry, Carry]:
    """Runs the adjoint of the carry through a chunk: that before it, and those after each step, [steps, ...]."""

    def body(d_after: Carry, inputs: tuple[Sequence, Saved, Array]) -> tuple[Carry, Carry]:
        step, (u, carry, products), d_y = inputs
        replay, u = _replaying(dot_in(steps.xs.dtype), _join(products)), _join(u)
        _, pull = jax.vjp(lambda c: advance(plan.cell, params, c, first, u, step, replay()), carry)
        return pull((d_after, d_y))[0], d_after

    return lax.scan(body, d_carry, (steps, saved, d_ys), reverse=not plan.reverse)


def _gradients(
    plan: Plan, params: Params, first: Carry, steps: Sequence, saved: Saved, d_afters: Carry, d_ys: Array
) -> tuple[Params, Carry, Sequence]:
    """The gradients of parameters, reset carry and inputs of a chunk, all steps at once."""
    replay, us = _replaying(dot_in(steps.xs.dtype), _join(saved.products)), _join(saved.us)

    def replayed(params: Params, first: Carry, us: Any) -> tuple[Carry, Array]:
        return advance(plan.cell, params, saved.carries, _like(first, saved.carries), us, steps, replay())

    _, pull = jax.vjp(replayed, params, first, us)
    d_step, d_first, d_us = pull((d_afters, d_ys))
    _, pull = jax.vjp(
        lambda p, xs, noise: project(plan.cell, p, steps._replace(xs=xs, noise=noise)), params, steps.xs, steps.noise
    )
    d_project, d_xs, d_noise = pull(d_us)
    return _add(d_step, d_project), d_first, Sequence(d_xs, None, None, d_noise)


def _recording(dot: Dot, products: list[Array]) -> Dot:
    """A `dot` that keeps what it gave."""

    def record(v: Array, w: Array, op: Any = None) -> Array:
        products.append(dot(v, w, op))
        return products[-1]

    return record


def _replaying(dot: Dot, products: tuple[Array, ...]) -> Callable[[], Dot]:
    """Makes a `dot` that gives the recorded products in order, and has the derivatives of the product."""

    def start() -> Dot:
        recorded = iter(products)
        return lambda v, w, op=None: _recorded(lambda v, w: dot(v, w, op), lax.stop_gradient(next(recorded)), v, w)

    return start


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _recorded(product: Callable[[Array, Array], Array], value: Array, v: Array, w: Array) -> Array:
    return value


def _recorded_tangent(product: Any, primals: tuple[Array, ...], tangents: tuple[Any, ...]) -> tuple[Array, Any]:
    (value, v, w), (_, d_v, d_w) = primals, tangents
    terms = [] if isinstance(d_v, SymbolicZero) else [product(d_v, w)]  # no matmul of zeros: one per product and step
    terms += [] if isinstance(d_w, SymbolicZero) else [product(v, d_w)]
    tangent = functools.reduce(jnp.add, terms) if terms else jnp.zeros_like(value)
    return _recorded(product, value, v, w), tangent  # recorded again, for derivatives of higher order


_recorded.defjvp(_recorded_tangent, symbolic_zeros=True)


def _varying(tree: Tree, xs: Array) -> Tree:
    """Under `jax.shard_map`, makes what is the same on all devices vary as `xs` does, so that one reduction follows the loop."""
    if not jax.sharding.get_abstract_mesh().manual_axes:
        return tree
    zero = jnp.zeros_like(jnp.sum(xs))
    return jax.tree.map(lambda a: a + zero.astype(a.dtype), tree)


class _Gates(NamedTuple):
    """An array [..., G, H] as G arrays [..., H]."""

    parts: tuple[Array, ...]


def _split(tree: Any, rows: int) -> Any:
    """Arrays with a gate axis behind `rows` leading ones, one per gate: XLA:CPU vectorises a loop over these only."""
    return jax.tree.map(lambda a: _Gates(tuple(jnp.unstack(a, axis=-2))) if a.ndim == rows + 2 else a, tree)


def _join(tree: Any) -> Any:
    is_gates = lambda a: isinstance(a, _Gates)  # noqa: E731
    return jax.tree.map(lambda a: jnp.stack(a.parts, axis=-2) if is_gates(a) else a, tree, is_leaf=is_gates)


def _like(first: Carry, carries: Carry) -> Carry:
    return jax.tree.map(lambda f, c: jnp.broadcast_to(f, c.shape), first, carries)


def _add(a: Tree, b: Tree) -> Tree:
    return jax.tree.map(jnp.add, a, b)
