"""One step with the rows of the batch as the last axis of every array: `kernel @ columns` instead
of `rows @ kernel`."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.extend.core
import jax.numpy as jnp
from jax import lax

from jaxrnn.cell import Array, Carry, Tree
from jaxrnn.running.fused import saved
from jaxrnn.running.fused.reading import Reading
from jaxrnn.running.problem import Problem, Steps


def step_in_columns(
    reading: Reading, problem: Problem, weights: list[Array], keep: bool
) -> Callable[[Carry, Any, Steps], tuple[Carry, Any, Any]]:
    """`(carry, u, now) -> (carry, y, saved)` of a step; where u is None it is projected here.

    The step is traced for one row, and `jax.vmap` puts the rows last: `trace` has no part in it,
    so `dot` must be called in the order in which it was traced. A step that reads its batch axes or
    has effects would do something else here: `layout.can_turn`.
    """
    turned = _turned((problem.params, weights))

    def one(carry: Carry, first: Carry, held: Carry, u: Any, now: Steps) -> tuple[Carry, Any, Any]:
        params, weights = _turned_back(turned)
        row = dataclasses.replace(
            problem, params=params, steps=now, carry=carry, held=held, first=first
        )
        u = row.project(now) if u is None else u
        found: list[Array] = []
        numbers = iter(range(len(reading.recorded)))

        def recording(v: Array, w: Array, op: Any = None) -> Array:
            if not reading.recorded[next(numbers)]:
                return problem.dot(v, w, op)
            found.append(problem.dot(v, weights[len(found)], op))
            return found[-1]

        after, y = row.advance(carry, u, now, recording)
        return after, y, saved.save(reading, found, u, 0) if keep else None

    each = _in_columns(one, reading.rows)
    return lambda carry, u, now: each(carry, problem.first, problem.held, u, now)


def _turned(tree: Tree) -> Tree:
    """Kernels with their first axis last, behind a barrier: so they stand while a loop runs."""

    def turn(w: Array) -> Array:
        return lax.optimization_barrier(jnp.moveaxis(w, 0, -1)) if w.ndim > 1 else w

    return jax.tree.map(turn, tree)


def _turned_back(tree: Tree) -> Tree:
    """The inverse; inside the loop XLA makes it part of the product."""
    return jax.tree.map(lambda w: jnp.moveaxis(w, -1, 0) if w.ndim > 1 else w, tree)


def _in_columns(one: Callable[..., Any], rows: int) -> Callable[..., Any]:
    """`one`, a function of one row's arrays, over arrays with `rows` batch axes.

    A product of a vector and a kernel is written kernel first: `jax.vmap` then puts the batch
    behind the axes of the kernel.
    """

    def run(*args: Any) -> Any:
        program, shapes = jax.make_jaxpr(one, return_shape=True)(*args)
        found = _kernels_first(program, jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shapes), found)

    for _ in range(rows):
        run = jax.vmap(run)
    return run


def _kernels_first(program: jax.extend.core.ClosedJaxpr, args: list[Any]) -> list[Any]:
    jaxpr = program.jaxpr
    variables = [*jaxpr.constvars, *jaxpr.invars]
    values = dict(zip(variables, [*program.consts, *args], strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, jax.extend.core.Literal) else values[atom]

    for equation in jaxpr.eqns:
        operands = [read(atom) for atom in equation.invars]
        options = equation.params
        product = equation.primitive is lax.dot_general_p and operands[0].ndim == 1
        if product and options["dimension_numbers"][1] == ((), ()):
            (left, right), batch = options["dimension_numbers"]
            if left:  # an outer product would come out transposed
                operands = operands[::-1]
                options = options | {"dimension_numbers": ((right, left), batch)}
        found = equation.primitive.bind(*operands, **equation.primitive.get_bind_params(options))
        found = found if equation.primitive.multiple_results else [found]
        values.update(zip(equation.outvars, found, strict=True))
    return [read(atom) for atom in jaxpr.outvars]
