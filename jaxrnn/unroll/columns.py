"""One step with the rows of the batch as the last axis of every array: `kernel @ columns` instead of `rows @ kernel`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.extend.core
import jax.numpy as jnp
from jax import lax

from jaxrnn.typing import Tree


def turned(tree: Tree) -> Tree:
    """Kernels with their first axis last, behind a barrier: so they stand in memory while a loop runs."""
    return jax.tree.map(lambda w: lax.optimization_barrier(jnp.moveaxis(w, 0, -1)) if w.ndim > 1 else w, tree)


def turned_back(tree: Tree) -> Tree:
    """The inverse of `turned`; inside the loop XLA makes it part of the product."""
    return jax.tree.map(lambda w: jnp.moveaxis(w, -1, 0) if w.ndim > 1 else w, tree)


def in_columns(one: Callable[..., Any], rows: int) -> Callable[..., Any]:
    """`one`, a function of one row's arrays, over arrays with `rows` batch axes, which stand last in between.

    A product of a vector and a kernel is written kernel first: `jax.vmap` then puts the batch behind the axes of the kernel.
    """

    def run(*args: Any) -> Any:
        program, shapes = jax.make_jaxpr(one, return_shape=True)(*args)
        return jax.tree.unflatten(jax.tree.structure(shapes), _kernels_first(program, jax.tree.leaves(args)))

    for _ in range(rows):
        run = jax.vmap(run)
    return run


def _kernels_first(program: jax.extend.core.ClosedJaxpr, args: list[Any]) -> list[Any]:
    jaxpr = program.jaxpr
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*program.consts, *args], strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, jax.extend.core.Literal) else values[atom]

    for equation in jaxpr.eqns:
        operands, options = [read(atom) for atom in equation.invars], equation.params
        if equation.primitive is lax.dot_general_p and operands[0].ndim == 1 and options["dimension_numbers"][1] == ((), ()):
            (left, right), batch = options["dimension_numbers"]
            operands, options = operands[::-1], options | {"dimension_numbers": ((right, left), batch)}
        found = equation.primitive.bind(*operands, **equation.primitive.get_bind_params(options))
        values |= zip(equation.outvars, found if equation.primitive.multiple_results else [found], strict=True)
    return [read(atom) for atom in jaxpr.outvars]
