"""The hierarchically gated recurrent network: a forget gate with a lower bound."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import sigmoid, silu

from jaxrnn import initializers
from jaxrnn.cell import Array, Cell, Dot, DType, dot, gates, linear, zeros
from jaxrnn.cells.options import check_draws, check_gate_biases, check_share
from jaxrnn.cells.rnn import RNNCarry
from jaxrnn.checks import check_size
from jaxrnn.initializers import Chrono, Initializer


class HGRNParams(NamedTuple):
    w_x: Array  # [I, 2, H], gates f c
    b: Array | None  # [2 * H]


@dataclasses.dataclass(frozen=True)
class HGRNCell(Cell):
    """The hierarchically gated recurrent network, linear in its state; y = h'.

        a, c = W x + b
        f = lower + (1 - lower) * sigmoid(a)
        h' = f * h + (1 - f) * silu(c)

    Args:
        hidden_size: H.
        lower: the least that a step keeps, from 0 to below 1. In a stack it grows with the layer,
            from 0 in the first, so that upper layers remember longer.
        forget_bias: the initial bias of the gate f. `Chrono(max_lag)` draws
            b_f = log U(1, max_lag - 1).
        input_init, bias: as in `MinGRUCell`.

    Source: Qin et al. 2023, arXiv:2311.04823. Differs: the state is real, as in one of the
    cells of the authors' code (`HgruRealV6`), where the paper's is complex; `lower` is one number
    and given, where they learn one for each unit, in all layers together; the gate of the output is
    left to the block around the cell.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.cells.HGRNCell(hidden_size=4, lower=0.9)
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> carry, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((5, 2, 3)))
        >>> ys.shape
        (5, 2, 4)
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
    lower: float = 0.0
    forget_bias: float | Chrono = 0.0
    input_init: Initializer = "lecun_normal"
    bias: bool = True

    def __post_init__(self) -> None:
        check_draws(self, "input_init")
        check_share(self, "lower")
        check_gate_biases(self, "forget_bias")

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> HGRNParams:
        check_size("input_size", input_size)
        key, key_f = jax.random.split(key)
        H = self.hidden_size
        w_x = initializers.kernel(self.input_init, key, input_size, 2, H, dtype)
        b = jnp.zeros(2 * H, dtype) if self.bias else None
        b = initializers.gate_bias(self, key_f, b, 0, self.forget_bias)
        return HGRNParams(w_x=w_x, b=b)

    def init_carry(self, params: HGRNParams, like: Array) -> RNNCarry:
        return RNNCarry(h=zeros(like, self.hidden_size))

    def project(self, params: HGRNParams, xs: Array, noise: Any = None) -> Array:
        return linear(xs, params.w_x, params.b)  # [..., 2, H]

    def step(
        self, params: HGRNParams, carry: RNNCarry, u: Array, dot: Dot = dot
    ) -> tuple[RNNCarry, Array]:
        a, c = gates(u)
        f = self.lower + (1 - self.lower) * sigmoid(a)
        h = f * carry.h + (1 - f) * silu(c)
        return RNNCarry(h=h), h
