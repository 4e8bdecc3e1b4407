"""`method="affine"`, as an object."""

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxrnn.affine.scan import scan
from jaxrnn.affine.ways import last as final
from jaxrnn.affine.ways import shifted
from jaxrnn.cell import Carry, select
from jaxrnn.running.affine.linear import Linear, read_linear
from jaxrnn.running.method import Method, Refusal
from jaxrnn.running.problem import Problem, Steps
from jaxrnn.running.trace import is_literal, unchanged


@dataclasses.dataclass(frozen=True)
class Affine(Method):
    """One affine scan, for a cell whose step is affine in its carry, unit by unit.

    What each step multiplies the carry by, and what it adds, is found from the step itself, mask
    and reset included; outputs are made of all states at once. All derivatives, in both modes.

    Args:
        where_it_pays: whether it refuses what the scan trains as fast or faster.
    """

    where_it_pays: bool = False
    name: ClassVar[str] = "affine"
    memory: ClassVar[tuple[str, ...]] = ("none", "sqrt")

    def plan(self, problem: Problem) -> Linear | Refusal:
        unfit = _unfit(problem)
        if unfit is not None:
            return Refusal(unfit)
        found = read_linear(problem.trace, [not same for same in unchanged(problem.trace)])
        if isinstance(found, str):
            return Refusal(found)
        if _moves_on(found, problem):
            return found
        if self.where_it_pays and not found.steep:
            return Refusal("the same numbers at every step are multiplied as fast in the loop.")
        return found

    def run(self, plan: Linear, problem: Problem) -> tuple[Carry, Any]:
        us = problem.project()
        a, b = _coefficients(plan, problem, us)
        start, tree = jax.tree.flatten(problem.carry)
        if plan.delay is not None and _moves_on(plan, problem):
            hs = _moved_on(plan.delay, problem, b)
            last = tuple(final(h, problem.reverse) for h in hs)
        else:
            last, hs = scan(a, b, tuple(start), problem.steps.reset, problem.reverse)
        pairs = zip(hs, start, strict=True)
        before = jax.tree.unflatten(tree, [shifted(h, s, problem.reverse) for h, s in pairs])
        after = jax.tree.unflatten(tree, hs)
        ys = _outputs(problem, us, before, after)
        return jax.tree.unflatten(tree, last), problem.out(after, ys)

    def why(self, plan: Linear) -> str:
        return "its carry is linear, unit by unit."

    def describe(self, plan: Linear) -> tuple[str, ...]:
        if plan.delay is not None:
            seen = "its carry is what was seen before; without a mask nothing is scanned"
            return (seen if plan.delay else "it has no state: nothing is scanned",)
        changes = "each step multiplies its carry by what depends on the input"
        same = "every step multiplies its carry by the same numbers"
        return (changes if plan.steep else same,)


def _unfit(problem: Problem) -> str | None:
    """Why a run cannot be one affine scan, whatever its cell; None where it can."""
    if problem.remat == "carry":
        return "it saves more than the carries."
    if not all(isinstance(size, int) for size in problem.steps.xs.shape):
        return "sizes are symbols."
    batch = problem.batch
    if any(leaf.shape[: len(batch)] != batch for leaf in jax.tree.leaves(problem.carry)):
        return "a leaf of the carry does not have the batch axes."
    return None


def _moves_on(plan: Linear, problem: Problem) -> bool:
    """Whether states are those of other steps, or there are none. A step that is left out moves
    nothing on."""
    return plan.delay is not None and (problem.steps.mask is None or not plan.delay)


def _moved_on(
    delay: tuple[tuple[int, int | None], ...], problem: Problem, b: tuple[Any, ...]
) -> tuple[Any, ...]:
    """All states of a carry whose leaves move on: each is another leaf of one step before."""
    start = jax.tree.leaves(problem.carry)
    first = jax.tree.leaves(problem.part(problem.first, problem.carry))
    hs: dict[int, Any] = {}
    for leaf, source in delay:
        if source is None:
            hs[leaf] = b[leaf]
            continue
        hs[leaf] = shifted(hs[source], start[source], problem.reverse)
        if problem.steps.reset is not None:
            hs[leaf] = select(problem.steps.reset, first[source][None], hs[leaf])
    return tuple(hs[leaf] for leaf in range(len(start)))


def _coefficients(plan: Linear, problem: Problem, us: Any) -> tuple[Any, Any]:
    """What each step multiplies the carry by, as blocks [T, ...] or [1, ...], and what it adds."""
    steps = problem.steps
    zero = jax.tree.map(jnp.zeros_like, problem.carry)
    leaves, tree = jax.tree.flatten(zero)
    count = range(len(leaves))

    def after(carry: Carry, u: Any, now: Steps) -> tuple[Any, ...]:
        return tuple(jax.tree.leaves(problem.advance(carry, u, now)[0]))

    def column(k: int, u: Any, now: Steps) -> tuple[Any, ...]:
        """What a step makes of leaf k, in all units at once, since they do not act on each
        other."""
        unit = [jnp.full_like(leaf, float(j == k)) for j, leaf in enumerate(leaves)]
        direction = jax.tree.unflatten(tree, unit)
        return jax.jvp(lambda carry: after(carry, u, now), (zero,), (direction,))[1]

    b = jax.vmap(functools.partial(after, zero))(us, steps)
    steps = steps._replace(reset=None)  # which the scan knows, so that NaN before it is not seen
    if not plan.steep and steps.mask is None and steps.began is None:
        us, steps = jax.tree.map(lambda x: x[:1], (us, steps))
    columns = [jax.vmap(functools.partial(column, k))(us, steps) for k in count]
    # a step that is left out keeps each leaf, also one that is made anew at every step
    kept = steps.mask is not None
    a = tuple(
        tuple(columns[j][i] if plan.blocks[i][j] or (kept and i == j) else None for j in count)
        for i in count
    )
    return a, b


def _outputs(problem: Problem, us: Any, before: Carry, after: Carry) -> Any:
    """What the cell puts out at every step, from the states on both sides of it."""
    trace = problem.trace
    ops = [product.op for product in trace.products]
    moving = [not same for same in unchanged(trace)]
    states = [v for v, moves in zip(trace.after, moving, strict=True) if moves]

    def output(u: Any, now: Steps, carry: Carry, state: Carry) -> Any:
        def step(whole: Carry) -> tuple[Carry, Any]:
            known = trace.known(problem.consts, problem.params, whole, u)
            # On a step that is left out the output is made of what the step gives, as in the loop:
            # the state that is held may be one at which the output has no derivative.
            if now.mask is None:
                pairs = zip(states, jax.tree.leaves(state), strict=True)
                known |= {v: value for v, value in pairs if not is_literal(v)}
            ys = trace.evaluate(known, trace.y, lambda k, v, w: problem.dot(v, w, ops[k]))
            return whole, jax.tree.unflatten(trace.trees.y, ys)

        return problem.around(step, carry, now)[1]

    return jax.vmap(output)(us, problem.steps, before, after)
