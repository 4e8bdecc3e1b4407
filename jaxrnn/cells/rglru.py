"""The real-gated linear recurrent unit of Griffin and Hawk."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import sigmoid, softplus

from jaxrnn import initializers
from jaxrnn.cell import Array, Cell, Dot, DType, carry_dtype, dot, gates, linear, zeros
from jaxrnn.cells.options import check_draws, check_range
from jaxrnn.cells.rnn import RNNCarry
from jaxrnn.checks import check_flag, check_size
from jaxrnn.initializers import Initializer

C = 8.0  # how much faster an open recurrence gate forgets than softplus(decay) says


class RGLRUParams(NamedTuple):
    w_x: Array  # [I, 3, H], gates r i x
    decay: Array  # [H]
    b: Array | None  # [3 * H]


@dataclasses.dataclass(frozen=True)
class RGLRUCell(Cell):
    """The real-gated linear recurrent unit, linear in its state; y = h'.

        r, i, v = W x + b
        a = exp(-8 * softplus(decay) * sigmoid(r))
        h' = a * h + sqrt(1 - a^2) * sigmoid(i) * v

    with `signed` 2 * a - 1 in the place of a, between -1 and 1: a unit can change its sign, as
    parity asks.

    Args:
        hidden_size: H.
        decay_range: (low, high) between 0 and 1: with an open gate r a step keeps between them,
            a^2 ~ U(low^2, high^2); with `signed` between 2 low - 1 and 2 high - 1.
        input_init, bias, signed: as in `MinGRUCell`.

    Source: De et al. 2024, arXiv:2402.19427, eq. 1-4; `decay` is drawn as the paper says (the
    authors' code leaves out the 8 there). Differs: in the paper v is what the block around the
    cell makes of x, and the gates see v in blocks; here all three are dense in x. Where a sequence
    begins the authors' code leaves out the factor sqrt(1 - a^2). `signed` is Grazzi et al. 2024,
    arXiv:2411.12537.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.cells.RGLRUCell(hidden_size=4)
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> carry, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((5, 2, 3)))
        >>> ys.shape
        (5, 2, 4)
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
    decay_range: tuple[float, float] = (0.9, 0.999)
    input_init: Initializer = "lecun_normal"
    bias: bool = True
    signed: bool = False

    def __post_init__(self) -> None:
        check_draws(self, "input_init")
        check_flag("signed", self.signed)
        check_range(self, "decay_range", above=0.0, below=1.0)

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> RGLRUParams:
        check_size("input_size", input_size)
        key_x, key_l = jax.random.split(key)
        H = self.hidden_size
        low, high = self.decay_range
        square = jax.random.uniform(key_l, (H,), carry_dtype(dtype), low**2, high**2)
        # softplus(decay) = -log(a) / C, of which the inverse is log(expm1(...))
        decay = jnp.log(jnp.expm1(-jnp.log(square) / (2 * C)))
        return RGLRUParams(
            w_x=initializers.kernel(self.input_init, key_x, input_size, 3, H, dtype),
            decay=decay.astype(dtype),
            b=jnp.zeros(3 * H, dtype) if self.bias else None,
        )

    def init_carry(self, params: RGLRUParams, like: Array) -> RNNCarry:
        return RNNCarry(h=zeros(like, self.hidden_size))

    def project(self, params: RGLRUParams, xs: Array, noise: Any = None) -> Array:
        return linear(xs, params.w_x, params.b)  # [..., 3, H]

    def step(
        self, params: RGLRUParams, carry: RNNCarry, u: Array, dot: Dot = dot
    ) -> tuple[RNNCarry, Array]:
        r, i, v = gates(u)
        log_a = -C * softplus(params.decay) * sigmoid(r)
        a = jnp.exp(log_a)
        rest = -jnp.expm1(2 * log_a)  # 1 - a^2
        if self.signed:
            rest = -4 * a * jnp.expm1(log_a)
            a = 2 * a - 1
        # above 0, since the root has no derivative there
        rest = jnp.maximum(rest, jnp.finfo(u.dtype).tiny)
        h = a * carry.h + jnp.sqrt(rest) * sigmoid(i) * v
        return RNNCarry(h=h), h
