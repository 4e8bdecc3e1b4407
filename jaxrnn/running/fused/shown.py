"""What of the carry the outputs show already, as h, and which activation they are, as in an RNN: it
is not saved a second time.

Without this the temporary memory of a forward and backward pass at (512,32,128,128) was 1.1 (LSTM,
GRU) and 1.3 times (RNN) as large, and where it passed 32 MB, from which on it is mapped anew at
each call, 1.2 times as slow.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxrnn.cell import Array, Carry
from jaxrnn.running.fused.reading import Reading
from jaxrnn.running.fused.recorded import outs
from jaxrnn.running.fused.saved import Saved
from jaxrnn.running.problem import Problem


def is_shown(problem: Problem) -> tuple[bool, ...]:
    """For each leaf of the carry that a step changes, whether it is the output at every step."""
    trace = problem.trace
    graph = trace.graph
    leaves = zip(trace.carry, graph.carry, graph.after, strict=True)
    # Those of `Problem.carry`, in its order: `run._hold` leaves the same out.
    moving = [(v, after) for v, before, after in leaves if before != after]
    # A constant has no number, so that two of them seem to be one.
    return tuple(
        _is_output(problem, after) and v.aval.dtype == problem.steps.xs.dtype for v, after in moving
    )


def activations_shown(problem: Problem, reading: Reading) -> tuple[bool, ...]:
    """For each activation that is saved, whether it is the output at every step.

    It is taken from the outputs of a leaf of the carry: where they show none they are not kept.
    """
    graph = problem.trace.graph
    some = any(is_shown(problem))
    return tuple(some and _is_output(problem, graph.read(v)) for v in outs(reading, problem.trace))


def _is_output(problem: Problem, number: int | None) -> bool:
    graph = problem.trace.graph
    alone = len(graph.y) == 1 and problem.steps.mask is None  # a mask puts out zeros
    return alone and number is not None and number == graph.y[0]


def without(carry: Carry, shown: tuple[bool, ...]) -> list[Array | None]:
    """The leaves of a carry, None in place of what is shown."""
    leaves = jax.tree.leaves(carry)
    return [None if yes else leaf for leaf, yes in zip(leaves, shown, strict=True)]


def without_activations(step: Saved | None, shown: tuple[bool, ...]) -> Saved | None:
    """What was saved of a step, None in place of the activations that are shown."""
    if step is None:
        return None
    pairs = zip(step.activations, shown, strict=True)
    return step._replace(activations=tuple(None if yes else a for a, yes in pairs))


class Outputs(NamedTuple):
    """The outputs of a run of which a leaf of the carry is shown."""

    ys: Array  # [T, *batch, H]
    start: Carry  # before the first step

    def carry_before(
        self, left: list[Array | None], ys: Array, times: Array, reverse: bool
    ) -> Carry:
        """The carry before each step of a chunk.

        Args:
            left: from `without`, [n, *batch, ...].
            ys: [n, *batch, H], the outputs of the chunk.
            times: [n], its steps.
            reverse: whether time runs from T - 1 to 0.
        """
        start, tree = jax.tree.flatten(self.start)
        pairs = zip(left, start, strict=True)
        leaves = [
            self._before(first, ys, times, reverse) if leaf is None else leaf
            for leaf, first in pairs
        ]
        return jax.tree.unflatten(tree, leaves)

    def _before(self, start: Array, ys: Array, times: Array, reverse: bool) -> Array:
        T = len(self.ys)
        if len(ys) < T:
            t = times[-1] if reverse else times[0]  # the first of the chunk in loop order
            earlier = lax.dynamic_index_in_dim(self.ys, t + 1 if reverse else t - 1, keepdims=False)
            start = jnp.where(t == (T - 1 if reverse else 0), start, earlier)
        pieces = (ys[1:], start[None]) if reverse else (start[None], ys[:-1])
        return jnp.concatenate(pieces)
