"""One network along a stream, by gradients forward in time or by truncated backpropagation."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

import jaxrnn
from experiments.online.config import PARTS, OnlineConfig, window
from experiments.online.streams import Stream
from jaxrnn import online

Array = jax.Array
FORWARD = {
    "rtrl": online.RTRL,
    "snap1": online.SnAp1,
    "eprop": online.EProp,
    "uoro": online.UORO,
}


class Head(NamedTuple):
    kernel: Array  # [H]
    bias: Array


def losses(
    cell: jaxrnn.Cell, config: OnlineConfig, learner: str, stream: Stream, key: Array, rate: Any
) -> Array:
    """The mean square error in each part of the stream: [PARTS]."""
    k_cell, k_head = jax.random.split(key)
    params = cell.init(k_cell, input_size=stream.xs.shape[-1])
    size = jax.eval_shape(lambda: jaxrnn.unroll(cell, params, stream.xs[:1])[1]).shape[-1]
    head = Head(jax.random.normal(k_head, (size,)) / jnp.sqrt(size), jnp.zeros(()))
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    steps = window(learner)
    if steps is None:
        errors = _forward(FORWARD[learner](cell), params, head, stream, optimizer, config.every)
    else:
        errors = _truncated(cell, params, head, stream, optimizer, steps)
    asked = stream.weights.sum(1)
    parts = [a.reshape(PARTS, -1).sum(1) for a in (errors, asked)]
    return parts[0] / parts[1]


def error(head: Head, y: Array, target: tuple[Array, Array]) -> Array:
    """The sum of the square errors of one step."""
    values, weights = target
    return jnp.sum(weights * jnp.square(y @ head.kernel + head.bias - values))


def _forward(
    learner: online.Learner, params: Any, head: Head, stream: Stream, optimizer: Any, every: int
) -> Array:
    targets = (stream.targets, stream.weights)
    return online.learn(
        learner,
        params,
        stream.xs,
        targets,
        error,
        head=head,
        optimizer=optimizer,
        every=every,
        reset=stream.reset,
    ).losses


def _truncated(
    cell: jaxrnn.Cell, params: Any, head: Head, stream: Stream, optimizer: Any, steps: int
) -> Array:
    """Backpropagation through windows, over whose edges the carry goes on and the gradient not."""
    count, batch = stream.targets.shape
    windows = jax.tree.map(
        lambda a: a.reshape(count // steps, steps, *a.shape[1:]), stream._replace(baseline=0)[:4]
    )

    def body(now: Any, inputs: Any) -> Any:
        whole, progress, carry = now
        xs, targets, weights, reset = inputs

        def loss(whole: Any) -> Any:
            params, head = whole
            after, ys = jaxrnn.unroll(cell, params, xs, carry, reset=reset)
            errors = jax.vmap(error, (None, 0, 0))(head, ys, (targets, weights))
            return errors.sum(), (after, errors)

        gradients, (after, errors) = jax.grad(loss, has_aux=True)(whole)
        changes, progress = optimizer.update(gradients, progress, whole)
        return (optax.apply_updates(whole, changes), progress, after), errors

    whole = (params, head)
    first = jaxrnn.initial_carry(cell, params, (batch,))
    _, errors = lax.scan(body, (whole, optimizer.init(whole), first), windows)
    return errors.reshape(-1)
