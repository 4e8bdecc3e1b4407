"""Long short-term memory, without and with a projection of the hidden state."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import initializers
from jaxrnn.cell import Array, Cell, Dot, DType, dot, gates, linear, zeros
from jaxrnn.cells.activations import Activation, functions
from jaxrnn.cells.options import check_options
from jaxrnn.checks import check_size
from jaxrnn.initializers import Chrono, Initializer


class LSTMParams(NamedTuple):
    w_x: Array  # [I, 4, H], gates i f g o
    w_h: Array  # [H, 4, H]
    b: Array | None  # [4 * H]


class LSTMCarry(NamedTuple):
    h: Array  # [..., H]
    c: Array  # [..., H]


@dataclasses.dataclass(frozen=True)
class LSTMCell(Cell):
    """The LSTM with a forget gate; y = h'.

        i, f, g, o = W_x x + W_h h + b
        c' = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h' = sigmoid(o) * tanh(c')

    Args:
        hidden_size: H.
        forget_bias: the initial bias of the forget gate. `Chrono(max_lag)` draws
            b_f = log U(1, max_lag - 1), b_i = -b_f.
        recurrent_init: initialiser of each gate's block of `w_h`, a name or one of
            `jaxrnn.initializers`.
        input_init: initialiser of each gate's block of `w_x`.
        bias: False leaves the biases out, and `forget_bias` with them.
        init_scheme: "jaxrnn", or "torch", which draws everything from U(+-1/sqrt(H)), and is
            refused together with another initialiser.
        activation, recurrent_activation: what stands for tanh and for sigmoid, a name ("tanh",
            "relu", "hard_sigmoid", ...) or a function of arrays.

    Source: Hochreiter & Schmidhuber 1997; Gers et al. 2000; `torch.nn.LSTM`. Differs: torch has two
    biases, of which this is the sum, and no forget bias.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.LSTMCell(hidden_size=4, forget_bias=jaxrnn.Chrono(max_lag=100))
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> carry, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((5, 2, 3)))
        >>> ys.shape, carry.c.shape
        ((5, 2, 4), (2, 4))
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

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> LSTMParams:
        key, key_f = jax.random.split(key)
        w_x, w_h, b = initializers.parameters(self, key, input_size, gates=4, dtype=dtype)
        b = initializers.gate_bias(self, key_f, b, 1, self.forget_bias, opposite=0)
        return LSTMParams(w_x=w_x, w_h=w_h, b=b)

    def init_carry(self, params: LSTMParams, like: Array) -> LSTMCarry:
        return LSTMCarry(h=zeros(like, self.hidden_size), c=zeros(like, self.hidden_size))

    def project(self, params: LSTMParams, xs: Array, noise: Any = None) -> Array:
        return linear(xs, params.w_x, params.b)  # [..., 4, H]

    def step(
        self, params: LSTMParams, carry: LSTMCarry, u: Array, dot: Dot = dot
    ) -> tuple[LSTMCarry, Array]:
        sigmoid, tanh = functions(self)
        i, f, g, o = gates(u + dot(carry.h, params.w_h))
        c = sigmoid(f) * carry.c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(c)
        return LSTMCarry(h=h, c=c), h


class LSTMPParams(NamedTuple):
    w_x: Array  # [I, 4, H], gates i f g o
    w_h: Array  # [P, 4, H]
    b: Array | None  # [4 * H]
    w_p: Array  # [H, P]


@dataclasses.dataclass(frozen=True)
class LSTMPCell(Cell):
    """The LSTM whose hidden state is projected to fewer units; y = h'.

        i, f, g, o = W_x x + W_h h + b
        c' = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h' = W_p (sigmoid(o) * tanh(c'))

    Args:
        hidden_size: H, the size of c.
        proj_size: P, the size of h and of the output, below H.
        forget_bias, recurrent_init, input_init, bias, init_scheme: as in `LSTMCell`; `w_p` is drawn
            by `input_init`.
        activation, recurrent_activation: as in `LSTMCell`.

    Source: Sak et al. 2014, arXiv:1402.1128, without its second projection;
    `torch.nn.LSTM(proj_size=P)`.
    """

    hidden_size: int
    proj_size: int
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
        check_size("proj_size", self.proj_size)
        if self.proj_size >= self.hidden_size:
            raise ValueError(
                f"proj_size={self.proj_size} must be below hidden_size={self.hidden_size}."
            )

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> LSTMPParams:
        key, key_f, key_p = jax.random.split(key, 3)
        P = self.proj_size
        H = self.hidden_size
        w_x, w_h, b = initializers.parameters(
            self, key, input_size, gates=4, dtype=dtype, recurrent_size=P
        )
        draw = initializers.TorchUniform(H) if self.init_scheme == "torch" else self.input_init
        w_p = initializers.kernel(draw, key_p, H, 1, P, dtype)[:, 0]
        b = initializers.gate_bias(self, key_f, b, 1, self.forget_bias, opposite=0)
        return LSTMPParams(w_x=w_x, w_h=w_h, b=b, w_p=w_p)

    def init_carry(self, params: LSTMPParams, like: Array) -> LSTMCarry:
        return LSTMCarry(h=zeros(like, self.proj_size), c=zeros(like, self.hidden_size))

    def project(self, params: LSTMPParams, xs: Array, noise: Any = None) -> Array:
        return linear(xs, params.w_x, params.b)  # [..., 4, H]

    def step(
        self, params: LSTMPParams, carry: LSTMCarry, u: Array, dot: Dot = dot
    ) -> tuple[LSTMCarry, Array]:
        sigmoid, tanh = functions(self)
        i, f, g, o = gates(u + dot(carry.h, params.w_h))
        c = sigmoid(f) * carry.c + sigmoid(i) * tanh(g)
        h = dot(sigmoid(o) * tanh(c), params.w_p)
        return LSTMCarry(h=h, c=c), h
