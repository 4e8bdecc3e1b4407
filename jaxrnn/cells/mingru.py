"""The minimal gated recurrent unit, whose gate sees the input alone."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import sigmoid

from jaxrnn import initializers
from jaxrnn.cell import Array, Cell, Dot, DType, dot, gates, linear, zeros
from jaxrnn.cells.gru import GRUCarry
from jaxrnn.cells.options import check_draws, check_gate_biases
from jaxrnn.checks import check_flag, check_size
from jaxrnn.initializers import Chrono, Initializer


class MinGRUParams(NamedTuple):
    w_x: Array  # [I, 2, H], gates z n
    b: Array | None  # [2 * H]


@dataclasses.dataclass(frozen=True)
class MinGRUCell(Cell):
    """The minimal GRU, linear in its state; y = h'.

        z, n = W x + b
        h' = (1 - sigmoid(z)) * h + sigmoid(z) * g(n)
        g(n) = n + 1/2 where n > 0, else sigmoid(n)

    with `signed` h' = (1 - 2 * sigmoid(z)) * h + sigmoid(z) * g(n): factors of h between -1 and 1,
    so that a unit can change its sign, as parity asks.

    Units do not see each other, nor themselves: stack several, with what mixes them between.

    Args:
        hidden_size: H.
        update_bias: the initial bias of the gate z, which writes where it is open.
            `Chrono(max_lag)` draws b_z = -log U(1, max_lag - 1).
        input_init: initialiser of `w_x`, a name or one of `jaxrnn.initializers`.
        bias: False leaves the bias out.
        signed: factors between -1 and 1 instead of 0 and 1.

    Source: Feng et al. 2024, arXiv:2410.01201, appendix B, with the g of its form in logarithms;
    `signed` is Grazzi et al. 2024, arXiv:2411.12537, 2 a - 1 for each factor a.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.cells.MinGRUCell(hidden_size=4)
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> carry, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((5, 2, 3)))
        >>> ys.shape
        (5, 2, 4)
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
    update_bias: float | Chrono = 0.0
    input_init: Initializer = "lecun_normal"
    bias: bool = True
    signed: bool = False

    def __post_init__(self) -> None:
        check_draws(self, "input_init")
        check_flag("signed", self.signed)
        check_gate_biases(self, "update_bias")

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> MinGRUParams:
        check_size("input_size", input_size)
        key, key_z = jax.random.split(key)
        H = self.hidden_size
        w_x = initializers.kernel(self.input_init, key, input_size, 2, H, dtype)
        b = jnp.zeros(2 * H, dtype) if self.bias else None
        b = initializers.gate_bias(self, key_z, b, 0, self.update_bias, keeps=False)
        return MinGRUParams(w_x=w_x, b=b)

    def init_carry(self, params: MinGRUParams, like: Array) -> GRUCarry:
        return GRUCarry(h=zeros(like, self.hidden_size))

    def project(self, params: MinGRUParams, xs: Array, noise: Any = None) -> Array:
        return linear(xs, params.w_x, params.b)  # [..., 2, H]

    def step(
        self, params: MinGRUParams, carry: GRUCarry, u: Array, dot: Dot = dot
    ) -> tuple[GRUCarry, Array]:
        a_z, n = gates(u)
        z = sigmoid(a_z)
        keep = 1 - 2 * z if self.signed else 1 - z
        h = keep * carry.h + z * positive(n)
        return GRUCarry(h=h), h


def positive(a: Array) -> Array:
    """The papers' g, which keeps a candidate above 0: a + 1/2 where a > 0, else sigmoid(a)."""
    return jnp.where(a > 0, a + 0.5, sigmoid(a))
