"""The light GRU: no reset gate, and a ReLU."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import initializers
from jaxrnn.cell import Array, Cell, Dot, DType, dot, gates, linear, zeros
from jaxrnn.cells.activations import Activation, functions
from jaxrnn.cells.gru import GRUCarry
from jaxrnn.cells.options import check_options
from jaxrnn.initializers import Chrono, Initializer


class LiGRUParams(NamedTuple):
    w_x: Array  # [I, 2, H], gates z n
    w_h: Array  # [H, 2, H]
    b: Array | None  # [2 * H]


@dataclasses.dataclass(frozen=True)
class LiGRUCell(Cell):
    """The light GRU, made for speech: no reset gate, and a candidate without upper bound; y = h'.

        z = sigmoid(W_xz x + W_hz h + b_z)
        n = relu(W_xn x + W_hn h + b_n)
        h' = (1 - z) * n + z * h

    Args:
        hidden_size: H.
        update_bias, recurrent_init, input_init, bias, init_scheme: as in `GRUCell`.
        activation, recurrent_activation: what stands for relu and for sigmoid, as in `GRUCell`.

    Source: Ravanelli et al. 2018, arXiv:1803.10225. Differs: the paper normalises W_x x over the
    batch, which keeps the ReLU from growing without bound; that is left out, since a cell never
    mixes sequences (`LayerNormInput` normalises x instead).

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.wrappers.LayerNormInput(jaxrnn.cells.LiGRUCell(hidden_size=4))
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> carry, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((5, 2, 3)))
        >>> ys.shape
        (5, 2, 4)
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
    update_bias: float | Chrono = 0.0
    recurrent_init: Initializer = "orthogonal"
    input_init: Initializer = "lecun_normal"
    bias: bool = True
    init_scheme: str = "jaxrnn"
    activation: Activation = "relu"
    recurrent_activation: Activation = "sigmoid"

    def __post_init__(self) -> None:
        check_options(self, "update_bias")

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> LiGRUParams:
        key, key_z = jax.random.split(key)
        w_x, w_h, b = initializers.parameters(self, key, input_size, gates=2, dtype=dtype)
        b = initializers.gate_bias(self, key_z, b, 0, self.update_bias)
        return LiGRUParams(w_x=w_x, w_h=w_h, b=b)

    def init_carry(self, params: LiGRUParams, like: Array) -> GRUCarry:
        return GRUCarry(h=zeros(like, self.hidden_size))

    def project(self, params: LiGRUParams, xs: Array, noise: Any = None) -> Array:
        return linear(xs, params.w_x, params.b)  # [..., 2, H]

    def step(
        self, params: LiGRUParams, carry: GRUCarry, u: Array, dot: Dot = dot
    ) -> tuple[GRUCarry, Array]:
        sigmoid, relu = functions(self)
        a_z, a_n = gates(u + dot(carry.h, params.w_h))
        z = sigmoid(a_z)
        n = relu(a_n)
        h = (1 - z) * n + z * carry.h
        return GRUCarry(h=h), h
