"""The LSTM whose units see themselves alone."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import sigmoid
from jax.numpy import tanh

from jaxrnn import initializers
from jaxrnn.cell import Array, Cell, Dot, DType, dot, gates, linear, zeros
from jaxrnn.cells.lstm import LSTMCarry
from jaxrnn.cells.options import check_draws
from jaxrnn.cells.paragru import diagonal, spread_bias
from jaxrnn.checks import check_size
from jaxrnn.initializers import Initializer


class ParaLSTMParams(NamedTuple):
    w_x: Array  # [I, 3, H], gates f o c
    a_f: Array  # [H], of h
    a_o: Array  # [H]
    a_c: Array  # [H]
    p_f: Array  # [H], of c
    p_o: Array  # [H]
    b: Array | None  # [3 * H]


@dataclasses.dataclass(frozen=True)
class ParaLSTMCell(Cell):
    """An LSTM of two gates, each unit with its own recurrent weights and peepholes, made to run in
    parallel over time; y = h'.

        f = sigmoid(W_f x + a_f * h + p_f * c + b_f)
        c' = f * c + (1 - f) * tanh(W_c x + a_c * h + b_c)
        o = sigmoid(W_o x + a_o * h + p_o * c' + b_o)
        h' = o * tanh(c')

    Args:
        hidden_size, input_init, bias: as in `ParaGRUCell`.

    Source: Danieli et al. 2025, arXiv:2510.21450. Differs: `w_x` is dense, in blocks there.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.cells.ParaLSTMCell(hidden_size=4)
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> carry, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((5, 2, 3)))
        >>> ys.shape, carry.c.shape
        ((5, 2, 4), (2, 4))
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
    input_init: Initializer = "glorot_uniform"
    bias: bool = True

    def __post_init__(self) -> None:
        check_draws(self, "input_init")

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> ParaLSTMParams:
        check_size("input_size", input_size)
        key_x, *keys = jax.random.split(key, 6)
        H = self.hidden_size
        a_f, a_o, a_c, p_f, p_o = (diagonal(k, H, dtype) for k in keys)
        return ParaLSTMParams(
            w_x=initializers.kernel(self.input_init, key_x, input_size, 3, H, dtype),
            a_f=a_f,
            a_o=a_o,
            a_c=a_c,
            p_f=p_f,
            p_o=p_o,
            b=spread_bias(H, dtype) if self.bias else None,
        )

    def init_carry(self, params: ParaLSTMParams, like: Array) -> LSTMCarry:
        return LSTMCarry(h=zeros(like, self.hidden_size), c=zeros(like, self.hidden_size))

    def project(self, params: ParaLSTMParams, xs: Array, noise: Any = None) -> Array:
        return linear(xs, params.w_x, params.b)  # [..., 3, H]

    def step(
        self, params: ParaLSTMParams, carry: LSTMCarry, u: Array, dot: Dot = dot
    ) -> tuple[LSTMCarry, Array]:
        u_f, u_o, u_c = gates(u)
        f = sigmoid(u_f + params.a_f * carry.h + params.p_f * carry.c)
        c = f * carry.c + (1 - f) * tanh(u_c + params.a_c * carry.h)
        o = sigmoid(u_o + params.a_o * carry.h + params.p_o * c)
        h = o * tanh(c)
        return LSTMCarry(h=h, c=c), h
