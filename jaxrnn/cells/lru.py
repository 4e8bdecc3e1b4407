"""The linear recurrent unit: complex numbers that turn and fade, the same at every step."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.numpy import cos, exp, sin

from jaxrnn.cell import Array, Cell, Dot, DType, carry_dtype, dot, zeros
from jaxrnn.cells.options import check_range, make_float
from jaxrnn.checks import check_float, check_size


class ComplexCarry(NamedTuple):
    """A complex state as its two parts."""

    re: Array  # [..., N]
    im: Array  # [..., N]


class LRUParams(NamedTuple):
    nu: Array  # [N], log(-log |lambda|)
    theta: Array  # [N], log of the angle of lambda
    gamma: Array  # [N], log of what the input is multiplied by
    w_re: Array  # [I, N]
    w_im: Array  # [I, N]
    w_yre: Array  # [N, H]
    w_yim: Array  # [N, H]
    w_d: Array  # [I, H]


class DiagonalPrepared(NamedTuple):
    """What a sequence uses."""

    re: Array  # [N], the real part of lambda
    im: Array  # [N]
    w_re: Array
    w_im: Array
    w_yre: Array
    w_yim: Array
    w_d: Array


class DiagonalSystem(Cell):
    """Complex states that are multiplied by the same numbers at every step: `init` and `prepare`
    are left to a cell."""

    def input_size(self, params: Any) -> int:
        return params.w_re.shape[0]

    def init_carry(self, params: DiagonalPrepared, like: Array) -> ComplexCarry:
        N = params.re.shape[0]
        return ComplexCarry(re=zeros(like, N), im=zeros(like, N))

    def project(
        self, params: DiagonalPrepared, xs: Array, noise: Any = None
    ) -> tuple[Array, Array, Array]:
        return dot(xs, params.w_re), dot(xs, params.w_im), dot(xs, params.w_d)

    def step(
        self, params: DiagonalPrepared, carry: ComplexCarry, u: Any, dot: Dot = dot
    ) -> tuple[ComplexCarry, Array]:
        re = params.re * carry.re - params.im * carry.im + u[0]
        im = params.re * carry.im + params.im * carry.re + u[1]
        y = dot(re, params.w_yre) - dot(im, params.w_yim) + u[2]
        return ComplexCarry(re=re, im=im), y


def check_sizes(cell: Any) -> None:
    """Raises where `hidden_size` or `state_size` is wrong."""
    check_size("hidden_size", cell.hidden_size)
    if cell.state_size is not None:
        check_size("state_size", cell.state_size)


def normal(key: Array, shape: tuple[int, int], variance: float, dtype: DType) -> Array:
    """N(0, variance), drawn in float32 at the least."""
    drawn = math.sqrt(variance) * jax.random.normal(key, shape, carry_dtype(dtype))
    return drawn.astype(dtype)


@dataclasses.dataclass(frozen=True)
class LRUCell(DiagonalSystem):
    """The linear recurrent unit: N complex states s, each with its own fading and angle.

        lambda = exp(-exp(nu) + i * exp(theta))
        s' = lambda * s + exp(gamma) * (W x)
        y = Re(V s') + D x

    W is `w_re + i * w_im`, V is `w_yre + i * w_yim`, and D is `w_d`.

    Args:
        hidden_size: H, the number of outputs.
        state_size: N; None is H.
        decay_range: (low, high) between 0 and 1: |lambda|^2 ~ U(low^2, high^2). For long sequences
            both near 1.
        max_phase: the largest angle of lambda, in radians; it is drawn from U(0, max_phase).

    Source: Orvieto et al. 2023, arXiv:2303.06349. Differs: D is a matrix,
    as in the paper's linear layer, drawn N(0, 1 / I); the authors' code has one number a feature.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.cells.LRUCell(hidden_size=4, decay_range=(0.9, 0.999))
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> carry, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((5, 2, 3)))
        >>> ys.shape, carry.re.shape
        ((5, 2, 4), (2, 4))
    """

    hidden_size: int
    state_size: int | None = None
    _: dataclasses.KW_ONLY
    decay_range: tuple[float, float] = (0.4, 0.99)
    max_phase: float = 2 * math.pi

    def __post_init__(self) -> None:
        check_sizes(self)
        check_range(self, "decay_range", above=0.0, below=1.0)
        make_float(self, "max_phase", zero=False)

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> LRUParams:
        check_size("input_size", input_size)
        check_float("dtype", dtype)
        wide = carry_dtype(dtype)
        H = self.hidden_size
        N = self.state_size or H
        keys = jax.random.split(key, 7)
        low, high = self.decay_range
        square = jax.random.uniform(keys[0], (N,), wide, low**2, high**2)
        angle = jax.random.uniform(keys[1], (N,), wide, 1e-4, 1.0) * self.max_phase

        return LRUParams(
            nu=jnp.log(-jnp.log(square) / 2).astype(dtype),
            theta=jnp.log(angle).astype(dtype),
            gamma=(jnp.log1p(-square) / 2).astype(dtype),
            w_re=normal(keys[2], (input_size, N), 1 / (2 * input_size), dtype),
            w_im=normal(keys[3], (input_size, N), 1 / (2 * input_size), dtype),
            w_yre=normal(keys[4], (N, H), 1 / N, dtype),
            w_yim=normal(keys[5], (N, H), 1 / N, dtype),
            w_d=normal(keys[6], (input_size, H), 1 / input_size, dtype),
        )

    def prepare(self, params: LRUParams) -> DiagonalPrepared:
        size = exp(-exp(params.nu))
        scale = exp(params.gamma)
        return DiagonalPrepared(
            re=size * cos(exp(params.theta)),
            im=size * sin(exp(params.theta)),
            w_re=params.w_re * scale,
            w_im=params.w_im * scale,
            w_yre=params.w_yre,
            w_yim=params.w_yim,
            w_d=params.w_d,
        )
