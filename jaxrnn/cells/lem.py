"""Long expressive memory: two states, each with a learned time step of its own."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import sigmoid
from jax.numpy import tanh

from jaxrnn.cell import Array, Cell, Dot, DType, dot, gates, linear, zeros
from jaxrnn.cells.options import check_draws, make_float
from jaxrnn.checks import check_size
from jaxrnn.initializers import Initializer, TorchUniform, kernel


class LEMParams(NamedTuple):
    w_x: Array  # [I, 4, H], gates d e z y
    w_y: Array  # [H, 3, H], gates d e z
    w_z: Array  # [H, H]
    b: Array | None  # [4 * H], gates d e z y


class LEMCarry(NamedTuple):
    y: Array  # [..., H]
    z: Array  # [..., H]


@dataclasses.dataclass(frozen=True)
class LEMCell(Cell):
    """Long expressive memory; the output is y'.

        d = dt * sigmoid(W_xd x + W_yd y + b_d)
        e = dt * sigmoid(W_xe x + W_ye y + b_e)
        z' = (1 - d) * z + d * tanh(W_xz x + W_yz y + b_z)
        y' = (1 - e) * y + e * tanh(W_xy x + W_z z' + b_y)

    Args:
        hidden_size: H.
        dt: the longest time step, above 0. Up to 1 both states are averages of what they were and
            of numbers below 1.
        recurrent_init: initialiser of each gate's block of `w_y`, and of `w_z`; None is the paper's
            U(+-1/sqrt(H)).
        input_init: initialiser of each gate's block of `w_x`; None is the paper's U(+-1/sqrt(H)).
        bias: False leaves the biases out. They too are drawn from U(+-1/sqrt(H)).

    Source: Rusch et al. 2022, arXiv:2110.04744, eq. 4; d and e are its two steps, of z and of y.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.cells.LEMCell(hidden_size=4, dt=0.5)
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> carry, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((5, 2, 3)))
        >>> ys.shape, carry.z.shape
        ((5, 2, 4), (2, 4))
    """

    hidden_size: int
    dt: float = 1.0
    _: dataclasses.KW_ONLY
    recurrent_init: Initializer | None = None
    input_init: Initializer | None = None
    bias: bool = True

    def __post_init__(self) -> None:
        check_draws(self, "input_init", "recurrent_init")
        make_float(self, "dt", zero=False)

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> LEMParams:
        check_size("input_size", input_size)
        k_x, k_y, k_z, k_b = jax.random.split(key, 4)
        H = self.hidden_size
        paper = TorchUniform(H)
        recurrent = self.recurrent_init or paper
        return LEMParams(
            w_x=kernel(self.input_init or paper, k_x, input_size, 4, H, dtype),
            w_y=kernel(recurrent, k_y, H, 3, H, dtype),
            w_z=kernel(recurrent, k_z, H, 1, H, dtype)[:, 0],
            b=kernel(paper, k_b, 1, 4, H, dtype).reshape(-1) if self.bias else None,
        )

    def init_carry(self, params: LEMParams, like: Array) -> LEMCarry:
        return LEMCarry(y=zeros(like, self.hidden_size), z=zeros(like, self.hidden_size))

    def project(self, params: LEMParams, xs: Array, noise: Any = None) -> Array:
        return linear(xs, params.w_x, params.b)  # [..., 4, H]

    def step(
        self, params: LEMParams, carry: LEMCarry, u: Array, dot: Dot = dot
    ) -> tuple[LEMCarry, Array]:
        u_d, u_e, u_z, u_y = gates(u)
        a_d, a_e, a_z = gates(dot(carry.y, params.w_y))
        d = self.dt * sigmoid(u_d + a_d)
        e = self.dt * sigmoid(u_e + a_e)
        z = (1 - d) * carry.z + d * tanh(u_z + a_z)
        y = (1 - e) * carry.y + e * tanh(u_y + dot(z, params.w_z))
        return LEMCarry(y=y, z=z), y
