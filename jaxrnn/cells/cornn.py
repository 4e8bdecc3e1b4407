"""The coupled oscillatory recurrent network: driven,
damped oscillators that are coupled by the recurrent kernels.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.numpy import tanh

from jaxrnn.cell import Array, Cell, Dot, DType, dot, linear, zeros
from jaxrnn.cells.options import check_draws, make_float
from jaxrnn.checks import check_size
from jaxrnn.initializers import Initializer, TorchUniform, kernel


class CoRNNParams(NamedTuple):
    w_x: Array  # [I, H]
    w_y: Array  # [H, H]
    w_z: Array  # [H, H]
    b: Array | None  # [H]


class CoRNNCarry(NamedTuple):
    y: Array  # [..., H]
    z: Array  # [..., H]


@dataclasses.dataclass(frozen=True)
class CoRNNCell(Cell):
    """Coupled oscillators with positions y and velocities z; the output is y'.

        z' = z + dt * (tanh(W_x x + W_y y + W_z z + b) - gamma * y - epsilon * z)
        y' = y + dt * z'

    Args:
        hidden_size: H.
        dt: the time step, above 0.
        gamma: the squared frequency of a free oscillator, 0 or more.
        epsilon: its damping, 0 or more. dt, gamma and epsilon are to be tuned: the defaults are the
            authors' for pixels of MNIST one by one.
        recurrent_init: initialiser of `w_y` and `w_z`; None is the authors' U(+-1/sqrt(I + 2 H)).
        input_init: initialiser of `w_x`; None as above.
        bias: False leaves the bias out. It is drawn as the kernels are by None.

    Source: Rusch & Mishra 2021, arXiv:2010.00951, eq. 3, with its explicit damping (n-bar = n - 1).

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.cells.CoRNNCell(hidden_size=4, dt=0.1, gamma=1.0, epsilon=0.1)
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> carry, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((5, 2, 3)))
        >>> ys.shape, carry.z.shape
        ((5, 2, 4), (2, 4))
    """

    hidden_size: int
    dt: float = 0.042
    gamma: float = 2.7
    epsilon: float = 4.7
    _: dataclasses.KW_ONLY
    recurrent_init: Initializer | None = None
    input_init: Initializer | None = None
    bias: bool = True

    def __post_init__(self) -> None:
        check_draws(self, "input_init", "recurrent_init")
        make_float(self, "dt", zero=False)
        make_float(self, "gamma", zero=True)
        make_float(self, "epsilon", zero=True)

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> CoRNNParams:
        check_size("input_size", input_size)
        k_x, k_y, k_z, k_b = jax.random.split(key, 4)
        H = self.hidden_size
        paper = TorchUniform(input_size + 2 * H)
        recurrent = self.recurrent_init or paper
        return CoRNNParams(
            w_x=kernel(self.input_init or paper, k_x, input_size, 1, H, dtype)[:, 0],
            w_y=kernel(recurrent, k_y, H, 1, H, dtype)[:, 0],
            w_z=kernel(recurrent, k_z, H, 1, H, dtype)[:, 0],
            b=kernel(paper, k_b, 1, 1, H, dtype)[0, 0] if self.bias else None,
        )

    def init_carry(self, params: CoRNNParams, like: Array) -> CoRNNCarry:
        return CoRNNCarry(y=zeros(like, self.hidden_size), z=zeros(like, self.hidden_size))

    def project(self, params: CoRNNParams, xs: Array, noise: Any = None) -> Array:
        return linear(xs, params.w_x, params.b)  # [..., H]

    def step(
        self, params: CoRNNParams, carry: CoRNNCarry, u: Array, dot: Dot = dot
    ) -> tuple[CoRNNCarry, Array]:
        a = u + dot(carry.y, params.w_y) + dot(carry.z, params.w_z)
        z = carry.z + self.dt * (tanh(a) - self.gamma * carry.y - self.epsilon * carry.z)
        y = carry.y + self.dt * z
        return CoRNNCarry(y=y, z=z), y
