"""The recorded products of a step: their weights, operations and numbers."""

from typing import Any

import jax.numpy as jnp

from jaxrnn.cell import Array
from jaxrnn.running.fused import products
from jaxrnn.running.fused.reading import Reading
from jaxrnn.running.problem import Problem
from jaxrnn.running.trace import Multiply, Trace


def weights(reading: Reading, problem: Problem) -> list[Array]:
    """The weights of the recorded products, from the equations of the step."""
    trace = problem.trace
    targets = [trace.products[k].w for k in numbers(reading)]
    known = trace.known(problem.consts, problem.params)
    # Outside the differentiable shell: from here on autodiff goes on, through a weight made of
    # several parameters.
    return trace.evaluate(known, targets, multiplying(problem))


def in_loops(reading: Reading, problem: Problem, weights: list[Array]) -> list[Array]:
    """The weights as the loops multiply by them: a kernel of blocks as one dense matrix.

    Its gradient is that of the blocks: it is one product of all rows, in which the zeros of a
    matrix of 4 heads would cost 4 times as much.
    """
    found = list(weights)
    for place, k in enumerate(numbers(reading)):
        if reading.dense[k]:
            # `op` is linear in v and takes any leading axes: the rows of the identity are a batch.
            product = problem.trace.products[k]
            identity = jnp.eye(product.v.aval.shape[-1], dtype=product.v.aval.dtype)
            found[place] = problem.dot(identity, weights[place], product.op)
    return found


def operation(reading: Reading, trace: Trace, k: int) -> Any:
    """The operation of a product in loops; None for the plain product, that of a dense matrix
    included."""
    return None if reading.dense[k] else trace.products[k].op


def multiplying(problem: Problem) -> Multiply:
    """Products as they are."""

    def multiply(k: int, v: Array, w: Array) -> Array:
        return problem.dot(v, w, problem.trace.products[k].op)

    return multiply


def turned(reading: Reading, problem: Problem, weights: list[Array]) -> list[Array | None]:
    ops = [operation(reading, problem.trace, k) for k in numbers(reading)]
    each = zip(ops, weights, strict=True)
    return [products.transposed(problem.dot, op, w) for op, w in each]


def flat(reading: Reading, k: int, product: Array) -> Array:
    """A recorded product with all its axes of features as one."""
    return products.flat(product, len(reading.products[k]) - reading.rows)


def numbers(reading: Reading) -> list[int]:
    """The numbers of the recorded products among all."""
    return [k for k, yes in enumerate(reading.recorded) if yes]


def outs(reading: Reading, trace: Trace) -> list[Any]:
    """The variables of the activations that are saved."""
    return [trace.equations[a.place].outvars[0] for a in reading.activations]


def at(reading: Reading, recorded: list[Any]) -> list[Any]:
    """What there is of each recorded product, as a list of all products."""
    each = iter(recorded)
    return [next(each) if yes else None for yes in reading.recorded]
