"""The undamped independent controlled oscillatory recurrent network:
each hidden unit is an oscillator by itself.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import sigmoid
from jax.numpy import tanh

from jaxrnn.cell import Array, Cell, Dot, DType, carry_dtype, dot, linear, zeros
from jaxrnn.cells.options import check_draws, make_float
from jaxrnn.checks import check_size
from jaxrnn.initializers import Initializer, kernel


class UnICORNNParams(NamedTuple):
    w_x: Array  # [I, H]
    w: Array  # [H]
    c: Array  # [H], of the time step
    b: Array | None  # [H]


class UnICORNNCarry(NamedTuple):
    y: Array  # [..., H]
    z: Array  # [..., H]


@dataclasses.dataclass(frozen=True)
class UnICORNNCell(Cell):
    """Independent oscillators with positions y, velocities z and learned time steps;
    the output is y'.

        z' = z - dt * sigmoid(c) * (tanh(w * y + W_x x + b) + alpha * y)
        y' = y + dt * sigmoid(c) * z'

    No hidden unit sees another: layers of a `Stack` couple them. A step is a Hamiltonian flow, kept
    exactly as such by this order of the two lines: volumes are preserved, and a step can be undone.

    Args:
        hidden_size: H.
        dt: the longest time step, above 0.
        alpha: the squared frequency of a free oscillator, 0 or more. dt and alpha are to be tuned,
            dt for each layer: the defaults are the authors' for permuted pixels of MNIST.
        input_init: initialiser of `w_x`; None is the authors' U(+-sqrt(6 / (65 I))).
        bias: False leaves the bias out.

    Source: Rusch & Mishra 2021, arXiv:2103.05487. As the authors do, w is drawn from U(0, 1), c
    from U(+-0.1), and b is 0.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.cells.UnICORNNCell(hidden_size=4, dt=0.1, alpha=1.0)
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> carry, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((5, 2, 3)))
        >>> ys.shape, carry.z.shape
        ((5, 2, 4), (2, 4))
    """

    hidden_size: int
    dt: float = 0.19
    alpha: float = 30.65
    _: dataclasses.KW_ONLY
    input_init: Initializer | None = None
    bias: bool = True

    def __post_init__(self) -> None:
        check_draws(self, "input_init")
        make_float(self, "dt", zero=False)
        make_float(self, "alpha", zero=True)

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> UnICORNNParams:
        check_size("input_size", input_size)
        k_x, k_w, k_c = jax.random.split(key, 3)
        H = self.hidden_size
        wide = carry_dtype(dtype)
        paper = jax.nn.initializers.variance_scaling(2 / 65, "fan_in", "uniform")
        return UnICORNNParams(
            w_x=kernel(self.input_init or paper, k_x, input_size, 1, H, dtype)[:, 0],
            w=jax.random.uniform(k_w, (H,), wide).astype(dtype),
            c=jax.random.uniform(k_c, (H,), wide, -0.1, 0.1).astype(dtype),
            b=jnp.zeros(H, dtype) if self.bias else None,
        )

    def init_carry(self, params: UnICORNNParams, like: Array) -> UnICORNNCarry:
        return UnICORNNCarry(y=zeros(like, self.hidden_size), z=zeros(like, self.hidden_size))

    def project(self, params: UnICORNNParams, xs: Array, noise: Any = None) -> Array:
        return linear(xs, params.w_x, params.b)  # [..., H]

    def step(
        self, params: UnICORNNParams, carry: UnICORNNCarry, u: Array, dot: Dot = dot
    ) -> tuple[UnICORNNCarry, Array]:
        d = self.dt * sigmoid(params.c)
        z = carry.z - d * (tanh(params.w * carry.y + u) + self.alpha * carry.y)
        y = carry.y + d * z
        return UnICORNNCarry(y=y, z=z), y
