"""`method="fused"`, as an object."""

import dataclasses
import functools
from typing import Any, ClassVar, NamedTuple

import jax

from jaxrnn.cell import Array
from jaxrnn.running.derivative import Differentiable, Gradients, as_gradients, nothing
from jaxrnn.running.fused.activations import with_activations
from jaxrnn.running.fused.backward import backward
from jaxrnn.running.fused.forward import forward
from jaxrnn.running.fused.layout import Layout, layouts, on_platform
from jaxrnn.running.fused.pays import backward_loses, forward_pays, may_differ
from jaxrnn.running.fused.reading import Reading, read
from jaxrnn.running.fused.recorded import weights
from jaxrnn.running.method import Refusal
from jaxrnn.running.problem import Problem
from jaxrnn.running.scan import Scan


class Plan(NamedTuple):
    reading: Reading
    layouts: tuple[Layout, Layout]  # for XLA:CPU, and for all other platforms
    own: bool  # whether the backward pass is its own; else it is that of `lax.scan`
    scans: bool  # whether a run of which nothing is saved is plain `lax.scan`
    told: tuple[str, ...]  # for `explain`


@dataclasses.dataclass(frozen=True)
class Fused(Differentiable):
    """A forward and a backward loop of the library's own, for every cell.

    Args:
        where_it_pays: whether it refuses what plain `lax.scan` runs as fast or faster.
    """

    where_it_pays: bool = False
    name: ClassVar[str] = "fused"
    memory: ClassVar[tuple[str, ...]] = ("none", "carry", "sqrt")

    def plan(self, problem: Problem) -> Plan | Refusal:
        sizes = problem.steps.xs.shape
        if not all(isinstance(size, int) for size in sizes):  # where `jax.export` makes symbols
            return Refusal("sizes are symbols.")
        batch = problem.batch
        if any(leaf.shape[: len(batch)] != batch for leaf in jax.tree.leaves(problem.first)):
            return Refusal("a leaf of the carry does not have the batch axes.")
        if problem.trace.nested:
            return Refusal("its step calls dot inside a loop, branch or transform of its own.")
        reading = read(problem.trace, rows=len(batch))
        reason = backward_loses(problem, reading) if self.where_it_pays else None
        scans = self.where_it_pays and not forward_pays(problem, reading)
        own = reason is None
        if reason is not None and (scans or not may_differ(problem)):
            return Refusal(reason)
        chosen = layouts(problem, reading)
        reading = with_activations(reading, problem.trace, chosen[0].columns)
        told = _told(problem, reading, chosen, own)
        return Plan(reading, chosen, own, scans, told + (ALONE,) * scans)

    def operands(self, plan: Plan, problem: Problem) -> list[Array]:
        return weights(plan.reading, problem)

    def forward(self, plan: Plan, problem: Problem, operands: Any, save: bool) -> Any:
        # What is saved is the scan's own or a `Kept`: the plan tells `backward` which.
        if save and not plan.own:
            return jax.vjp(functools.partial(Scan().run, None), problem)
        if not save and plan.scans:
            return Scan().run(None, problem), None
        run = functools.partial(forward, plan.reading, save)
        return on_platform(run, plan.layouts, problem, operands)

    def backward(
        self, plan: Plan, problem: Problem, operands: Any, saved: Any, cotangents: Any
    ) -> Gradients:
        if not plan.own:
            return as_gradients(saved(cotangents)[0], jax.tree.map(nothing, operands))
        run = functools.partial(backward, plan.reading)
        return on_platform(run, plan.layouts, problem, operands, saved, cotangents)

    def why(self, plan: Plan) -> str:
        return "its step has products, which it takes apart."

    def describe(self, plan: Plan) -> tuple[str, ...]:
        return plan.told


def _told(
    problem: Problem, reading: Reading, chosen: tuple[Layout, Layout], own: bool
) -> tuple[str, ...]:
    """What is done with this cell and these shapes."""
    paths = [path for path, _ in jax.tree.leaves_with_path(problem.params)]
    pairs = zip(paths, reading.acting, strict=True)
    acting = [jax.tree_util.keystr(path).strip(".") for path, acts in pairs if acts]
    count = sum(reading.recorded)
    plain = len(reading.recorded) - count + problem.trace.unmarked
    held = len(jax.tree.leaves(problem.held))
    cpu, other = chosen
    lines = [
        f"products per step with a matmul of their own, forward and backward: {count}",
        f"products per step that are differentiated as any other operation: {plain}" * bool(plain),
        f"parameters that act elementwise: {', '.join(acting)}" * bool(acting),
        f"leaves of the carry that no step changes: {held}" * bool(held),
        _saved(problem.remat, reading) if own else PLAIN,
        f"on a CPU: {_layout(cpu, problem.T)}",
        f"elsewhere: {_layout(other, problem.T)}",
    ]
    return tuple(line for line in lines if line)


ALONE = "a run of which no gradient is taken is lax.scan, which is as fast"
PLAIN = "the backward pass is that of lax.scan, which is as fast"


def _saved(remat: str, reading: Reading) -> str:
    if remat == "carry":
        return "saved for the backward pass: the carry of each step; the rest is computed again"
    how = " (input and product as their sum)" if reading.sums else ""
    what = (
        "activations, with the products they do not stand for"
        if reading.activations
        else "products"
    )
    return f"saved for the backward pass: the carry of each step and its {what}{how}"


def _layout(layout: Layout, T: int) -> str:
    inputs = "in the loop" if layout.project_inside else "all at once"
    turned = ", the batch last in memory" if layout.columns else ""
    chunks = f"all {T} steps at once" if layout.chunk == T else f"chunks of {layout.chunk} steps"
    return f"inputs projected {inputs}{turned}; weight gradients from {chunks}"
