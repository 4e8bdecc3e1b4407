"""The simple recurrent network with an update gate."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import initializers
from jaxrnn.cell import Array, Cell, Dot, DType, dot, gates, linear, zeros
from jaxrnn.cells.activations import Activation, functions
from jaxrnn.cells.options import check_options
from jaxrnn.cells.rnn import RNNCarry
from jaxrnn.initializers import Chrono, Initializer


class UGRNNParams(NamedTuple):
    w_x: Array  # [I, 2, H], gates g c
    w_h: Array  # [H, 2, H]
    b: Array | None  # [2 * H]


@dataclasses.dataclass(frozen=True)
class UGRNNCell(Cell):
    """The update-gate RNN: between an Elman network and a GRU,
    one gate that decides what is kept; y = h'.

        g = sigmoid(W_xg x + W_hg h + b_g)
        c = tanh(W_xc x + W_hc h + b_c)
        h' = g * h + (1 - g) * c

    Args:
        hidden_size: H.
        forget_bias: the initial bias of the gate g, which keeps the old state. `Chrono(max_lag)`
            draws b_g = log U(1, max_lag - 1).
        recurrent_init, input_init, bias, init_scheme, activation, recurrent_activation: as in
            `LSTMCell`.

    Source: Collins et al. 2017, arXiv:1611.09913.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.cells.UGRNNCell(hidden_size=4)
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> carry, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((5, 2, 3)))
        >>> ys.shape
        (5, 2, 4)
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
    forget_bias: float | Chrono = 1.0
    recurrent_init: Initializer = "orthogonal"
    input_init: Initializer = "lecun_normal"
    bias: bool = True
    init_scheme: str = "jaxrnn"
    activation: Activation = "tanh"
    recurrent_activation: Activation = "sigmoid"

    def __post_init__(self) -> None:
        check_options(self, "forget_bias")

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> UGRNNParams:
        key, key_g = jax.random.split(key)
        w_x, w_h, b = initializers.parameters(self, key, input_size, gates=2, dtype=dtype)
        b = initializers.gate_bias(self, key_g, b, 0, self.forget_bias)
        return UGRNNParams(w_x=w_x, w_h=w_h, b=b)

    def init_carry(self, params: UGRNNParams, like: Array) -> RNNCarry:
        return RNNCarry(h=zeros(like, self.hidden_size))

    def project(self, params: UGRNNParams, xs: Array, noise: Any = None) -> Array:
        return linear(xs, params.w_x, params.b)  # [..., 2, H]

    def step(
        self, params: UGRNNParams, carry: RNNCarry, u: Array, dot: Dot = dot
    ) -> tuple[RNNCarry, Array]:
        sigmoid, tanh = functions(self)
        g, c = gates(u + dot(carry.h, params.w_h))
        keep = sigmoid(g)
        h = keep * carry.h + (1 - keep) * tanh(c)
        return RNNCarry(h=h), h
