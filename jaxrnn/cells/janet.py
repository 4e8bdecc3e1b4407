"""The LSTM with nothing but the forget gate."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import initializers
from jaxrnn.cell import Array, Cell, Dot, DType, dot, gates, linear, zeros
from jaxrnn.cells.activations import Activation, functions
from jaxrnn.cells.options import check_options, make_float
from jaxrnn.cells.rnn import RNNCarry
from jaxrnn.initializers import Chrono, Initializer


class JANETParams(NamedTuple):
    w_x: Array  # [I, 2, H], gates f g
    w_h: Array  # [H, 2, H]
    b: Array | None  # [2 * H]


@dataclasses.dataclass(frozen=True)
class JANETCell(Cell):
    """The LSTM with just a forget gate, half of its parameters and one state; y = h'.

        f, g = W_x x + W_h h + b
        h' = sigmoid(f) * h + (1 - sigmoid(f - beta)) * tanh(g)

    Args:
        hidden_size: H.
        beta: how much is subtracted from f where it decides what is written; at least 0.
        forget_bias: the initial bias of the forget gate. `Chrono(max_lag)`, which the paper uses,
            draws b_f = log U(1, max_lag - 1).
        recurrent_init, input_init, bias, init_scheme, activation, recurrent_activation: as in
            `LSTMCell`.

    Source: van der Westhuizen & Lasenby 2018, arXiv:1804.04849, whose s is our f, and whose c and h
    are both our h.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.cells.JANETCell(hidden_size=4, forget_bias=jaxrnn.Chrono(max_lag=100))
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> carry, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((5, 2, 3)))
        >>> ys.shape
        (5, 2, 4)
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
    beta: float = 1.0
    forget_bias: float | Chrono = 1.0
    recurrent_init: Initializer = "orthogonal"
    input_init: Initializer = "lecun_normal"
    bias: bool = True
    init_scheme: str = "jaxrnn"
    activation: Activation = "tanh"
    recurrent_activation: Activation = "sigmoid"

    def __post_init__(self) -> None:
        check_options(self, "forget_bias")
        make_float(self, "beta", zero=True)

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> JANETParams:
        key, key_f = jax.random.split(key)
        w_x, w_h, b = initializers.parameters(self, key, input_size, gates=2, dtype=dtype)
        b = initializers.gate_bias(self, key_f, b, 0, self.forget_bias)
        return JANETParams(w_x=w_x, w_h=w_h, b=b)

    def init_carry(self, params: JANETParams, like: Array) -> RNNCarry:
        return RNNCarry(h=zeros(like, self.hidden_size))

    def project(self, params: JANETParams, xs: Array, noise: Any = None) -> Array:
        return linear(xs, params.w_x, params.b)  # [..., 2, H]

    def step(
        self, params: JANETParams, carry: RNNCarry, u: Array, dot: Dot = dot
    ) -> tuple[RNNCarry, Array]:
        sigmoid, tanh = functions(self)
        f, g = gates(u + dot(carry.h, params.w_h))
        h = sigmoid(f) * carry.h + (1 - sigmoid(f - self.beta)) * tanh(g)
        return RNNCarry(h=h), h
