"""The backward pass of the fused method, chunk by chunk."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.cell import Array, Carry, Params
from jaxrnn.running.chunks import scan_chunks
from jaxrnn.running.derivative import Gradients, add, nothing
from jaxrnn.running.fused.adjoint import Adjoint, Chunk, Constants, acting_params, each_step, put
from jaxrnn.running.fused.forward import Kept, recorded_step
from jaxrnn.running.fused.layout import Layout
from jaxrnn.running.fused.reading import Reading
from jaxrnn.running.fused.recorded import in_loops, turned
from jaxrnn.running.fused.saved import Saved
from jaxrnn.running.fused.shown import Outputs
from jaxrnn.running.problem import Problem, Steps

Loop = Callable[..., Any]


class Sums(NamedTuple):
    """The gradients that add up over the chunks."""

    params: Params  # by way of the projected input
    weights: list[Array]
    acting: list[Array] | None  # where they do not add up in the loop


def backward(
    reading: Reading,
    layout: Layout,
    problem: Problem,
    weights: list[Array],
    kept: Kept,
    cotangents: tuple[Carry, Any],
    loop: Loop | None = None,
) -> Gradients:
    """The gradients of everything, chunk by chunk, the last first.

    `loop(adjoint, state, constants, chunk)` may take the place of `Adjoint.run`.
    """
    d_carry, d_out = cotangents
    acting = acting_params(reading, problem)
    constants = Constants(
        params=acting if layout.sum_inside else None,
        held=problem.held,
        first=None if problem.steps.reset is None else problem.first,
    )
    sums = Sums(problem.params, weights, None if layout.sum_inside or not acting else acting)
    matrices = in_loops(reading, problem, weights)
    adjoint = Adjoint(reading, problem, weights, matrices, turned(reading, problem, matrices))
    outputs = None if kept.ys is None else Outputs(kept.ys, problem.carry)
    body = functools.partial(_chunk, loop or Adjoint.run, adjoint, constants, outputs)
    start = (d_carry, *jax.tree.map(nothing, (constants, sums)))
    whole = Chunk(jnp.arange(problem.T, dtype=jnp.int32), problem.steps, kept, d_out)
    state, (d_xs, d_noise) = scan_chunks(body, start, whole, layout.chunk, not problem.reverse)
    d_carry, d_constants, sums = state
    d_acting = (d_constants.params if layout.sum_inside else sums.acting) or []
    first = jax.tree.map(nothing, problem.first) if d_constants.first is None else d_constants.first
    return Gradients(
        params=add(sums.params, put(reading, jax.tree.map(nothing, problem.params), d_acting)),
        xs=d_xs,
        noise=d_noise,
        carry=d_carry,
        held=d_constants.held,
        first=first,
        operands=sums.weights,
    )


def _chunk(
    run: Loop,
    adjoint: Adjoint,
    constants: Constants,
    outputs: Outputs | None,
    state: tuple[Carry, Constants, Sums],
    chunk: Chunk,
) -> tuple[Any, Any]:
    """The cotangents before a chunk, and those of its inputs and noise."""
    problem = adjoint.problem
    d_carry, d_constants, sums = state
    chunk = chunk._replace(kept=_with_carry(problem, outputs, chunk))
    if chunk.kept.step is None:
        chunk = chunk._replace(kept=_again(adjoint, chunk))
    (d_carry, d_constants), found = run(adjoint, (d_carry, d_constants), constants, chunk)
    d_params, d_xs, d_noise = adjoint.project(chunk, found)
    d_sums = Sums(
        params=d_params,
        weights=adjoint.weight_gradients(chunk, found),
        acting=None if sums.acting is None else adjoint.acting_gradients(chunk, found),
    )
    return (d_carry, d_constants, add(sums, d_sums)), (d_xs, d_noise)


def _with_carry(problem: Problem, outputs: Outputs | None, chunk: Chunk) -> Kept:
    """What was kept of a chunk, with the whole carry before each step."""
    kept = chunk.kept
    if outputs is None or kept.ys is None:
        carry = jax.tree.unflatten(jax.tree.structure(problem.carry), kept.carry)
    else:
        carry = outputs.carry_before(kept.carry, kept.ys, chunk.times, problem.reverse)
    step = kept.step
    if step is not None:
        found = tuple(kept.ys if a is None else a for a in step.activations)
        step = step._replace(activations=found)
    return Kept(carry, step)


def _again(adjoint: Adjoint, chunk: Chunk) -> Kept:
    """What was not kept of a chunk, from its carries."""
    problem = adjoint.problem

    def one(now: Steps, u: Any, carry: Carry) -> Saved | None:
        return recorded_step(adjoint.reading, problem, adjoint.matrices, True, carry, u, now)[2]

    us = problem.project(chunk.steps)
    return chunk.kept._replace(step=each_step(one, chunk.steps, us, chunk.kept.carry))
