"""Newton's iterations: the states of all steps at once, each iteration one affine scan.

States s_t = f_t(s_{t-1}) are a root of F(s)_t = s_t - f_t(s_{t-1}). An iteration solves for what F
is in a straight line: d_t = A_t d_{t-1} - F(s)_t, where A_t is the derivative of f_t.
"""

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap

from jaxrnn.affine.scan import scan as affine
from jaxrnn.affine.ways import shifted
from jaxrnn.cell import Array, Carry, select
from jaxrnn.running.newton.structure import Coupling
from jaxrnn.running.problem import Problem

States = Carry  # carries of all steps, each leaf [T, ...]


class Found(NamedTuple):
    """How the iterations went, [] each."""

    iterations: Array  # how many
    residual: Array  # the largest of F, relative to the larger of 1 and the largest state
    converged: Array


class Goal(NamedTuple):
    """When iterations end."""

    tolerance: float
    iterations: int
    guess: str


def states(coupling: Coupling, goal: Goal, problem: Problem, us: Any) -> tuple[States, Found]:
    """The carries after all steps, exact whatever the iterations found: where they do not reach the
    tolerance the loop runs. Their derivative is that of the root."""
    if not coupling.units:
        zero = jnp.zeros(())
        return _zero(problem), Found(jnp.zeros((), jnp.int32), zero, zero == 0)

    def minus(s: States) -> States:
        return jax.tree.map(operator.sub, s, after(problem, us, before(problem, s)))

    def root(_: Any, guess: States) -> tuple[States, tuple[Array, Array]]:
        given = jax.tree.map(lax.stop_gradient, (problem, us))
        return _solver(
            functools.partial(_begin, coupling, goal.guess),
            functools.partial(_improve, coupling),
            _in_order,
            goal,
        )(*given)

    def tangent(g: Callable[[States], States], y: States) -> States:
        # g(e)_t = e_t - A_t e_{t-1}, with nothing before the first step
        def push(e: States) -> States:
            return jax.tree.map(operator.sub, e, g(e))

        return _solve(coupling, problem, _matrices(coupling, problem, push, y), y)

    # what goes out beside a root must be floating-point
    s, (iterations, residual) = lax.custom_root(minus, _zero(problem), root, tangent, has_aux=True)
    return s, Found(iterations.astype(jnp.int32), residual, residual <= goal.tolerance)


def after(problem: Problem, us: Any, earlier: States) -> States:
    """The carries after all steps from those before them."""

    def step(carry: Carry, u: Any, now: Any) -> Carry:
        return problem.advance(carry, u, now)[0]

    return jax.vmap(step)(earlier, us, problem.steps)


def before(problem: Problem, s: States) -> States:
    """The carries before all steps."""
    return jax.tree.map(lambda h, c: shifted(h, c, problem.reverse), s, problem.carry)


def _zero(problem: Problem) -> States:
    def through_time(a: Array) -> Array:
        zero = jnp.zeros_like(a)  # which varies over devices as the carry does
        return jnp.broadcast_to(zero, (problem.T, *a.shape))

    return jax.tree.map(through_time, problem.carry)


def _begin(coupling: Coupling, guess: str, problem: Problem, us: Any) -> tuple[States, Array]:
    """Where iterations begin, and the residual there."""
    zero = _zero(problem)
    if guess == "linear":  # the recurrence as it is near a state of zero
        b, push = jax.linearize(functools.partial(after, problem, us), zero)
        s = _solve(coupling, problem, _matrices(coupling, problem, push, zero), b, problem.carry)
    else:
        s = after(problem, us, zero)
    return s, _residual(problem, us, s)[1]


def _improve(coupling: Coupling, problem: Problem, us: Any, s: States) -> tuple[States, Array]:
    """One iteration, and the residual after it."""
    earlier = before(problem, s)
    later, push = jax.linearize(functools.partial(after, problem, us), earlier)
    lacking = jax.tree.map(operator.sub, later, s)
    d = _solve(coupling, problem, _matrices(coupling, problem, push, earlier), lacking)
    s = jax.tree.map(lambda a, b: jnp.where(jnp.isfinite(a + b), a + b, 0), s, d)
    return s, _residual(problem, us, s)[1]


def _residual(problem: Problem, us: Any, s: States) -> tuple[States, Array]:
    r = jax.tree.map(operator.sub, s, after(problem, us, before(problem, s)))
    sizes = [
        jnp.max(jnp.abs(a)) / jnp.maximum(1, jnp.max(jnp.abs(b)))
        for a, b in zip(jax.tree.leaves(r), jax.tree.leaves(s), strict=True)
    ]
    return r, functools.reduce(jnp.maximum, sizes)


def _in_order(problem: Problem, us: Any) -> States:
    """The same by a loop."""

    def body(carry: Carry, inputs: Any) -> tuple[Carry, Carry]:
        carry, _ = problem.advance(carry, *inputs)
        return carry, carry

    return lax.scan(body, problem.carry, (us, problem.steps), reverse=problem.reverse)[1]


def _matrices(
    coupling: Coupling, problem: Problem, push: Callable[[States], States], like: States
) -> Any:
    """The derivatives of all steps, from what they make of a direction."""
    leaves, tree = jax.tree.flatten(like)
    if coupling.blocks is None:
        cuts = _cuts(leaves)

        def column(unit: Array) -> Array:
            parts = jnp.split(unit, cuts)
            pairs = zip(parts, leaves, strict=True)
            # varying over the axes of a mesh as the leaf does
            direction = [jnp.zeros_like(a) + jnp.broadcast_to(b, a.shape) for b, a in pairs]
            pushed = push(jax.tree.unflatten(tree, direction))
            return jnp.concatenate(jax.tree.leaves(pushed), axis=-1)

        return jax.vmap(column, out_axes=-1)(jnp.eye(coupling.units, dtype=leaves[0].dtype))
    count = range(len(leaves))
    kept = problem.steps.mask is not None  # a step that is left out keeps each leaf
    columns = []
    for j in count:
        direction = [jnp.zeros_like(leaf) + float(i == j) for i, leaf in enumerate(leaves)]
        columns.append(jax.tree.leaves(push(jax.tree.unflatten(tree, direction))))
    return tuple(
        tuple(columns[j][i] if coupling.blocks[i][j] or (kept and i == j) else None for j in count)
        for i in count
    )


def _solve(
    coupling: Coupling, problem: Problem, a: Any, b: States, start: Carry | None = None
) -> States:
    """d_t = a_t d_{t-1} + b_t, from zero or `start`."""
    leaves, tree = jax.tree.flatten(b)
    if start is None:
        first = [jnp.zeros_like(leaf[0]) for leaf in leaves]
    else:
        first = jax.tree.leaves(start)
    if coupling.blocks is not None:
        _, d = affine(a, tuple(leaves), tuple(first), None, problem.reverse)
        return jax.tree.unflatten(tree, d)
    beside, begin = (jnp.concatenate(some, axis=-1) for some in (leaves, first))
    _, d = affine(a, beside, begin, None, problem.reverse)
    return jax.tree.unflatten(tree, jnp.split(d, _cuts(leaves), axis=-1))


def _cuts(leaves: list[Array]) -> list[int]:
    sizes = [leaf.shape[-1] for leaf in leaves]
    return [sum(sizes[:k]) for k in range(1, len(sizes))]


def _solver(
    begin: Callable[..., tuple[States, Array]],
    improve: Callable[..., tuple[States, Array]],
    in_order: Callable[..., States],
    goal: Goal,
) -> Callable[..., tuple[States, tuple[Array, Array]]]:
    """Iterations until all residuals are below the tolerance, and the loop for those that are not.

    Under `vmap` it is one loop still, with a residual for each row: one that has converged stays as
    it is, and if all have, no other way runs.
    """

    @custom_vmap
    def solve(*given: Any) -> tuple[States, tuple[Array, Array]]:
        s, residual = begin(*given)

        def going(state: Any) -> Array:
            k, _, residual = state
            return (k < goal.iterations) & ~jnp.all(residual <= goal.tolerance)

        def body(state: Any) -> Any:
            k, s, residual = state
            better, smaller = improve(*given, s)
            done = residual <= goal.tolerance
            return k + 1, select(done, s, better), jnp.where(done, residual, smaller)

        k, s, residual = lax.while_loop(going, body, (0, s, residual))
        done = residual <= goal.tolerance
        s = lax.cond(jnp.all(done), lambda s: s, lambda s: select(done, s, in_order(*given)), s)
        return s, (jnp.full_like(residual, k), residual)

    @solve.def_vmap
    def rows(size: int, batched: Any, *given: Any) -> Any:
        axes = tuple(jax.tree.map(lambda some: 0 if some else None, b) for b in batched)
        many = _solver(
            jax.vmap(begin, axes), jax.vmap(improve, (*axes, 0)), jax.vmap(in_order, axes), goal
        )
        found = many(*given)
        return found, jax.tree.map(lambda _: True, found)

    return solve
