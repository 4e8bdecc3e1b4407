"""Haiku, by `hk.dynamic_unroll`. Its GRU resets before the product
and its VanillaRNN is a relu: other functions than ours.
"""

from typing import Any

import haiku as hk
import jax.numpy as jnp

from experiments.bench.peers.program import CannotError, Program, blocks, fused, layered
from experiments.bench.problem import Weights
from experiments.bench.shapes import Job


def haiku(job: Job) -> Program:
    if job.shape.ragged:
        raise CannotError("dynamic_unroll knows no lengths")

    def layer(
        p: Any, xs: Any, state: tuple[Any, ...], lengths: Any, reverse: bool
    ) -> tuple[Any, tuple[Any, ...]]:
        def unroll(xs: Any, state: Any) -> Any:
            return hk.dynamic_unroll(hk.LSTM(job.shape.H), xs, state, reverse=reverse)

        return hk.without_apply_rng(hk.transform(unroll)).apply(p, xs, hk.LSTMState(*state))

    return layered(job, _lstm, layer)


def _lstm(w: Weights) -> Any:
    """Gates i g f o in one kernel for both products, and 1 added to the forget gate at run time."""
    order = (0, 2, 1, 3)
    kernel = jnp.concatenate([fused(blocks(w.w_x, order)), fused(blocks(w.w_h, order))])
    b = blocks(w.b, order) - jnp.array([0, 0, 1, 0], w.b.dtype)[:, None]
    return {"lstm/linear": {"w": kernel, "b": fused(b)}}
