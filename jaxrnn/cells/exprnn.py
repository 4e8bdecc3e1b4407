"""A recurrent network with an orthogonal matrix: the exponential of a skew-symmetric one."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.cell import Array, Cell, Dot, DType, carry_dtype, dot, linear, zeros
from jaxrnn.cells.options import check_draws
from jaxrnn.cells.rnn import RNNCarry
from jaxrnn.checks import check_size
from jaxrnn.initializers import Initializer, kernel


class ExpRNNParams(NamedTuple):
    w_x: Array  # [I, H]
    a: Array  # [H, H], of which A - A^T counts
    b: Array  # [H], of modReLU


class ExpRNNPrepared(NamedTuple):
    w_x: Array  # [I, H]
    w_h: Array  # [H, H], orthogonal
    b: Array  # [H]


@dataclasses.dataclass(frozen=True)
class ExpRNNCell(Cell):
    """The expRNN: an orthogonal recurrent matrix, whatever the parameters are, and modReLU;
    the output is h'.

        W = exp(A - A^T)
        v = W_x x + W h
        h' = sign(v) * relu(|v| + b)

    W is made once per sequence. With b = 0 gradients neither grow nor decay, over any lag.

    Args:
        hidden_size: H.
        recurrent_init: how A is drawn, such that W turns pairs of units by angles theta: "henaff"
            from U(-pi, pi), "cayley" as -tan(theta / 2) of U(0, pi / 2), closer to the identity.
        input_init: initialiser of `w_x`; None is the authors' N(0, 2/I).

    Source: Lezcano-Casado & Martinez-Rubio 2019, arXiv:1901.08428; the draws Henaff et al. 2016,
    arXiv:1602.06662, and Helfrich et al. 2018, arXiv:1707.09520; b is drawn from U(+-0.01). The
    authors train A ten times more slowly than the rest.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.cells.ExpRNNCell(hidden_size=4, recurrent_init="henaff")
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> carry, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((5, 2, 3)))
        >>> w = cell.prepare(params).w_h
        >>> ys.shape, bool(jax.numpy.allclose(w @ w.T, jax.numpy.eye(4), atol=1e-5))
        ((5, 2, 4), True)
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
    recurrent_init: str = "cayley"
    input_init: Initializer | None = None

    def __post_init__(self) -> None:
        if self.recurrent_init not in tuple(ANGLES):
            raise ValueError(
                f"recurrent_init must be one of {tuple(ANGLES)}, got {self.recurrent_init!r}."
            )
        check_draws(self, "input_init")

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> ExpRNNParams:
        check_size("input_size", input_size)
        k_x, k_a, k_b = jax.random.split(key, 3)
        H = self.hidden_size
        wide = carry_dtype(dtype)
        paper = jax.nn.initializers.variance_scaling(2.0, "fan_in", "normal")
        # of each pair; the last of an odd number of units is turned by nothing
        first = jnp.arange(0, H - 1, 2)
        angles = ANGLES[self.recurrent_init](k_a, (len(first),), wide)
        return ExpRNNParams(
            w_x=kernel(self.input_init or paper, k_x, input_size, 1, H, dtype)[:, 0],
            a=jnp.zeros((H, H), dtype).at[first, first + 1].set(angles.astype(dtype)),
            b=jax.random.uniform(k_b, (H,), wide, -0.01, 0.01).astype(dtype),
        )

    def prepare(self, params: ExpRNNParams) -> ExpRNNPrepared:
        w_h = jax.scipy.linalg.expm(params.a - params.a.T)
        return ExpRNNPrepared(w_x=params.w_x, w_h=w_h, b=params.b)

    def init_carry(self, params: ExpRNNPrepared, like: Array) -> RNNCarry:
        return RNNCarry(h=zeros(like, self.hidden_size))

    def project(self, params: ExpRNNPrepared, xs: Array, noise: Any = None) -> Array:
        return linear(xs, params.w_x, None)  # [..., H]

    def step(
        self, params: ExpRNNPrepared, carry: RNNCarry, u: Array, dot: Dot = dot
    ) -> tuple[RNNCarry, Array]:
        v = u + dot(carry.h, params.w_h)
        h = jnp.sign(v) * jax.nn.relu(jnp.abs(v) + params.b)
        return RNNCarry(h=h), h


def _henaff(key: Array, shape: tuple[int, ...], dtype: DType) -> Array:
    return jax.random.uniform(key, shape, dtype, -jnp.pi, jnp.pi)


def _cayley(key: Array, shape: tuple[int, ...], dtype: DType) -> Array:
    return -jnp.tan(jax.random.uniform(key, shape, dtype, 0, jnp.pi / 2) / 2)


ANGLES = {"henaff": _henaff, "cayley": _cayley}
