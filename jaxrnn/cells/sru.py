"""The simple recurrent unit: gates that see the input and, unit by unit, the state."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import sigmoid

from jaxrnn import initializers
from jaxrnn.cell import Array, Cell, Dot, DType, carry_dtype, dot, gates, linear, zeros
from jaxrnn.cells.options import check_draws, check_gate_biases
from jaxrnn.checks import check_flag, check_size
from jaxrnn.initializers import Chrono, Initializer


class SRUParams(NamedTuple):
    w_x: Array  # [I, 3, H], gates f r and the candidate
    w_s: Array | None  # [I, H], of the input that goes past; None where I = H
    v_f: Array | None  # [H]
    v_r: Array | None  # [H]
    b: Array | None  # [3 * H]


class SRUCarry(NamedTuple):
    c: Array  # [..., H]


@dataclasses.dataclass(frozen=True)
class SRUCell(Cell):
    """The simple recurrent unit.

        f = sigmoid(W_f x + v_f * c + b_f)
        r = sigmoid(W_r x + v_r * c + b_r)
        c' = f * c + (1 - f) * (W_c x + b_c)
        y = r * c' + (1 - r) * alpha * x

    Args:
        hidden_size: H. Where it is not the number of inputs, x goes past through a kernel of its
            own.
        peepholes: whether gates see the state; False leaves v_f and v_r out, and the cell is linear
            in its state.
        forget_bias: the initial bias of the gate f. `Chrono(max_lag)` draws
            b_f = log U(1, max_lag - 1).
        highway_bias: the initial bias of the gate r, by which alpha = sqrt(1 + 2 exp(highway_bias))
            keeps the variance of x; at most 20.
        input_init: as in `MinGRUCell`; with peepholes those of the gates are divided by sqrt(2).
        bias: False leaves the biases out, `forget_bias` and `highway_bias` with them.

    Source: Lei et al. 2018, arXiv:1709.02755, eq. 1-4 and section 3.2. Differs: the candidate has
    a bias too.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.cells.SRUCell(hidden_size=4, peepholes=False)
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> carry, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((5, 2, 3)))
        >>> ys.shape
        (5, 2, 4)
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
    peepholes: bool = True
    forget_bias: float | Chrono = 0.0
    highway_bias: float = 0.0
    input_init: Initializer = "lecun_normal"
    bias: bool = True

    def __post_init__(self) -> None:
        check_draws(self, "input_init")
        check_flag("peepholes", self.peepholes)
        check_gate_biases(self, "forget_bias", "highway_bias")
        if isinstance(self.highway_bias, Chrono):
            raise TypeError("highway_bias must be a number.")
        if self.highway_bias > 20:  # alpha squared is beyond what 16 bits hold
            raise ValueError(f"highway_bias must be at most 20, got {self.highway_bias}.")

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> SRUParams:
        check_size("input_size", input_size)
        key_x, key_s, key_b, *keys = jax.random.split(key, 5)
        H = self.hidden_size
        b = jnp.zeros(3 * H, dtype) if self.bias else None
        b = initializers.gate_bias(self, key_b, b, 0, self.forget_bias)
        b = initializers.gate_bias(self, key_b, b, 1, self.highway_bias)
        # U(-sqrt(3), sqrt(3)) has variance 1: half of it comes from the state, half from the input
        bound = math.sqrt(3 / 2)
        wide = carry_dtype(dtype)
        drawn = [jax.random.uniform(k, (H,), wide, -bound, bound).astype(dtype) for k in keys]
        v_f, v_r = drawn if self.peepholes else (None, None)
        past = input_size != H
        w_x = initializers.kernel(self.input_init, key_x, input_size, 3, H, dtype)
        return SRUParams(
            w_x=w_x.at[:, :2].multiply(math.sqrt(1 / 2)) if self.peepholes else w_x,
            w_s=initializers.kernel(self.input_init, key_s, input_size, 1, H, dtype)[:, 0]
            if past
            else None,
            v_f=v_f,
            v_r=v_r,
            b=b,
        )

    def init_carry(self, params: SRUParams, like: Array) -> SRUCarry:
        return SRUCarry(c=zeros(like, self.hidden_size))

    def project(self, params: SRUParams, xs: Array, noise: Any = None) -> tuple[Array, Array]:
        past = xs if params.w_s is None else dot(xs, params.w_s)
        alpha = math.sqrt(1 + 2 * math.exp(self.highway_bias if self.bias else 0))
        return linear(xs, params.w_x, params.b), alpha * past  # [..., 3, H], [..., H]

    def step(
        self, params: SRUParams, carry: SRUCarry, u: tuple[Array, Array], dot: Dot = dot
    ) -> tuple[SRUCarry, Array]:
        a_f, a_r, candidate = gates(u[0])
        if params.v_f is not None and params.v_r is not None:
            a_f = a_f + params.v_f * carry.c
            a_r = a_r + params.v_r * carry.c
        f = sigmoid(a_f)
        r = sigmoid(a_r)
        c = f * carry.c + (1 - f) * candidate
        return SRUCarry(c=c), r * c + (1 - r) * u[1]
