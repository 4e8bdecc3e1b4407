"""jaxrnn itself, and the loop that one would write by hand."""

import functools
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.nn import sigmoid

from experiments.bench import problem
from experiments.bench.peers.program import Program, fused, layered
from experiments.bench.problem import Weights
from experiments.bench.shapes import Job


def jaxrnn(job: Job, method: str | None = None, remat: str = "none") -> Program:
    return Program(
        functools.partial(problem.our_params, job),
        functools.partial(problem.our_unroll, job, method, remat),
    )


def jaxrnn_scan(job: Job) -> Program:
    return jaxrnn(job, "scan")


def jaxrnn_carry(job: Job) -> Program:
    return jaxrnn(job, "fused", "carry")


def jaxrnn_sqrt(job: Job) -> Program:
    return jaxrnn(job, "fused", "sqrt")


def jaxrnn_cudnn(job: Job) -> Program:
    return jaxrnn(job, "cudnn")


def jaxrnn_persistent(job: Job) -> Program:
    return jaxrnn(job, "persistent")


def hand_scan(job: Job) -> Program:
    """Both products inside the loop, kernels fused over the gates,
    and what autodiff makes of it.
    """
    step = {"lstm": _lstm, "gru": _gru, "rnn": _rnn}[job.cell]

    def layer(
        p: Weights, xs: Any, state: tuple[Any, ...], lengths: Any, reverse: bool
    ) -> tuple[Any, tuple[Any, ...]]:
        def body(state: tuple[Any, ...], inputs: tuple[Any, Any]) -> tuple[tuple[Any, ...], Any]:
            t, x = inputs
            after = step(p, x, state)
            if lengths is not None:
                valid = (t < lengths)[:, None]
                after = tuple(
                    jnp.where(valid, new, old) for new, old in zip(after, state, strict=True)
                )
            return after, after[0]

        state, ys = lax.scan(body, state, (jnp.arange(xs.shape[0]), xs), reverse=reverse)
        return ys, state

    return layered(job, lambda w: Weights(*map(fused, w)), layer)


def _lstm(p: Weights, x: Any, state: tuple[Any, ...]) -> tuple[Any, ...]:
    h, c = state
    i, f, g, o = jnp.split(x @ p.w_x + h @ p.w_h + p.b, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * jnp.tanh(g)
    return sigmoid(o) * jnp.tanh(c), c


def _gru(p: Weights, x: Any, state: tuple[Any, ...]) -> tuple[Any, ...]:
    (h,) = state
    u_r, u_z, u_n = jnp.split(x @ p.w_x + p.b, 3, axis=-1)
    a_r, a_z, a_n = jnp.split(h @ p.w_h, 3, axis=-1)
    r = sigmoid(u_r + a_r)
    z = sigmoid(u_z + a_z)
    n = jnp.tanh(u_n + r * a_n)
    return ((1 - z) * n + z * h,)


def _rnn(p: Weights, x: Any, state: tuple[Any, ...]) -> tuple[Any, ...]:
    return (jnp.tanh(x @ p.w_x + state[0] @ p.w_h + p.b),)
