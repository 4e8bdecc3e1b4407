"""Networks of leaky units, as models of neurons: in steps of Euler, with noise."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import initializers
from jaxrnn.cell import Array, Cell, Dot, DType, carry_dtype, dot, gates, linear, zeros
from jaxrnn.cells.activations import Activation, check_activations, function
from jaxrnn.cells.options import check_draws, make_float
from jaxrnn.cells.rnn import RNNCarry, RNNParams
from jaxrnn.checks import check_size
from jaxrnn.initializers import Initializer


@dataclasses.dataclass(frozen=True)
class _LeakyCell(Cell):
    """What both cells share: time steps, noise and outputs."""

    hidden_size: int
    _: dataclasses.KW_ONLY
    tau: float = 100.0
    dt: float = 20.0
    noise_std: float = 0.0
    output: str = "rates"
    input_init: Initializer = "lecun_normal"

    def __post_init__(self) -> None:
        check_draws(self, "input_init")
        check_activations(self, "nonlinearity")
        make_float(self, "tau", zero=False)
        make_float(self, "dt", zero=False)
        make_float(self, "noise_std", zero=True)
        if self.dt > self.tau:
            raise ValueError(f"dt={self.dt:g} must be at most tau={self.tau:g}.")
        if self.output not in ("rates", "potentials"):
            raise ValueError(f"output must be 'rates' or 'potentials', got {self.output!r}.")

    @property
    def alpha(self) -> float:
        """The share of the old state that leaks away in a step: dt / tau."""
        return self.dt / self.tau

    def init_carry(self, params: Any, like: Array) -> RNNCarry:
        return RNNCarry(h=zeros(like, self.hidden_size))

    def noise(self, key: Array, T: int, like: Array) -> Array | None:
        """Currents beside those of the input, [T, *batch, H]."""
        if not self.noise_std:
            return None
        here = zeros(like, self.hidden_size).astype(carry_dtype(like.dtype))
        drawn = jax.random.normal(key, (T, *here.shape), here.dtype)
        return self.noise_std * math.sqrt(2 / self.alpha) * drawn + here

    def _leak(self, h: Array, to: Array) -> Array:
        return h + self.alpha * (to - h)


@dataclasses.dataclass(frozen=True)
class LeakyRNNCell(_LeakyCell):
    """A network of leaky units, the model of neural populations (CTRNN). Where potentials leak,
    with rates f(v),

        v' = v + alpha * (W_x x + W_h f(v) + b + xi - v)

    and y = f(v') or v'; where rates leak,

        h' = h + alpha * (f(W_x x + W_h h + b + xi) - h)

    and y = h'. alpha = dt / tau.

    Args:
        hidden_size: H.
        nonlinearity: f; "relu", "softplus", "tanh", another name, or a function of arrays.
        tau, dt: the time constant of a unit, and the time of a step, in the same unit;
            dt is at most tau.
        noise_std: sigma of the noise xi, which is sigma * sqrt(2 / alpha) * N(0, 1), drawn anew for
            each step where `unroll` gets noise: v then varies by sigma * sqrt(2 / (2 - alpha))
            without any other input.
        state: "potentials" or "rates", what leaks.
        output: "rates" or "potentials", what the cell gives.
        recurrent_init, input_init: as in `RNNCell`.
        bias: False leaves the bias out.

    Source: Song et al. 2016, doi:10.1371/journal.pcbi.1004792, eq. 1-7 (potentials); Yang et al.
    2019, doi:10.1038/s41593-018-0310-2, its methods (rates).

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.cells.LeakyRNNCell(4, tau=100.0, dt=20.0, noise_std=0.1)
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> xs = jax.numpy.ones((5, 2, 3))
        >>> noise = cell.noise(jax.random.key(1), 5, xs[0])
        >>> carry, ys = jaxrnn.unroll(cell, params, xs, noise=noise)
        >>> ys.shape
        (5, 2, 4)
    """

    nonlinearity: Activation = "relu"
    _: dataclasses.KW_ONLY
    state: str = "potentials"
    recurrent_init: Initializer = "orthogonal"
    bias: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_draws(self, "recurrent_init")
        if self.state not in ("rates", "potentials"):
            raise ValueError(f"state must be 'rates' or 'potentials', got {self.state!r}.")
        if self.state == "rates" and self.output == "potentials":
            raise ValueError("a cell of state='rates' has no potentials to give as output.")

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> RNNParams:
        check_size("input_size", input_size)
        key_x, key_h = jax.random.split(key)
        H = self.hidden_size
        return RNNParams(
            w_x=initializers.kernel(self.input_init, key_x, input_size, 1, H, dtype),
            w_h=initializers.kernel(self.recurrent_init, key_h, H, 1, H, dtype),
            b=jnp.zeros(H, dtype) if self.bias else None,
        )

    def project(self, params: RNNParams, xs: Array, noise: Array | None = None) -> Array:
        u = linear(xs, params.w_x, params.b)  # [..., 1, H]
        return u if noise is None else u + noise[..., None, :]

    def step(
        self, params: RNNParams, carry: RNNCarry, u: Array, dot: Dot = dot
    ) -> tuple[RNNCarry, Array]:
        f = function(self.nonlinearity)
        if self.state == "rates":
            (a,) = gates(u + dot(carry.h, params.w_h))
            h = self._leak(carry.h, f(a))
            return RNNCarry(h=h), h
        (a,) = gates(u + dot(f(carry.h), params.w_h))
        v = self._leak(carry.h, a)
        return RNNCarry(h=v), f(v) if self.output == "rates" else v


class LowRankRNNParams(NamedTuple):
    w_x: Array  # [I, H]
    w_n: Array  # [H, R], what the network reads of its rates
    w_m: Array  # [R, H], where it writes that
    b: Array | None  # [H]


@dataclasses.dataclass(frozen=True)
class LowRankRNNCell(_LeakyCell):
    """A network of leaky units whose recurrent weight has rank R, so that what it computes by
    itself moves in R directions.

        v' = v + alpha * (W_x x + m n^T f(v) / H + b + xi - v)

    y = f(v') or v', and alpha = dt / tau.

    Args:
        hidden_size: H.
        rank: R.
        nonlinearity, tau, dt, noise_std, output, input_init: as in `LeakyRNNCell`.
        bias: False leaves the bias out, as the source has it.

    Source: Mastrogiuseppe and Ostojic 2018, arXiv:1711.09672, eq. 1-3; Dubreuil et al. 2022,
    doi:10.1038/s41593-022-01088-4. Both vectors begin N(0, 1). Differs: no random part beside the
    low rank.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.cells.LowRankRNNCell(64, rank=2)
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> carry, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((5, 2, 3)))
        >>> ys.shape, params.w_m.shape
        ((5, 2, 64), (2, 64))
    """

    rank: int = 1
    nonlinearity: Activation = "tanh"
    _: dataclasses.KW_ONLY
    bias: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_size("rank", self.rank)

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> LowRankRNNParams:
        check_size("input_size", input_size)
        key_x, key_n, key_m = jax.random.split(key, 3)
        H = self.hidden_size
        wide = carry_dtype(dtype)
        return LowRankRNNParams(
            w_x=initializers.kernel(self.input_init, key_x, input_size, 1, H, dtype)[:, 0],
            w_n=jax.random.normal(key_n, (H, self.rank), wide).astype(dtype),
            w_m=jax.random.normal(key_m, (self.rank, H), wide).astype(dtype),
            b=jnp.zeros(H, dtype) if self.bias else None,
        )

    def project(self, params: LowRankRNNParams, xs: Array, noise: Array | None = None) -> Array:
        u = linear(xs, params.w_x, params.b)  # [..., H]
        return u if noise is None else u + noise

    def step(
        self, params: LowRankRNNParams, carry: RNNCarry, u: Array, dot: Dot = dot
    ) -> tuple[RNNCarry, Array]:
        f = function(self.nonlinearity)
        overlaps = dot(f(carry.h), params.w_n) / carry.h.shape[-1]  # [..., R]
        v = self._leak(carry.h, u + dot(overlaps, params.w_m))
        return RNNCarry(h=v), f(v) if self.output == "rates" else v
