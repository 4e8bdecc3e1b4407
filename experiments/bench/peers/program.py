"""What a peer that runs on JAX gives: its parameters from our weights,
and a pure function to be compiled.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from experiments.bench.problem import Outputs, Weights
from experiments.bench.shapes import Job

Layer = Callable[[Any, Any, tuple[Any, ...], Any, bool], tuple[Any, tuple[Any, ...]]]


class CannotError(Exception):
    """A peer has no such thing; the message says what."""


class Program(NamedTuple):
    """A pure function and the layout of its parameters.

    `layout` is linear in the weights but for constants, so that its transpose brings gradients back
    to ours. `run(params, xs, state, lengths)` takes and returns the batch first where
    `batch_first`; states are [layers * directions, B, H] always.
    """

    layout: Callable[[tuple[Weights, ...]], Any]
    run: Callable[[Any, Any, tuple[Any, ...], Any], Outputs]
    batch_first: bool = False


def layered(
    job: Job, layout: Callable[[Weights], Any], layer: Layer, batch_first: bool = False
) -> Program:
    """The program of a library that has layers of one direction:
    stacked one after another, directions concatenated.

    Args:
        job: the job.
        layout: our weights of one layer and direction to the library's.
        layer: `(params, xs, state, lengths, reverse) -> (ys, state)`, with the state h, c of one
            layer, [B, H] each. Outputs are aligned with the inputs, whichever way time runs.
        batch_first: whether `xs` and `ys` are [B, T, ...].
    """
    D = job.shape.directions

    def run(params: Any, xs: Any, state: tuple[Any, ...], lengths: Any) -> Outputs:
        finals = []
        for k in range(job.shape.layers):
            done = [
                layer(params[i], xs, tuple(s[i] for s in state), lengths, i % D == 1)
                for i in range(k * D, k * D + D)
            ]
            finals += [final for _, final in done]
            xs = done[0][0] if D == 1 else jnp.concatenate([ys for ys, _ in done], axis=-1)
        return Outputs(xs, tuple(jnp.stack(arrays) for arrays in zip(*finals, strict=True)))

    return Program(lambda weights: tuple(map(layout, weights)), run, batch_first)


def fused(w: Any) -> Any:
    """A kernel or bias with its gates side by side: [..., G, H] -> [..., G*H]."""
    return w.reshape(*w.shape[:-2], -1)


def blocks(w: Any, order: tuple[int, ...]) -> Any:
    """The gates in another order: [..., G, H]."""
    return w[..., jnp.array(order), :]
