"""Which entries of a carry the derivative of a step couples: read from its own equations."""

import math
from typing import Any, NamedTuple

import jax

from jaxrnn.running.affine.linear import Value, axes_of, blocks, coupled, unscannable, walk
from jaxrnn.running.problem import Problem

DENSE = 32  # units of all leaves together, up to which a whole matrix is solved with at each step


class Coupling(NamedTuple):
    """The form of the matrices of an affine scan over derivatives of a step."""

    # [after][before]: of units that keep to themselves, which leaf depends on which; None is dense
    blocks: tuple[tuple[bool, ...], ...] | None
    units: int  # of all leaves together


def read_coupling(problem: Problem) -> Coupling | str:
    """Reads the derivative of a step in its carry; a string says why no form fits.

    A wrong form would give a wrong gradient without a sign. So the form by units is taken only
    where the equations of the derivative, which are linear in the direction, show it.
    """
    leaves = jax.tree.leaves(problem.carry)
    if not leaves:
        return Coupling((), 0)
    reason = unscannable(leaves)
    if reason is not None:
        return reason
    batch = problem.batch
    if any(leaf.shape[: len(batch)] != batch for leaf in leaves):
        return "a leaf of its carry does not have the batch axes."
    units = sum(math.prod(leaf.shape[len(batch) :]) for leaf in leaves)
    apart = _blocks(problem, leaves)
    if apart is not None:
        return Coupling(apart, units)
    if any(leaf.ndim != len(batch) + 1 for leaf in leaves):
        return "its units act on each other, and its carry has several axes of them."
    if units > DENSE:
        return f"its units act on each other, and it has {units}, more than {DENSE}."
    return Coupling(None, units)


def _blocks(problem: Problem, leaves: list[Any]) -> tuple[tuple[bool, ...], ...] | None:
    """How leaves depend on each other where every unit keeps to itself; None where not."""
    if len({leaf.shape for leaf in leaves}) > 1:
        return None
    tree = jax.tree.structure(problem.carry)
    like = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]
    u = jax.eval_shape(lambda: problem.project(jax.tree.map(lambda a: a[0], problem.steps)))

    def push(direction: list[Any], carry: list[Any], u: Any) -> list[Any]:
        def step(carry: list[Any]) -> list[Any]:
            whole = problem.whole(jax.tree.unflatten(tree, carry))
            after, _ = problem.cell.step(problem.params, whole, u, problem.dot)
            return jax.tree.leaves(problem.part(after, problem.carry))

        return jax.jvp(step, (carry,), (direction,))[1]

    jaxpr = jax.make_jaxpr(push)(like, like, u).jaxpr
    own = axes_of(like[0].shape)
    values = {jaxpr.invars[k]: Value(frozenset({k}), axes=own) for k in range(len(like))}
    found = walk(jaxpr.eqns, values, jaxpr.outvars)
    return None if coupled(found, own) else blocks(found)
