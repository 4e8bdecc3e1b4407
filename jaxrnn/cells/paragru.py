"""The GRU whose units see themselves alone."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import sigmoid
from jax.numpy import tanh

from jaxrnn import initializers
from jaxrnn.cell import Array, Cell, Dot, DType, carry_dtype, dot, gates, linear, zeros
from jaxrnn.cells.gru import GRUCarry
from jaxrnn.cells.options import check_draws
from jaxrnn.checks import check_size
from jaxrnn.initializers import Initializer


class ParaGRUParams(NamedTuple):
    w_x: Array  # [I, 3, H], gates z r c
    a_z: Array  # [H]
    a_r: Array  # [H]
    a_c: Array  # [H]
    b: Array | None  # [3 * H]


@dataclasses.dataclass(frozen=True)
class ParaGRUCell(Cell):
    """A GRU with one recurrent weight a unit and gate, made to run in parallel over time; y = h'.

        z = sigmoid(W_z x + a_z * h + b_z)
        r = sigmoid(W_r x + a_r * h + b_r)
        c = tanh(W_c x + a_c * (r * h) + b_c)
        h' = (1 - z) * h + z * c

    Args:
        hidden_size: H.
        input_init: initialiser of `w_x`, a name or one of `jaxrnn.initializers`.
        bias: False leaves the bias out. Its first gate is drawn as the authors do, from 0 to -1
            over the units.

    Source: Danieli et al. 2025, arXiv:2510.21450. Differs: `w_x` is dense, in blocks there.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.cells.ParaGRUCell(hidden_size=4)
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> carry, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((5, 2, 3)))
        >>> ys.shape
        (5, 2, 4)
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
    input_init: Initializer = "glorot_uniform"
    bias: bool = True

    def __post_init__(self) -> None:
        check_draws(self, "input_init")

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> ParaGRUParams:
        check_size("input_size", input_size)
        key_x, *keys = jax.random.split(key, 4)
        H = self.hidden_size
        a_z, a_r, a_c = (diagonal(k, H, dtype) for k in keys)
        return ParaGRUParams(
            w_x=initializers.kernel(self.input_init, key_x, input_size, 3, H, dtype),
            a_z=a_z,
            a_r=a_r,
            a_c=a_c,
            b=spread_bias(H, dtype) if self.bias else None,
        )

    def init_carry(self, params: ParaGRUParams, like: Array) -> GRUCarry:
        return GRUCarry(h=zeros(like, self.hidden_size))

    def project(self, params: ParaGRUParams, xs: Array, noise: Any = None) -> Array:
        return linear(xs, params.w_x, params.b)  # [..., 3, H]

    def step(
        self, params: ParaGRUParams, carry: GRUCarry, u: Array, dot: Dot = dot
    ) -> tuple[GRUCarry, Array]:
        u_z, u_r, u_c = gates(u)
        z = sigmoid(u_z + params.a_z * carry.h)
        r = sigmoid(u_r + params.a_r * carry.h)
        c = tanh(u_c + params.a_c * (r * carry.h))
        h = (1 - z) * carry.h + z * c
        return GRUCarry(h=h), h


def diagonal(key: Array, size: int, dtype: DType) -> Array:
    """The authors' recurrent weights, N(0, 4 / (5 H))."""
    drawn = 2 / math.sqrt(5 * size) * jax.random.normal(key, (size,), carry_dtype(dtype))
    return drawn.astype(dtype)


def spread_bias(size: int, dtype: DType) -> Array:
    """[3 * H]: from 0 to -1 over the units of the first gate, 0 elsewhere."""
    first = -jnp.linspace(0, 1, size, dtype=carry_dtype(dtype))
    return jnp.concatenate([first, jnp.zeros(2 * size, first.dtype)]).astype(dtype)
