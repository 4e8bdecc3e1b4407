"""The matrix LSTM of xLSTM: keys and values in a matrix for each head."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import log_sigmoid, sigmoid
from jax.numpy import exp

from jaxrnn import initializers
from jaxrnn.cell import Array, Cell, Dot, DType, carry_dtype, dot, gates, linear, zeros
from jaxrnn.cells.options import check_draws, check_ends
from jaxrnn.checks import check_size
from jaxrnn.initializers import Initializer


class MLSTMParams(NamedTuple):
    w_x: Array  # [I, 4, H], q k v and the gate o
    w_g: Array  # [I, 2, heads], gates i f
    b: Array | None  # [4 * H]
    b_g: Array | None  # [2 * heads]


class MLSTMCarry(NamedTuple):
    c: Array  # [..., heads, D, D], values by keys
    n: Array  # [..., heads, D], what c is divided by
    m: Array  # [..., heads], the logarithm of what both are in units of


@dataclasses.dataclass(frozen=True)
class MLSTMCell(Cell):
    """The matrix LSTM: what it stores under a key is read by a query; y = h'. For each head of
    D = H / heads units,

        m' = max(log_sigmoid(f) + m, i)
        C' = exp(log_sigmoid(f) + m - m') C + exp(i - m') v k^T
        n' = exp(log_sigmoid(f) + m - m') n + exp(i - m') k
        h' = sigmoid(o) * C' q / max(|n' q|, exp(-m'))

    with q, k sqrt(D), v, o = W x + b, and gates i, f = W_g x + b_g, one number for each head.

    Args:
        hidden_size: H.
        heads: how many; they divide H.
        forget_bias: (first, last): the initial bias of the forget gate grows from `first` in the
            first head to `last` in the last.
        input_init: initialiser of the kernels of `w_x`; `w_g` begins at 0.
        bias: False leaves b and b_g out.

    Source: Beck et al. 2024, arXiv:2405.04517, eq. 19-27, with the sigmoid as forget gate. Differs:
    the norm of each head's output, which stands before the output gate, is left out.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.cells.MLSTMCell(hidden_size=8, heads=2)
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> carry, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((5, 2, 3)))
        >>> ys.shape, carry.c.shape
        ((5, 2, 8), (2, 2, 4, 4))
    """

    hidden_size: int
    heads: int = 1
    _: dataclasses.KW_ONLY
    forget_bias: tuple[float, float] = (3.0, 6.0)
    input_init: Initializer = "lecun_normal"
    bias: bool = True
    elementwise = False

    def __post_init__(self) -> None:
        check_draws(self, "input_init")
        check_size("heads", self.heads)
        if self.hidden_size % self.heads:
            raise ValueError(f"heads must divide hidden_size={self.hidden_size}, got {self.heads}.")
        check_ends(self, "forget_bias")

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> MLSTMParams:
        check_size("input_size", input_size)
        key_x, key_i = jax.random.split(key)
        b_i = 0.1 * jax.random.normal(key_i, (self.heads,), carry_dtype(dtype))
        b_f = jnp.linspace(*self.forget_bias, self.heads, dtype=b_i.dtype)
        return MLSTMParams(
            w_x=initializers.kernel(self.input_init, key_x, input_size, 4, self.hidden_size, dtype),
            w_g=jnp.zeros((input_size, 2, self.heads), dtype),
            b=jnp.zeros(4 * self.hidden_size, dtype) if self.bias else None,
            b_g=jnp.concatenate([b_i, b_f]).astype(dtype) if self.bias else None,
        )

    def init_carry(self, params: MLSTMParams, like: Array) -> MLSTMCarry:
        D = self.hidden_size // self.heads
        return MLSTMCarry(
            c=zeros(like, self.heads, D, D), n=zeros(like, self.heads, D), m=zeros(like, self.heads)
        )

    def project(self, params: MLSTMParams, xs: Array, noise: Any = None) -> tuple[Array, Array]:
        return linear(xs, params.w_x, params.b), linear(xs, params.w_g, params.b_g)

    def step(
        self, params: MLSTMParams, carry: MLSTMCarry, u: tuple[Array, Array], dot: Dot = dot
    ) -> tuple[MLSTMCarry, Array]:
        heads, D = carry.n.shape[-2:]
        q, k, v, o = (a.reshape(*a.shape[:-1], heads, D) for a in gates(u[0]))
        k = k / D**0.5
        i, f = gates(u[1])  # [..., heads]
        m = jnp.maximum(log_sigmoid(f) + carry.m, i)
        kept = exp(log_sigmoid(f) + carry.m - m)[..., None]
        written = exp(i - m)[..., None]
        c = kept[..., None] * carry.c + (written * v)[..., :, None] * k[..., None, :]
        n = kept * carry.n + written * k
        read = jnp.sum(c * q[..., None, :], axis=-1)
        weight = jnp.abs(jnp.sum(n * q, axis=-1))
        # beyond this h is 0, and the derivative of infinity is none
        least = exp(jnp.minimum(-m, 0.9 * math.log(jnp.finfo(m.dtype).max)))
        h = sigmoid(o) * read / jnp.maximum(weight, least)[..., None]
        return MLSTMCarry(c=c, n=n, m=m), h.reshape(*h.shape[:-2], heads * D)
