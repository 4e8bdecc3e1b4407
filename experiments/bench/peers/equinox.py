"""Equinox' cells under `lax.scan`, over the batch by `vmap`, as its documentation does.
It has no simple RNN.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax

from experiments.bench.peers.program import Program, fused, layered
from experiments.bench.problem import Weights
from experiments.bench.shapes import Job


def equinox(job: Job) -> Program:
    make: Any = {"lstm": eqx.nn.LSTMCell, "gru": eqx.nn.GRUCell}[job.cell]

    def layout(w: Weights) -> Any:
        cell = eqx.filter_eval_shape(make, w.w_x.shape[0], job.shape.H, key=jax.random.key(0))
        cell = eqx.tree_at(
            lambda c: (c.weight_ih, c.weight_hh, c.bias),
            cell,
            (fused(w.w_x).T, fused(w.w_h).T, fused(w.b)),
        )
        return (
            cell
            if job.cell == "lstm"
            else eqx.tree_at(lambda c: c.bias_n, cell, jnp.zeros_like(w.b[0]))
        )

    def layer(
        cell: Any, xs: Any, state: tuple[Any, ...], lengths: Any, reverse: bool
    ) -> tuple[Any, tuple[Any, ...]]:
        def body(state: tuple[Any, ...], inputs: tuple[Any, Any]) -> tuple[tuple[Any, ...], Any]:
            t, x = inputs
            after = jax.vmap(cell)(x, state if len(state) == 2 else state[0])
            after = after if isinstance(after, tuple) else (after,)
            if lengths is not None:
                valid = (t < lengths)[:, None]
                after = tuple(
                    jnp.where(valid, new, old) for new, old in zip(after, state, strict=True)
                )
            return after, after[0]

        state, ys = lax.scan(body, state, (jnp.arange(xs.shape[0]), xs), reverse=reverse)
        return ys, state

    return layered(job, layout, layer)
