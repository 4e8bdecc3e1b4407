"""`jax.experimental.rnn.lstm`: cuDNN from JAX, on a GPU, in float32."""

from typing import Any

import jax.numpy as jnp
from jax.experimental import rnn

from experiments.bench.peers.program import Program, fused
from experiments.bench.problem import Outputs, Weights
from experiments.bench.shapes import Job


def cudnn(job: Job) -> Program:
    """One flat vector holds all kernels, then all biases; the second bias of each layer is zero."""
    H = job.shape.H
    layers = job.shape.layers
    bidirectional = job.shape.bidirectional

    def layout(weights: tuple[Weights, ...]) -> Any:
        kernels = [fused(kernel).T.ravel() for w in weights for kernel in (w.w_x, w.w_h)]
        biases = [b for w in weights for b in (fused(w.b), jnp.zeros_like(fused(w.b)))]
        return jnp.concatenate(kernels + biases)

    def run(params: Any, xs: Any, state: tuple[Any, ...], lengths: Any) -> Outputs:
        full = jnp.full(xs.shape[0], xs.shape[1], jnp.int32)
        lengths = full if lengths is None else lengths
        ys, *final = rnn.lstm(
            xs, *state, params, lengths, job.shape.I, H, layers, 0.0, bidirectional
        )
        return Outputs(ys, tuple(final))

    return Program(layout, run, batch_first=True)
