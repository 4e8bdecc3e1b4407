"""Keras 3 on JAX, by `stateless_call`."""

import os
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"

import jax.numpy as jnp
import keras

from experiments.bench.peers.program import Program, blocks, fused, layered
from experiments.bench.problem import Weights
from experiments.bench.shapes import Job

ZRN = (1, 0, 2)  # Keras' order of the GRU's gates


def keras_jax(job: Job) -> Program:
    if keras.config.backend() != "jax":
        raise RuntimeError(
            f"Keras was imported before with the backend {keras.config.backend()!r}; "
            "the bench needs jax."
        )
    layers = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "rnn": keras.layers.SimpleRNN}
    make = layers[job.cell]

    def layer(
        p: Any, xs: Any, state: tuple[Any, ...], lengths: Any, reverse: bool
    ) -> tuple[Any, tuple[Any, ...]]:
        options = dict(
            return_sequences=True, return_state=True, go_backwards=reverse, dtype=str(xs.dtype)
        )
        module = make(job.shape.H, **options)
        module.build(xs.shape)
        mask = None if lengths is None else jnp.arange(xs.shape[1]) < lengths[:, None]
        fixed = [v.value for v in module.non_trainable_variables]
        (ys, *final), _ = module.stateless_call(
            list(p), fixed, xs, initial_state=list(state), mask=mask
        )
        return jnp.flip(ys, axis=1) if reverse else ys, tuple(final)

    return layered(
        job, _gru if job.cell == "gru" else lambda w: tuple(map(fused, w)), layer, batch_first=True
    )


def _gru(w: Weights) -> tuple[Any, ...]:
    w_x, w_h, b = (fused(blocks(a, ZRN)) for a in w)
    return w_x, w_h, jnp.stack([b, jnp.zeros_like(b)])
