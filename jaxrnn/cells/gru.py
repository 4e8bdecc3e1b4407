"""The gated recurrent unit: torch's form, and Cho's original with the reset before the product."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import initializers
from jaxrnn.cell import Array, Cell, Dot, DType, dot, gates, linear, zeros
from jaxrnn.cells.activations import Activation, functions
from jaxrnn.cells.options import check_options
from jaxrnn.initializers import Chrono, Initializer


class GRUParams(NamedTuple):
    w_x: Array  # [I, 3, H], gates r z n
    w_h: Array  # [H, 3, H]
    b: Array | None  # [3 * H]
    b_hn: Array | None  # [H]


class GRUCarry(NamedTuple):
    h: Array  # [..., H]


@dataclasses.dataclass(frozen=True)
class GRUCell(Cell):
    """The GRU of torch and cuDNN, which resets after the product; y = h'.

        r = sigmoid(W_xr x + W_hr h + b_r)
        z = sigmoid(W_xz x + W_hz h + b_z)
        n = tanh(W_xn x + b_n + r * (W_hn h + b_hn))
        h' = (1 - z) * n + z * h

    Args:
        hidden_size: H.
        update_bias: the initial bias of the update gate z, which keeps the old state.
            `Chrono(max_lag)` draws b_z = log U(1, max_lag - 1).
        recurrent_init: initialiser of each gate's block of `w_h`, a name or one of
            `jaxrnn.initializers`.
        input_init: initialiser of each gate's block of `w_x`.
        bias: False leaves the biases out, `b_hn` and `update_bias` with them.
        init_scheme: "jaxrnn", or "torch", which draws everything from U(+-1/sqrt(H)), and is
            refused together with another initialiser.
        activation, recurrent_activation: what stands for tanh and for sigmoid, a name ("tanh",
            "relu", "hard_sigmoid", ...) or a function of arrays.

    Source: `torch.nn.GRU`; Cho et al. 2014, arXiv:1406.1078. Differs: torch has two biases for r
    and z, of which these are the sums; Cho resets before the product (`GRUResetBeforeCell`) and
    writes 1 - z for our z in some versions.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.GRUCell(hidden_size=4)
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> carry, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((5, 2, 3)))
        >>> ys.shape
        (5, 2, 4)
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
    update_bias: float | Chrono = 0.0
    recurrent_init: Initializer = "orthogonal"
    input_init: Initializer = "lecun_normal"
    bias: bool = True
    init_scheme: str = "jaxrnn"
    activation: Activation = "tanh"
    recurrent_activation: Activation = "sigmoid"

    def __post_init__(self) -> None:
        check_options(self, "update_bias")

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> GRUParams:
        key, key_z, key_n = jax.random.split(key, 3)
        w_x, w_h, b = initializers.parameters(self, key, input_size, gates=3, dtype=dtype)
        b = initializers.gate_bias(self, key_z, b, 1, self.update_bias)
        b_hn = initializers.recurrent_bias(self, key_n, dtype)
        return GRUParams(w_x=w_x, w_h=w_h, b=b, b_hn=b_hn)

    def init_carry(self, params: GRUParams, like: Array) -> GRUCarry:
        return GRUCarry(h=zeros(like, self.hidden_size))

    def project(self, params: GRUParams, xs: Array, noise: Any = None) -> Array:
        return linear(xs, params.w_x, params.b)  # [..., 3, H]

    def step(
        self, params: GRUParams, carry: GRUCarry, u: Array, dot: Dot = dot
    ) -> tuple[GRUCarry, Array]:
        sigmoid, tanh = functions(self)
        u_r, u_z, u_n = gates(u)
        a_r, a_z, a_n = gates(dot(carry.h, params.w_h))
        a_n = a_n if params.b_hn is None else a_n + params.b_hn
        r = sigmoid(u_r + a_r)
        z = sigmoid(u_z + a_z)
        n = tanh(u_n + r * a_n)
        h = (1 - z) * n + z * carry.h
        return GRUCarry(h=h), h


class GRUResetBeforeParams(NamedTuple):
    w_x: Array  # [I, 3, H], gates r z n
    w_h: Array  # [H, 3, H]
    b: Array | None  # [3 * H]


@dataclasses.dataclass(frozen=True)
class GRUResetBeforeCell(Cell):
    """The GRU that resets before the product; y = h'.

        r = sigmoid(W_xr x + W_hr h + b_r)
        z = sigmoid(W_xz x + W_hz h + b_z)
        n = tanh(W_xn x + W_hn (r * h) + b_n)
        h' = (1 - z) * n + z * h

    Args:
        hidden_size, update_bias, recurrent_init, input_init, bias, init_scheme: as in `GRUCell`.
        activation, recurrent_activation: as in `GRUCell`.

    Source: Cho et al. 2014, arXiv:1406.1078, eq. 5-8; Keras `reset_after=False`; Haiku, whose z is
    1 - z here.
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
    update_bias: float | Chrono = 0.0
    recurrent_init: Initializer = "orthogonal"
    input_init: Initializer = "lecun_normal"
    bias: bool = True
    init_scheme: str = "jaxrnn"
    activation: Activation = "tanh"
    recurrent_activation: Activation = "sigmoid"

    def __post_init__(self) -> None:
        check_options(self, "update_bias")

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> GRUResetBeforeParams:
        key, key_z = jax.random.split(key)
        w_x, w_h, b = initializers.parameters(self, key, input_size, gates=3, dtype=dtype)
        b = initializers.gate_bias(self, key_z, b, 1, self.update_bias)
        return GRUResetBeforeParams(w_x=w_x, w_h=w_h, b=b)

    def init_carry(self, params: GRUResetBeforeParams, like: Array) -> GRUCarry:
        return GRUCarry(h=zeros(like, self.hidden_size))

    def project(self, params: GRUResetBeforeParams, xs: Array, noise: Any = None) -> Array:
        return linear(xs, params.w_x, params.b)  # [..., 3, H]

    def step(
        self, params: GRUResetBeforeParams, carry: GRUCarry, u: Array, dot: Dot = dot
    ) -> tuple[GRUCarry, Array]:
        sigmoid, tanh = functions(self)
        u_r, u_z, u_n = gates(u)
        a_r, a_z = gates(dot(carry.h, params.w_h[:, :2]))
        r = sigmoid(u_r + a_r)
        z = sigmoid(u_z + a_z)
        n = tanh(u_n + dot(r * carry.h, params.w_h[:, 2]))
        h = (1 - z) * n + z * carry.h
        return GRUCarry(h=h), h
