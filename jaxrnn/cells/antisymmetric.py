"""Antisymmetric recurrent networks: Euler steps of a differential equation whose
Jacobian neither grows nor decays.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import sigmoid
from jax.numpy import tanh

from jaxrnn.cell import Array, Cell, Dot, DType, dot, gates, linear, zeros
from jaxrnn.cells.options import check_draws, make_float
from jaxrnn.cells.rnn import RNNCarry
from jaxrnn.checks import check_size
from jaxrnn.initializers import Initializer, kernel


class AntisymmetricParams(NamedTuple):
    w_x: Array  # [I, G, H]: one gate, or z and the candidate
    w_h: Array  # [H, H], of which W - W^T counts; prepared: W - W^T - gamma I
    b: Array | None  # [G * H]


@dataclasses.dataclass(frozen=True)
class AntisymmetricRNNCell(Cell):
    """An Euler step of h' = tanh(...) with an antisymmetric, slightly damped matrix;
    the output is h'.

        h' = h + epsilon * tanh(W_x x + (W - W^T - gamma I) h + b)

    The matrix is made once per sequence.

    Args:
        hidden_size: H.
        epsilon: the time step, above 0.
        gamma: the damping, 0 or more: each eigenvalue of the matrix has the real part -gamma.
        recurrent_init: initialiser of W; None is the paper's N(0, 1/H).
        input_init: initialiser of `w_x`; None is the paper's N(0, 1/I).
        bias: False leaves the bias out.

    Source: Chang et al. 2019, arXiv:1902.09689. Differs: rows are multiplied from the left here,
    h W, so that W stands for the paper's W^T.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.cells.AntisymmetricRNNCell(hidden_size=4, epsilon=0.1)
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> carry, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((5, 2, 3)))
        >>> ys.shape
        (5, 2, 4)
    """

    hidden_size: int
    epsilon: float = 0.01
    gamma: float = 0.01
    _: dataclasses.KW_ONLY
    recurrent_init: Initializer | None = None
    input_init: Initializer | None = None
    bias: bool = True

    def __post_init__(self) -> None:
        _check(self)

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> AntisymmetricParams:
        return _draw(self, key, input_size, 1, dtype)

    def prepare(self, params: AntisymmetricParams) -> AntisymmetricParams:
        return params._replace(w_h=_antisymmetric(params.w_h, self.gamma))

    def init_carry(self, params: AntisymmetricParams, like: Array) -> RNNCarry:
        return RNNCarry(h=zeros(like, self.hidden_size))

    def project(self, params: AntisymmetricParams, xs: Array, noise: Any = None) -> Array:
        return linear(xs, params.w_x, params.b)[..., 0, :]  # [..., H]

    def step(
        self, params: AntisymmetricParams, carry: RNNCarry, u: Array, dot: Dot = dot
    ) -> tuple[RNNCarry, Array]:
        h = carry.h + self.epsilon * tanh(u + dot(carry.h, params.w_h))
        return RNNCarry(h=h), h


@dataclasses.dataclass(frozen=True)
class GatedAntisymmetricRNNCell(Cell):
    """`AntisymmetricRNNCell` with an input gate that shares its matrix; the output is h'.

        a = (W - W^T - gamma I) h
        z = sigmoid(W_xz x + a + b_z)
        h' = h + epsilon * z * tanh(W_xh x + a + b_h)

    Args:
        hidden_size, epsilon, gamma, recurrent_init, input_init, bias: as in `AntisymmetricRNNCell`.

    Source: Chang et al. 2019, arXiv:1902.09689. Differs: as in `AntisymmetricRNNCell`.
    """

    hidden_size: int
    epsilon: float = 0.01
    gamma: float = 0.01
    _: dataclasses.KW_ONLY
    recurrent_init: Initializer | None = None
    input_init: Initializer | None = None
    bias: bool = True

    def __post_init__(self) -> None:
        _check(self)

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> AntisymmetricParams:
        return _draw(self, key, input_size, 2, dtype)

    def prepare(self, params: AntisymmetricParams) -> AntisymmetricParams:
        return params._replace(w_h=_antisymmetric(params.w_h, self.gamma))

    def init_carry(self, params: AntisymmetricParams, like: Array) -> RNNCarry:
        return RNNCarry(h=zeros(like, self.hidden_size))

    def project(self, params: AntisymmetricParams, xs: Array, noise: Any = None) -> Array:
        return linear(xs, params.w_x, params.b)  # [..., 2, H]

    def step(
        self, params: AntisymmetricParams, carry: RNNCarry, u: Array, dot: Dot = dot
    ) -> tuple[RNNCarry, Array]:
        u_z, u_h = gates(u)
        a = dot(carry.h, params.w_h)
        z = sigmoid(u_z + a)
        h = carry.h + self.epsilon * z * tanh(u_h + a)
        return RNNCarry(h=h), h


def _check(cell: Any) -> None:
    check_draws(cell, "input_init", "recurrent_init")
    make_float(cell, "epsilon", zero=False)
    make_float(cell, "gamma", zero=True)


def _draw(cell: Any, key: Array, input_size: int, count: int, dtype: DType) -> AntisymmetricParams:
    """The parameters of `count` gates."""
    check_size("input_size", input_size)
    k_x, k_h = jax.random.split(key)
    H = cell.hidden_size
    paper = jax.nn.initializers.variance_scaling(1.0, "fan_in", "normal")
    return AntisymmetricParams(
        w_x=kernel(cell.input_init or paper, k_x, input_size, count, H, dtype),
        w_h=kernel(cell.recurrent_init or paper, k_h, H, 1, H, dtype)[:, 0],
        b=jnp.zeros(count * H, dtype) if cell.bias else None,
    )


def _antisymmetric(w: Array, gamma: float) -> Array:
    """W - W^T - gamma I."""
    return w - w.T - gamma * jnp.eye(len(w), dtype=w.dtype)
