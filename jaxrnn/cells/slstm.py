"""The scalar LSTM of xLSTM: exponential gates, and a normaliser beside the cell."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import log_sigmoid, sigmoid
from jax.numpy import exp, tanh

from jaxrnn.cell import Array, Cell, Dot, DType, dot, gates, linear, zeros
from jaxrnn.cells.options import check_draws, check_ends
from jaxrnn.checks import check_size
from jaxrnn.initializers import Initializer, Normal, kernel


class SLSTMParams(NamedTuple):
    w_x: Array  # [I, 4, H], gates i f z o
    w_h: Array  # [H, 4, H]
    b: Array | None  # [4 * H]


class SLSTMCarry(NamedTuple):
    h: Array  # [..., H]
    c: Array  # [..., H]
    n: Array  # [..., H], what c is divided by
    m: Array  # [..., H], the logarithm of what both are in units of


@dataclasses.dataclass(frozen=True)
class SLSTMCell(Cell):
    """The scalar LSTM, with exponential input gates; y = h'.

        i, f, z, o = W_x x + W_h h + b
        m' = max(log_sigmoid(f) + m, i)
        c' = exp(log_sigmoid(f) + m - m') * c + exp(i - m') * tanh(z)
        n' = exp(log_sigmoid(f) + m - m') * n + exp(i - m')
        h' = sigmoid(o) * c' / n'

    In the first step m' is i. Its heads are `jaxrnn.wrappers.MultiHead(SLSTMCell(H), heads)`.

    Args:
        hidden_size: H.
        forget_bias: (last, first): the initial bias of the forget gate falls from `first` in the
            first unit to `last` in the last.
        recurrent_init: initialiser of `w_h`; None is zeros, as the authors have it.
        input_init, bias: as in `LSTMCell`.

    Source: Beck et al. 2024, arXiv:2405.04517, eq. 8-17, with the sigmoid as forget gate. Differs:
    the forget bias falls linearly over the units, where the authors' code has a power that depends
    on the layer; it is not drawn anew for each head.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.wrappers.MultiHead(jaxrnn.cells.SLSTMCell(hidden_size=4), heads=2)
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> carry, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((5, 2, 3)))
        >>> ys.shape, carry.n.shape
        ((5, 2, 4), (2, 4))
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
    forget_bias: tuple[float, float] = (-7.0, 5.0)
    recurrent_init: Initializer | None = None
    input_init: Initializer = "lecun_normal"
    bias: bool = True

    def __post_init__(self) -> None:
        check_draws(self, "input_init", "recurrent_init")
        check_ends(self, "forget_bias")

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> SLSTMParams:
        check_size("input_size", input_size)
        key_x, key_h = jax.random.split(key)
        H = self.hidden_size
        last, first = self.forget_bias
        b = jnp.zeros((4, H), dtype).at[1].set(jnp.linspace(first, last, H, dtype=dtype))
        return SLSTMParams(
            w_x=kernel(self.input_init, key_x, input_size, 4, H, dtype),
            w_h=kernel(self.recurrent_init or Normal(0.0), key_h, H, 4, H, dtype),
            b=b.reshape(-1) if self.bias else None,
        )

    def init_carry(self, params: SLSTMParams, like: Array) -> SLSTMCarry:
        return SLSTMCarry(*(zeros(like, self.hidden_size) for _ in range(4)))

    def project(self, params: SLSTMParams, xs: Array, noise: Any = None) -> Array:
        return linear(xs, params.w_x, params.b)  # [..., 4, H]

    def step(
        self, params: SLSTMParams, carry: SLSTMCarry, u: Array, dot: Dot = dot
    ) -> tuple[SLSTMCarry, Array]:
        i, f, z, o = gates(u + dot(carry.h, params.w_h))
        # n is above 0 from the first step on: until then there is nothing to keep
        kept = jnp.where(carry.n == 0, i, log_sigmoid(f) + carry.m)
        m = jnp.maximum(kept, i)
        c = exp(kept - m) * carry.c + exp(i - m) * tanh(z)
        n = exp(kept - m) * carry.n + exp(i - m)
        h = sigmoid(o) * c / n
        return SLSTMCarry(h=h, c=c, n=n, m=m), h
