"""A gated perceptron: a layer without a state, for what stands between recurrent ones."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import silu

from jaxrnn import initializers
from jaxrnn.cell import Array, Cell, Dot, DType, dot, gates, linear
from jaxrnn.cells.options import check_draws
from jaxrnn.checks import check_size
from jaxrnn.initializers import Initializer


class GatedMLPParams(NamedTuple):
    w_x: Array  # [I, 2, H], gate and value
    w_y: Array  # [H, I]


class NoCarry(NamedTuple):
    """A cell without a state."""


@dataclasses.dataclass(frozen=True)
class GatedMLPCell(Cell):
    """A gated perceptron at every step, y = W_y (silu(W_g x) * W_v x), with as many outputs as
    inputs.

    Args:
        hidden_size: H.
        input_init: initialiser of all kernels.

    Source: Shazeer 2020, arXiv:2002.05202, "SwiGLU".

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.cells.GatedMLPCell(hidden_size=8)
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> carry, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((5, 2, 3)))
        >>> carry, ys.shape
        (NoCarry(), (5, 2, 3))
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
    input_init: Initializer = "lecun_normal"
    elementwise = False

    def __post_init__(self) -> None:
        check_draws(self, "input_init")

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> GatedMLPParams:
        check_size("input_size", input_size)
        key_x, key_y = jax.random.split(key)
        H = self.hidden_size
        return GatedMLPParams(
            w_x=initializers.kernel(self.input_init, key_x, input_size, 2, H, dtype),
            w_y=initializers.kernel(self.input_init, key_y, H, 1, input_size, dtype)[:, 0],
        )

    def init_carry(self, params: GatedMLPParams, like: Array) -> NoCarry:
        return NoCarry()

    def project(self, params: GatedMLPParams, xs: Array, noise: Any = None) -> Array:
        gate, value = gates(linear(xs, params.w_x, None))
        return dot(silu(gate) * value, params.w_y)

    def step(
        self, params: GatedMLPParams, carry: NoCarry, u: Array, dot: Dot = dot
    ) -> tuple[NoCarry, Array]:
        return carry, u
