"""The minimal LSTM, whose gates see the input alone and add up to one."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import sigmoid, softplus

from jaxrnn import initializers
from jaxrnn.cell import Array, Cell, Dot, DType, dot, gates, linear, zeros
from jaxrnn.cells.mingru import positive
from jaxrnn.cells.options import check_draws, check_gate_biases
from jaxrnn.cells.rnn import RNNCarry
from jaxrnn.checks import check_size
from jaxrnn.initializers import Chrono, Initializer


class MinLSTMParams(NamedTuple):
    w_x: Array  # [I, 3, H], gates f i n
    b: Array | None  # [3 * H]


@dataclasses.dataclass(frozen=True)
class MinLSTMCell(Cell):
    """The minimal LSTM, linear in its state; y = h'.

        f, i, n = W x + b
        h' = (sigmoid(f) * h + sigmoid(i) * g(n)) / (sigmoid(f) + sigmoid(i))
        g(n) = n + 1/2 where n > 0, else sigmoid(n)

    Args:
        hidden_size: H.
        forget_bias: the initial bias of the gate f. `Chrono(max_lag)` draws
            b_f = log U(1, max_lag - 1) and b_i = -b_f.
        input_init, bias: as in `MinGRUCell`.

    Source: Feng et al. 2024, arXiv:2410.01201, appendix B, with the g of its form in logarithms.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.cells.MinLSTMCell(hidden_size=4, forget_bias=1.0)
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> carry, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((5, 2, 3)))
        >>> ys.shape
        (5, 2, 4)
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
    forget_bias: float | Chrono = 0.0
    input_init: Initializer = "lecun_normal"
    bias: bool = True

    def __post_init__(self) -> None:
        check_draws(self, "input_init")
        check_gate_biases(self, "forget_bias")

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> MinLSTMParams:
        check_size("input_size", input_size)
        key, key_f = jax.random.split(key)
        H = self.hidden_size
        w_x = initializers.kernel(self.input_init, key, input_size, 3, H, dtype)
        b = jnp.zeros(3 * H, dtype) if self.bias else None
        b = initializers.gate_bias(self, key_f, b, 0, self.forget_bias, opposite=1)
        return MinLSTMParams(w_x=w_x, b=b)

    def init_carry(self, params: MinLSTMParams, like: Array) -> RNNCarry:
        return RNNCarry(h=zeros(like, self.hidden_size))

    def project(self, params: MinLSTMParams, xs: Array, noise: Any = None) -> Array:
        return linear(xs, params.w_x, params.b)  # [..., 3, H]

    def step(
        self, params: MinLSTMParams, carry: RNNCarry, u: Array, dot: Dot = dot
    ) -> tuple[RNNCarry, Array]:
        a_f, a_i, n = gates(u)
        # log sigmoid(f) - log sigmoid(i): where both gates close, their quotient has no digits
        f = sigmoid(softplus(-a_i) - softplus(-a_f))
        h = f * carry.h + (1 - f) * positive(n)
        return RNNCarry(h=h), h
