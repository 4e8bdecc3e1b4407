"""Streams that do not end, each with what should come out at every step."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array


class Stream(NamedTuple):
    """A stretch of some streams side by side."""

    xs: Array  # [T, B, I]
    targets: Array  # [T, B]
    weights: Array  # [T, B], 0 where nothing is asked
    reset: Array  # [T, B] booleans: where a sequence begins
    baseline: float  # the mean square error of the best constant


def copying(key: Array, steps: int, batch: int, lag: int) -> Stream:
    """A random sign at every step, to be given back `lag` steps later."""
    signs = jax.random.rademacher(key, (steps, batch), jnp.float32)
    return _endless(signs, jnp.roll(signs, lag, axis=0), lag, 1.0)


def adding(key: Array, steps: int, batch: int, lag: int) -> Stream:
    """The adding problem of `lag` steps (Hochreiter & Schmidhuber 1997), one after another: the sum
    of two marked numbers, one of each half, asked for at the end."""
    k_values, k_first, k_second = jax.random.split(key, 3)
    count = -(-steps // lag)
    half = lag // 2
    values = jax.random.uniform(k_values, (count, lag, batch))
    first = jax.random.randint(k_first, (count, 1, batch), 0, half)
    second = jax.random.randint(k_second, (count, 1, batch), half, lag)
    step = jnp.arange(lag)[:, None]
    marked = (step == first) | (step == second)
    total = jnp.sum(values * marked, axis=1, keepdims=True)
    last = jnp.broadcast_to(step == lag - 1, values.shape)
    began = jnp.broadcast_to(step == 0, values.shape)

    def flat(a: Array) -> Array:
        return a.reshape(count * lag, *a.shape[2:])[:steps]

    xs = jnp.stack([flat(values), flat(marked).astype(jnp.float32)], axis=-1)
    targets = flat(jnp.broadcast_to(total, values.shape))
    return Stream(xs, targets, flat(last).astype(jnp.float32), flat(began), 1 / 6)


def drifting(key: Array, steps: int, batch: int, lag: int) -> Stream:
    """What came `lag` steps before, and half as many, mixed in shares that turn slowly: once round
    in 10,000 steps."""
    xs = jax.random.normal(key, (steps, batch))
    angle = 2 * jnp.pi * jnp.arange(steps)[:, None] / 10_000
    long = jnp.roll(xs, lag, axis=0)
    short = jnp.roll(xs, lag // 2, axis=0)
    return _endless(xs, jnp.cos(angle) * long + jnp.sin(angle) * short, lag, 1.0)


def _endless(xs: Array, targets: Array, lag: int, baseline: float) -> Stream:
    """A stream without an end, whose first steps have no past to be asked for."""
    asked = jnp.broadcast_to(jnp.arange(len(xs))[:, None] >= lag, xs.shape)
    never = jnp.zeros(xs.shape, jnp.bool_)
    return Stream(xs[..., None], targets, asked.astype(jnp.float32), never, baseline)


STREAMS: dict[str, Callable[[Array, int, int, int], Stream]] = {
    "copying": copying,
    "adding": adding,
    "drifting": drifting,
}
