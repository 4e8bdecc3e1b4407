"""The forward loop of the fused method."""

import functools
from typing import Any, NamedTuple

from jax import lax

from jaxrnn.cell import Array, Carry
from jaxrnn.running.fused import saved
from jaxrnn.running.fused.columns import step_in_columns
from jaxrnn.running.fused.layout import Layout
from jaxrnn.running.fused.reading import Reading
from jaxrnn.running.fused.recorded import at, in_loops, operation, outs
from jaxrnn.running.fused.saved import Saved
from jaxrnn.running.fused.shown import activations_shown, is_shown, without, without_activations
from jaxrnn.running.problem import Problem, Steps


class Kept(NamedTuple):
    """What the forward loop keeps of each step for the backward pass."""

    carry: Any  # before the step; on its way to a chunk a list, without what the outputs show
    step: Any  # a `Saved`; None where it is computed again, chunk by chunk
    ys: Array | None = None  # the outputs, where they show a leaf of the carry


def forward(
    reading: Reading, save: bool, layout: Layout, problem: Problem, weights: list[Array]
) -> tuple[tuple[Carry, Any], Kept | None]:
    """The result, and what the backward pass needs of each step."""
    us = None if layout.project_inside else problem.project()
    shown = is_shown(problem)
    twice = activations_shown(problem, reading)
    keep = save and problem.remat == "none"
    weights = in_loops(reading, problem, weights)
    if layout.columns:
        one = step_in_columns(reading, problem, weights, keep)
    else:
        one = functools.partial(recorded_step, reading, problem, weights, keep)

    def body(carry: Carry, inputs: tuple[Any, Steps]) -> tuple[Carry, Any]:
        after, y, step = one(carry, *inputs)
        kept = Kept(without(carry, shown), without_activations(step, twice)) if save else None
        return after, (problem.out(after, y), kept)

    steps = (us, problem.steps)
    carry, (out, kept) = lax.scan(body, problem.carry, steps, reverse=problem.reverse)
    if save and any(shown):
        kept = kept._replace(ys=out[0] if problem.collect else out)
    return (carry, out), kept


def recorded_step(
    reading: Reading,
    problem: Problem,
    weights: list[Array],
    keep: bool,
    carry: Carry,
    u: Any,
    now: Steps,
) -> tuple[Carry, Any, Saved | None]:
    """One step, `(carry, y, saved)`; where u is None it is projected here."""
    trace = problem.trace
    u = problem.project(now) if u is None else u
    found: list[Array] = []
    kept: list[Array] = []

    def multiply(k: int, v: Array, w: Array) -> Array:
        product = problem.dot(v, w, operation(reading, trace, k))
        if reading.recorded[k]:
            found.append(product)
        return product

    def step(start: Carry) -> tuple[Carry, Any]:
        known = trace.known(problem.consts, problem.params, start, u)
        after, y, more = trace.step(
            known, multiply, at(reading, weights), also=outs(reading, trace), effects=True
        )
        kept.extend(more)
        return after, y

    after, y = problem.around(step, carry, now)
    return after, y, saved.save(reading, found, u, reading.rows, kept) if keep else None
