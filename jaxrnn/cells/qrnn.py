"""The quasi-recurrent neural network: gates that see the last inputs alone."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import sigmoid
from jax.numpy import tanh

from jaxrnn import initializers
from jaxrnn.cell import Array, Cell, Dot, DType, dot, gates, linear, plus, zeros
from jaxrnn.cells.causal_conv import CausalConvCarry
from jaxrnn.cells.options import check_draws, check_gate_biases
from jaxrnn.cells.sru import SRUCarry
from jaxrnn.checks import check_size, in_order
from jaxrnn.initializers import Chrono, Initializer


class QRNNParams(NamedTuple):
    w_x: Array  # [width * I, 3, H], gates z f o; x_t first
    b: Array | None  # [3 * H]


class QRNNCarry(NamedTuple):
    before: tuple[Array, ...]  # the last width - 1 inputs, the newest first, [..., I] each
    c: Array  # [..., H]


@dataclasses.dataclass(frozen=True)
class QRNNCell(Cell):
    """The quasi-recurrent neural network, of which each gate is a convolution of the last inputs.

        z, f, o = W window + b
        c' = sigmoid(f) * c + (1 - sigmoid(f)) * tanh(z)
        y = sigmoid(o) * c'

    The window is x_t, x_{t-1}, ..., x_{t-width+1} side by side; inputs are 0 before the first. A
    sequence runs in two parts: windows, which need no loop, and a recurrence that is linear in its
    state.

    Args:
        hidden_size: H.
        width: how many inputs a gate sees.
        forget_bias: the initial bias of the gate f. `Chrono(max_lag)` draws
            b_f = log U(1, max_lag - 1).
        input_init, bias: as in `MinGRUCell`.

    Source: Bradbury et al. 2016, arXiv:1611.01576, section 2.1, "fo-pooling". In the
    authors' code f is the gate of what is new: the rows of f have the other sign there.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.cells.QRNNCell(hidden_size=4, width=3)
        >>> params = cell.init(jax.random.key(0), input_size=2)
        >>> carry, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((5, 7, 2)))
        >>> ys.shape, [x.shape for x in carry.before]
        ((5, 7, 4), [(7, 2), (7, 2)])
    """

    hidden_size: int
    width: int = 2
    _: dataclasses.KW_ONLY
    forget_bias: float | Chrono = 0.0
    input_init: Initializer = "lecun_normal"
    bias: bool = True
    elementwise = False

    def __post_init__(self) -> None:
        check_draws(self, "input_init")
        check_size("width", self.width)
        check_gate_biases(self, "forget_bias")

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> QRNNParams:
        check_size("input_size", input_size)
        key, key_f = jax.random.split(key)
        H = self.hidden_size
        w_x = initializers.kernel(self.input_init, key, self.width * input_size, 3, H, dtype)
        b = jnp.zeros(3 * H, dtype) if self.bias else None
        b = initializers.gate_bias(self, key_f, b, 1, self.forget_bias)
        return QRNNParams(w_x=w_x, b=b)

    def input_size(self, params: QRNNParams) -> int:
        return params.w_x.shape[0] // self.width

    def init_carry(self, params: QRNNParams, like: Array) -> QRNNCarry:
        seen = Window(self.width).init_carry(None, like)
        return QRNNCarry(before=seen.before, c=zeros(like, self.hidden_size))

    def project(self, params: QRNNParams, xs: Array, noise: Any = None) -> Array:
        return xs

    def step(
        self, params: QRNNParams, carry: QRNNCarry, u: Array, dot: Dot = dot
    ) -> tuple[QRNNCarry, Array]:
        seen, window = Window(self.width).step(None, CausalConvCarry(carry.before), u)
        b = None if params.b is None else params.b.reshape(params.w_x.shape[1:])
        c, y = pooled(carry.c, plus(dot(window, params.w_x), b))
        return QRNNCarry(before=seen.before, c=c), y

    def unroll_layers(
        self,
        run: Any,
        params: QRNNParams,
        xs: Array,
        carry: QRNNCarry | None,
        noise: Any,
        reverse: bool,
    ) -> tuple[QRNNCarry, Array]:
        """The windows of the whole sequence, and then the states."""
        if not isinstance(params, QRNNParams):
            raise ValueError(f"params of QRNNCell are QRNNParams, got {type(params).__name__}.")
        before, c = in_order(carry, QRNNCarry._fields) or (None, None)
        before = None if before is None else CausalConvCarry(before)
        c = None if c is None else SRUCarry(c)
        seen, windows = run(Window(self.width), (), xs, before, noise=None, reverse=reverse)
        pooling = Pooling(self.hidden_size, self.bias)
        last, ys = run(pooling, params, windows, c, noise=None, reverse=reverse)
        return QRNNCarry(before=seen.before, c=last.c), ys


@dataclasses.dataclass(frozen=True)
class Window(Cell):
    """The last inputs side by side."""

    width: int
    elementwise = False

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> tuple[()]:
        return ()

    def init_carry(self, params: Any, like: Array) -> CausalConvCarry:
        return CausalConvCarry(before=(zeros(like, like.shape[-1]),) * (self.width - 1))

    def project(self, params: Any, xs: Array, noise: Any = None) -> Array:
        return xs

    def step(
        self, params: Any, carry: CausalConvCarry, u: Array, dot: Dot = dot
    ) -> tuple[CausalConvCarry, Array]:
        seen = (u, *carry.before)
        return CausalConvCarry(before=seen[:-1]), jnp.concatenate(seen, axis=-1)


@dataclasses.dataclass(frozen=True)
class Pooling(Cell):
    """The states, from windows."""

    hidden_size: int
    bias: bool

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> QRNNParams:
        return QRNNCell(self.hidden_size, width=1, bias=self.bias).init(key, input_size, dtype)

    def init_carry(self, params: QRNNParams, like: Array) -> SRUCarry:
        return SRUCarry(c=zeros(like, self.hidden_size))

    def project(self, params: QRNNParams, xs: Array, noise: Any = None) -> Array:
        return linear(xs, params.w_x, params.b)  # [..., 3, H]

    def step(
        self, params: QRNNParams, carry: SRUCarry, u: Array, dot: Dot = dot
    ) -> tuple[SRUCarry, Array]:
        c, y = pooled(carry.c, u)
        return SRUCarry(c=c), y


def pooled(c: Array, a: Array) -> tuple[Array, Array]:
    """The state after a step, and its output, of the sums of the gates [..., 3, H]."""
    z, f, o = gates(a)
    f = sigmoid(f)
    c = f * c + (1 - f) * tanh(z)
    return c, sigmoid(o) * c
