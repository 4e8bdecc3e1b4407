"""The LSTM whose input gate is what the forget gate leaves."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import initializers
from jaxrnn.cell import Array, Cell, Dot, DType, dot, gates, linear, zeros
from jaxrnn.cells.activations import Activation, functions
from jaxrnn.cells.lstm import LSTMCarry
from jaxrnn.cells.options import check_options
from jaxrnn.initializers import Chrono, Initializer


class CIFGParams(NamedTuple):
    w_x: Array  # [I, 3, H], gates f g o
    w_h: Array  # [H, 3, H]
    b: Array | None  # [3 * H]


@dataclasses.dataclass(frozen=True)
class CIFGCell(Cell):
    """The LSTM with coupled input and forget gates, three quarters of its parameters; y = h'.

        f, g, o = W_x x + W_h h + b
        c' = sigmoid(f) * c + (1 - sigmoid(f)) * tanh(g)
        h' = sigmoid(o) * tanh(c')

    Args:
        hidden_size: H.
        forget_bias: the initial bias of the forget gate. `Chrono(max_lag)` draws
            b_f = log U(1, max_lag - 1).
        recurrent_init, input_init, bias, init_scheme, activation, recurrent_activation: as in
            `LSTMCell`.

    Source: Greff et al. 2017, arXiv:1503.04069 (CIFG). Differs: there f = 1 - i, so that its i is
    the sigmoid of our -f; and there are peepholes, here none.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.cells.CIFGCell(hidden_size=4)
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> carry, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((5, 2, 3)))
        >>> ys.shape, carry.c.shape
        ((5, 2, 4), (2, 4))
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

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> CIFGParams:
        key, key_f = jax.random.split(key)
        w_x, w_h, b = initializers.parameters(self, key, input_size, gates=3, dtype=dtype)
        b = initializers.gate_bias(self, key_f, b, 0, self.forget_bias)
        return CIFGParams(w_x=w_x, w_h=w_h, b=b)

    def init_carry(self, params: CIFGParams, like: Array) -> LSTMCarry:
        return LSTMCarry(h=zeros(like, self.hidden_size), c=zeros(like, self.hidden_size))

    def project(self, params: CIFGParams, xs: Array, noise: Any = None) -> Array:
        return linear(xs, params.w_x, params.b)  # [..., 3, H]

    def step(
        self, params: CIFGParams, carry: LSTMCarry, u: Array, dot: Dot = dot
    ) -> tuple[LSTMCarry, Array]:
        sigmoid, tanh = functions(self)
        f, g, o = gates(u + dot(carry.h, params.w_h))
        keep = sigmoid(f)
        c = keep * carry.c + (1 - keep) * tanh(g)
        h = sigmoid(o) * tanh(c)
        return LSTMCarry(h=h, c=c), h
