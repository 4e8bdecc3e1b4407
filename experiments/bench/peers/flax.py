"""Flax's two interfaces."""

from typing import Any

import jax.numpy as jnp
from flax import linen, nnx

from experiments.bench.peers.program import Program, fused, layered
from experiments.bench.problem import Weights
from experiments.bench.shapes import Job


def flax_nnx(job: Job) -> Program:
    """`nnx.RNN`, time-major; split and merged by hand, since `nnx.jit` adds work to each call."""
    cell_type = {"lstm": nnx.OptimizedLSTMCell, "gru": nnx.GRUCell, "rnn": nnx.SimpleCell}[job.cell]

    def layout(w: Weights) -> Any:
        bias = "dense_h" if job.cell == "lstm" else "dense_i"
        params: dict[str, Any] = {
            "dense_i": {"kernel": fused(w.w_x)},
            "dense_h": {"kernel": fused(w.w_h)},
        }
        params[bias]["bias"] = fused(w.b)
        return params

    def layer(
        p: Any, xs: Any, state: tuple[Any, ...], lengths: Any, reverse: bool
    ) -> tuple[Any, tuple[Any, ...]]:
        cell = nnx.eval_shape(
            lambda: cell_type(xs.shape[-1], job.shape.H, dtype=xs.dtype, rngs=nnx.Rngs(0))
        )
        graph, variables = nnx.split(cell)
        nnx.replace_by_pure_dict(variables, p)
        module = nnx.RNN(
            nnx.merge(graph, variables), time_major=True, return_carry=True, rngs=False
        )
        options = dict(
            initial_carry=_to_carry(state), seq_lengths=lengths, reverse=reverse, keep_order=True
        )
        carry, ys = module(xs, **options)
        return ys, _to_state(carry)

    return layered(job, layout, layer)


def flax_linen(job: Job) -> Program:
    """`linen.RNN`, time-major."""
    cells = {"lstm": linen.OptimizedLSTMCell, "gru": linen.GRUCell, "rnn": linen.SimpleCell}
    cell_type = cells[job.cell]

    def layer(
        p: Any, xs: Any, state: tuple[Any, ...], lengths: Any, reverse: bool
    ) -> tuple[Any, tuple[Any, ...]]:
        cell = cell_type(job.shape.H, dtype=xs.dtype)
        module = linen.RNN(
            cell, time_major=True, return_carry=True, reverse=reverse, keep_order=True
        )
        carry, ys = module.apply(
            {"params": {"cell": p}}, xs, initial_carry=_to_carry(state), seq_lengths=lengths
        )
        return ys, _to_state(carry)

    return layered(
        job, {"lstm": _linen_lstm, "gru": _linen_gru, "rnn": _linen_rnn}[job.cell], layer
    )


def _linen_lstm(w: Weights) -> Any:
    inputs = {f"i{n}": {"kernel": w.w_x[:, j]} for j, n in enumerate("ifgo")}
    return inputs | {f"h{n}": {"kernel": w.w_h[:, j], "bias": w.b[j]} for j, n in enumerate("ifgo")}


def _linen_gru(w: Weights) -> Any:
    params = {f"i{n}": {"kernel": w.w_x[:, j], "bias": w.b[j]} for j, n in enumerate("rzn")}
    params |= {f"h{n}": {"kernel": w.w_h[:, j]} for j, n in enumerate("rzn")}
    params["hn"]["bias"] = jnp.zeros_like(w.b[0])
    return params


def _linen_rnn(w: Weights) -> Any:
    return {"i": {"kernel": fused(w.w_x), "bias": fused(w.b)}, "h": {"kernel": fused(w.w_h)}}


def _to_carry(state: tuple[Any, ...]) -> Any:
    """Flax's order is c, h."""
    return state[::-1] if len(state) == 2 else state[0]


def _to_state(carry: Any) -> tuple[Any, ...]:
    return tuple(carry)[::-1] if isinstance(carry, tuple | list) else (carry,)
