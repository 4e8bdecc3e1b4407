"""A diagonal state space model in continuous time, made discrete by a learned time step."""

import dataclasses
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.numpy import cos, exp, sin

from jaxrnn.cell import Array, DType, carry_dtype
from jaxrnn.cells.lru import DiagonalPrepared, DiagonalSystem, check_sizes, normal
from jaxrnn.cells.options import check_range
from jaxrnn.checks import check_float, check_size


class S5Params(NamedTuple):
    rate: Array  # [N], log of the decay per unit of time
    angle: Array  # [N], radians per unit of time
    dt: Array  # [N], log of the time step
    w_re: Array  # [I, N]
    w_im: Array  # [I, N]
    w_yre: Array  # [N, H]
    w_yim: Array  # [N, H]
    w_d: Array  # [I, H]


@dataclasses.dataclass(frozen=True)
class S5Cell(DiagonalSystem):
    """S5: N complex states s of a linear system in continuous time, each with a time step of its
    own.

        lambda = -exp(rate) + i * angle
        s' = exp(lambda * exp(dt)) * s + (exp(lambda * exp(dt)) - 1) / lambda * (W x)
        y = 2 * Re(V s') + D x

    W is `w_re + i * w_im`, V is `w_yre + i * w_yim`, and D is `w_d`. N states stand for 2 N that
    are conjugate in pairs; `rate` and `angle` begin as those of the normal part of the HiPPO matrix
    of that size.

    Args:
        hidden_size: H, the number of outputs.
        state_size: N; None is H.
        dt_range: (low, high), above 0 and below 1: a time step is drawn from them with equal
            chances for each order of size.

    Source: Smith et al. 2023, arXiv:2208.04933. Differs: one block of states; D
    is a matrix, drawn N(0, 1 / I); before they are brought to the basis of the states W is drawn
    N(0, 1 / I) and V real, N(0, 1 / 2N), where the authors' code has N(0, 1 / 2N) and a complex V;
    the real part of lambda is learned as its logarithm.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.cells.S5Cell(hidden_size=4, state_size=8)
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> carry, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((5, 2, 3)))
        >>> ys.shape, carry.re.shape
        ((5, 2, 4), (2, 8))
    """

    hidden_size: int
    state_size: int | None = None
    _: dataclasses.KW_ONLY
    dt_range: tuple[float, float] = (1e-3, 1e-1)

    def __post_init__(self) -> None:
        check_sizes(self)
        check_range(self, "dt_range", above=0.0, below=1.0)

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> S5Params:
        check_size("input_size", input_size)
        check_float("dtype", dtype)
        H = self.hidden_size
        N = self.state_size or H
        keys = jax.random.split(key, 5)
        values, vectors = _hippo(N)
        low, high = map(math.log, self.dt_range)
        # the columns of V are the eigenvectors: what is drawn is brought to their basis
        basis = np.concatenate([vectors.real, vectors.imag], axis=1).astype(np.float32)
        w = normal(keys[1], (input_size, 2 * N), 1 / input_size, jnp.float32) @ basis
        v = normal(keys[2], (H, 2 * N), 1 / (2 * N), jnp.float32) @ basis
        return S5Params(
            rate=jnp.asarray(np.log(-values.real), dtype),
            angle=jnp.asarray(values.imag, dtype),
            dt=jax.random.uniform(keys[0], (N,), carry_dtype(dtype), low, high).astype(dtype),
            w_re=w[:, :N].astype(dtype),
            w_im=-w[:, N:].astype(dtype),
            w_yre=v[:, :N].T.astype(dtype),
            w_yim=v[:, N:].T.astype(dtype),
            w_d=normal(keys[3], (input_size, H), 1 / input_size, dtype),
        )

    def prepare(self, params: S5Params) -> DiagonalPrepared:
        dt = exp(params.dt)
        decay = exp(params.rate)
        size = exp(-decay * dt)
        re = size * cos(params.angle * dt)
        im = size * sin(params.angle * dt)
        # re - 1, which has no digits left where dt is small
        less = jnp.expm1(-decay * dt) * cos(params.angle * dt) - 2 * sin(params.angle * dt / 2) ** 2
        # (less + i im) / lambda, lambda = -decay + i angle
        square = decay**2 + params.angle**2
        in_re = (params.angle * im - decay * less) / square
        in_im = (-decay * im - params.angle * less) / square
        return DiagonalPrepared(
            re=re,
            im=im,
            w_re=params.w_re * in_re - params.w_im * in_im,
            w_im=params.w_re * in_im + params.w_im * in_re,
            w_yre=2 * params.w_yre,
            w_yim=2 * params.w_yim,
            w_d=params.w_d,
        )


@functools.cache
def _hippo(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues [N] and eigenvectors [2 N, N] of the normal part of the HiPPO matrix of size
    2 N: one of each conjugate pair."""
    n = np.arange(2 * count)
    root = np.sqrt(2 * n + 1)
    lower = np.tril(np.outer(root, root), -1)
    skew = (lower.T - lower) / 2
    # -1/2 + i w: the normal part is skew-symmetric but for its diagonal
    values, vectors = np.linalg.eigh(-1j * skew)
    positive = values > 0
    return -0.5 + 1j * values[positive], vectors[:, positive]
