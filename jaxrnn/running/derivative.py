"""The one differentiable shell around methods that have a backward pass of their own."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.cell import Carry, Noise, Params, Tree
from jaxrnn.running.forward_mode import refused
from jaxrnn.running.method import Method
from jaxrnn.running.problem import Problem


class Gradients(NamedTuple):
    """The cotangents of what a problem holds."""

    params: Params
    xs: Any
    noise: Noise
    carry: Carry
    held: Carry
    first: Carry
    operands: Any


class Differentiable(Method):
    """A method with a forward and a backward pass of its own: a subclass defines the three below.

    It has first derivatives in reverse mode, and others as far as `backward` can be
    differentiated; `jax.jvp` of a run itself is refused.
    """

    def operands(self, plan: Any, problem: Problem) -> Any:
        """What is made of the problem before the loop and differentiated as such: weights."""
        return ()

    def forward(self, plan: Any, problem: Problem, operands: Any, save: bool) -> tuple[Any, Any]:
        """`((carry, out), saved)`, where `saved` is what `backward` needs besides; None unless
        it is asked to save."""
        raise NotImplementedError

    def backward(
        self, plan: Any, problem: Problem, operands: Any, saved: Any, cotangents: Any
    ) -> Gradients:
        """The cotangents of everything, from those of `(carry, out)`."""
        raise NotImplementedError

    def run(self, plan: Any, problem: Problem) -> tuple[Carry, Any]:
        return _run(self, plan, *refused((problem, self.operands(plan, problem))))


# Method and plan are static: a plan holds no arrays. Everything that may be traced or
# differentiated is in the problem and the operands; nothing else may be closed over.
@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _run(method: Differentiable, plan: Any, problem: Problem, operands: Any) -> tuple[Carry, Any]:
    return method.forward(plan, problem, operands, save=False)[0]


def _forward(method: Differentiable, plan: Any, problem: Problem, operands: Any) -> Any:
    result, saved = method.forward(plan, problem, operands, save=True)
    return result, (problem, operands, saved)


def _backward(method: Differentiable, plan: Any, residuals: Any, cotangents: Any) -> Any:
    problem, operands, saved = residuals
    # A cotangent has the structure of the argument, its static fields too: hence `replace`.
    found = method.backward(plan, problem, operands, saved, cotangents)
    steps = jax.tree.map(nothing, problem.steps)._replace(xs=found.xs, noise=found.noise)
    d_problem = dataclasses.replace(
        problem,
        params=found.params,
        steps=steps,
        carry=found.carry,
        held=found.held,
        first=found.first,
        # An array that a step closes over is not trained.
        consts=jax.tree.map(nothing, problem.consts),
    )
    return d_problem, found.operands


def as_gradients(d_problem: Problem, operands: Any) -> Gradients:
    """The cotangents that `jax.vjp` gives of a problem."""
    return Gradients(
        params=d_problem.params,
        xs=d_problem.steps.xs,
        noise=d_problem.steps.noise,
        carry=d_problem.carry,
        held=d_problem.held,
        first=d_problem.first,
        operands=operands,
    )


_run.defvjp(_forward, _backward)


def nothing(a: Any) -> Any:
    """The cotangent that adds nothing; that of an integer has no numbers."""
    if jnp.issubdtype(a.dtype, jnp.inexact):
        return jnp.zeros_like(a)
    return np.zeros(a.shape, jax.dtypes.float0)


def add(a: Tree, b: Tree) -> Tree:
    """The sum of two cotangents."""
    return jax.tree.map(lambda a, b: a if a.dtype == jax.dtypes.float0 else a + b, a, b)
