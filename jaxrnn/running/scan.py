"""`method="scan"`: plain `lax.scan` and autodiff, what all other methods are held against."""

import dataclasses
from typing import Any, ClassVar

import jax
from jax import lax

from jaxrnn.cell import Carry
from jaxrnn.running.method import Method
from jaxrnn.running.problem import Problem, Steps


@dataclasses.dataclass(frozen=True)
class Scan(Method):
    """Plain `lax.scan`, differentiated by JAX, in any mode.

    `remat="carry"` saves the carries only; each step is computed again in the backward pass.
    """

    name: ClassVar[str] = "scan"
    memory: ClassVar[tuple[str, ...]] = ("none", "carry", "sqrt")

    def run(self, plan: None, problem: Problem) -> tuple[Carry, Any]:
        us = problem.project()

        def body(carry: Carry, inputs: tuple[Any, Steps]) -> tuple[Carry, Any]:
            u, now = inputs
            after, y = problem.advance(carry, u, now)
            return after, problem.out(after, y)

        step = body if problem.remat == "none" else jax.checkpoint(body, prevent_cse=False)
        return lax.scan(step, problem.carry, (us, problem.steps), reverse=problem.reverse)

    def describe(self, plan: None) -> tuple[str, ...]:
        return ()
