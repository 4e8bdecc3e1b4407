"""The minimal gated unit: with the gate before the recurrent product, and after it."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import initializers
from jaxrnn.cell import Array, Cell, Dot, DType, dot, gates, linear, zeros
from jaxrnn.cells.activations import Activation, functions
from jaxrnn.cells.gru import GRUCarry
from jaxrnn.cells.options import check_options
from jaxrnn.initializers import Chrono, Initializer


class MGUParams(NamedTuple):
    w_x: Array  # [I, 2, H], gates f n
    w_h: Array  # [H, 2, H]
    b: Array | None  # [2 * H]


@dataclasses.dataclass(frozen=True)
class MGUCell(Cell):
    """The minimal gated unit: a GRU whose one gate both resets and updates; y = h'.

        f = sigmoid(W_xf x + W_hf h + b_f)
        n = tanh(W_xn x + W_hn (f * h) + b_n)
        h' = (1 - f) * h + f * n

    A unit with f = 0 keeps its state; in `MGUResetAfterCell` it is one with f = 1.

    Args:
        hidden_size: H.
        forget_bias: the initial bias of the gate f. `Chrono(max_lag)` draws
            b_f = -log U(1, max_lag - 1), since 1 - f keeps.
        recurrent_init, input_init, bias, init_scheme, activation, recurrent_activation: as in
            `GRUCell`.

    Source: Zhou et al. 2016, arXiv:1603.09420.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.cells.MGUCell(hidden_size=4)
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> carry, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((5, 2, 3)))
        >>> ys.shape
        (5, 2, 4)
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
    forget_bias: float | Chrono = 0.0
    recurrent_init: Initializer = "orthogonal"
    input_init: Initializer = "lecun_normal"
    bias: bool = True
    init_scheme: str = "jaxrnn"
    activation: Activation = "tanh"
    recurrent_activation: Activation = "sigmoid"

    def __post_init__(self) -> None:
        check_options(self, "forget_bias")

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> MGUParams:
        key, key_f = jax.random.split(key)
        w_x, w_h, b = initializers.parameters(self, key, input_size, gates=2, dtype=dtype)
        b = initializers.gate_bias(self, key_f, b, 0, self.forget_bias, keeps=False)
        return MGUParams(w_x=w_x, w_h=w_h, b=b)

    def init_carry(self, params: MGUParams, like: Array) -> GRUCarry:
        return GRUCarry(h=zeros(like, self.hidden_size))

    def project(self, params: MGUParams, xs: Array, noise: Any = None) -> Array:
        return linear(xs, params.w_x, params.b)  # [..., 2, H]

    def step(
        self, params: MGUParams, carry: GRUCarry, u: Array, dot: Dot = dot
    ) -> tuple[GRUCarry, Array]:
        sigmoid, tanh = functions(self)
        u_f, u_n = gates(u)
        f = sigmoid(u_f + dot(carry.h, params.w_h[:, 0]))
        n = tanh(u_n + dot(f * carry.h, params.w_h[:, 1]))
        h = (1 - f) * carry.h + f * n
        return GRUCarry(h=h), h


class MGUResetAfterParams(NamedTuple):
    w_x: Array  # [I, 2, H], gates f n
    w_h: Array  # [H, 2, H]
    b: Array | None  # [2 * H]
    b_hn: Array | None  # [H]


@dataclasses.dataclass(frozen=True)
class MGUResetAfterCell(Cell):
    """The minimal gated unit of Flax: a `GRUCell` with one gate f for r and z,
    which resets after the product; y = h'.

        f = sigmoid(W_xf x + W_hf h + b_f)
        n = tanh(W_xn x + b_n + f * (W_hn h + b_hn))
        h' = (1 - f) * n + f * h

    Args:
        hidden_size: H.
        forget_bias: the initial bias of the gate f. `Chrono(max_lag)` draws
            b_f = log U(1, max_lag - 1).
        recurrent_init, input_init, bias, init_scheme, activation, recurrent_activation: as in
            `GRUCell`.

    Source: `flax.linen.MGUCell` (whose form with `reset_gate=False` is `UGRNNCell`). Differs from
    Zhou et al. 2016 (`MGUCell`) in where f acts on the candidate, and in f for 1 - f in the last
    equation.
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
    forget_bias: float | Chrono = 1.0
    recurrent_init: Initializer = "orthogonal"
    input_init: Initializer = "lecun_normal"
    bias: bool = True
    init_scheme: str = "jaxrnn"
    activation: Activation = "tanh"
    recurrent_activation: Activation = "sigmoid"

    def __post_init__(self) -> None:
        check_options(self, "forget_bias")

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> MGUResetAfterParams:
        key, key_f, key_n = jax.random.split(key, 3)
        w_x, w_h, b = initializers.parameters(self, key, input_size, gates=2, dtype=dtype)
        b = initializers.gate_bias(self, key_f, b, 0, self.forget_bias)
        b_hn = initializers.recurrent_bias(self, key_n, dtype)
        return MGUResetAfterParams(w_x=w_x, w_h=w_h, b=b, b_hn=b_hn)

    def init_carry(self, params: MGUResetAfterParams, like: Array) -> GRUCarry:
        return GRUCarry(h=zeros(like, self.hidden_size))

    def project(self, params: MGUResetAfterParams, xs: Array, noise: Any = None) -> Array:
        return linear(xs, params.w_x, params.b)  # [..., 2, H]

    def step(
        self, params: MGUResetAfterParams, carry: GRUCarry, u: Array, dot: Dot = dot
    ) -> tuple[GRUCarry, Array]:
        sigmoid, tanh = functions(self)
        u_f, u_n = gates(u)
        a_f, a_n = gates(dot(carry.h, params.w_h))
        a_n = a_n if params.b_hn is None else a_n + params.b_hn
        f = sigmoid(u_f + a_f)
        n = tanh(u_n + f * a_n)
        h = (1 - f) * n + f * carry.h
        return GRUCarry(h=h), h
