"""Cells that strain the contract of `jaxrnn.Cell`, written as a user would write them:
with the public names only.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jaxrnn
from jaxrnn.cells import RNNCarry


def draw(key, fan_in, *shape, dtype):
    """N(0, 1 / fan_in), drawn in float32 at least."""
    return (jax.random.normal(key, shape, jaxrnn.carry_dtype(dtype)) / math.sqrt(fan_in)).astype(
        dtype
    )


class DiagonalParams(NamedTuple):
    w_x: Any  # [I, H]
    w_h: Any  # [H]


@dataclasses.dataclass(frozen=True)
class LinearDiagonal(jaxrnn.Cell):
    """h' = w_h * h + W_x x."""

    hidden_size: int

    def init(self, key, input_size, dtype=jnp.float32):
        k_x, k_h = jax.random.split(key)
        w_x = draw(k_x, input_size, input_size, self.hidden_size, dtype=dtype)
        return DiagonalParams(w_x=w_x, w_h=jnp.tanh(draw(k_h, 1, self.hidden_size, dtype=dtype)))

    def init_carry(self, params, like):
        return RNNCarry(h=jaxrnn.zeros(like, self.hidden_size))

    def project(self, params, xs, noise=None):
        return jaxrnn.dot(xs, params.w_x)

    def step(self, params, carry, u, dot=jaxrnn.dot):
        h = params.w_h * carry.h + u
        return RNNCarry(h=h), h
