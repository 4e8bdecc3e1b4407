"""`method="newton"`, as an object."""

import dataclasses
from typing import Any, ClassVar

import jax

from jaxrnn.cell import Carry
from jaxrnn.checks import check_number, check_size
from jaxrnn.running.method import Method, Refusal
from jaxrnn.running.newton.iterations import Found, Goal, before, states
from jaxrnn.running.newton.structure import Coupling, read_coupling
from jaxrnn.running.problem import Problem, Steps

GUESSES = ("input", "linear")


@dataclasses.dataclass(frozen=True)
class Newton(Method):
    """All steps are solved for at once, by Newton's method: a few affine scans in place of a loop
    over the equations. It is meant for GPUs and TPUs where T is long, and was not measured there
    yet; on a CPU, where steps do not run side by side, it is more work than the loop.

    It runs cells whose units keep to themselves, read from the equations of the derivative, and
    cells of at most 32 units. The result is always right: where the tolerance is not reached, the
    loop runs. Gradients, of any order and in both modes, are those of the solution, however it was
    found.

    Args:
        tolerance: the largest residual s_t - f(s_{t-1}) that ends the iterations, relative to the
            larger of 1 and the largest state.
        iterations: how many there are at most.
        guess: where they begin: "input", the states after one step from zero; "linear", those of
            the recurrence as it is near zero.

    Source: Lim et al. 2024, arXiv:2309.12252 (DEER); by blocks of units as in Danieli et al. 2025,
    arXiv:2510.21450 (ParaRNN). Differs: the residual is checked, and the loop is there.
    """

    tolerance: float = 1e-5
    iterations: int = 8
    guess: str = "input"
    name: ClassVar[str] = "newton"

    def __post_init__(self) -> None:
        check_number("tolerance", self.tolerance, above=0)
        check_size("iterations", self.iterations)
        if self.guess not in GUESSES:
            raise ValueError(f"guess must be one of {GUESSES}, got {self.guess!r}.")

    def plan(self, problem: Problem) -> Coupling | Refusal:
        if not all(isinstance(size, int) for size in problem.steps.xs.shape):
            return Refusal("sizes are symbols.")
        if problem.trace is None or problem.trace.effects:
            return Refusal("its step has effects.")
        found = read_coupling(problem)
        return Refusal(found) if isinstance(found, str) else found

    def run(self, plan: Coupling, problem: Problem) -> tuple[Carry, Any]:
        return self.solve(plan, problem)[0]

    def solve(self, plan: Coupling, problem: Problem) -> tuple[tuple[Carry, Any], Found]:
        """The run, and how the iterations went."""
        # residuals are compared with 1e-5: products of fewer digits would never reach it
        with jax.default_matmul_precision("highest"):
            us = problem.project()
            goal = Goal(float(self.tolerance), self.iterations, self.guess)
            s, found = states(plan, goal, problem, us)
            ys = _outputs(problem, us, before(problem, s))
        last = jax.tree.map(lambda h: h[0 if problem.reverse else -1], s)
        return (last, problem.out(s, ys)), found

    def describe(self, plan: Coupling) -> tuple[str, ...]:
        if not plan.units:
            return ("it has no state that changes: nothing is solved for",)
        form = f"matrices of {plan.units} x {plan.units}: units act on each other"
        if plan.blocks is not None:
            count = len(plan.blocks)
            form = f"blocks of {count} x {count}: units keep to themselves"
        return (f"each of at most {self.iterations} iterations is one affine scan", form)


def _outputs(problem: Problem, us: Any, earlier: Carry) -> Any:
    def output(carry: Carry, u: Any, now: Steps) -> Any:
        return problem.advance(carry, u, now)[1]

    return jax.vmap(output)(earlier, us, problem.steps)
