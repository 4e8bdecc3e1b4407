"""Cells whose sums are normalised over the hidden units, at every step for itself.

N(a) has mean 0 and variance 1 over all units of the gates that are normalised together; a scale and
a bias follow it.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax.numpy as jnp

from jaxrnn.cell import Array, Cell, Dot, DType, carry_dtype, cast, dot, gates, zeros
from jaxrnn.cells.activations import Activation, function, functions
from jaxrnn.cells.gru import GRUCarry, GRUCell
from jaxrnn.cells.lstm import LSTMCarry, LSTMCell
from jaxrnn.cells.options import make_float
from jaxrnn.cells.rnn import RNNCarry, RNNCell
from jaxrnn.initializers import Chrono, Initializer

Plain = TypeVar("Plain", RNNCell, LSTMCell, GRUCell)


class LayerNormRNNParams(NamedTuple):
    w_x: Array  # [I, 1, H]
    w_h: Array  # [H, 1, H]
    b: Array | None  # [H]
    scale: Array  # [H]


@dataclasses.dataclass(frozen=True)
class LayerNormRNNCell(Cell):
    """The Elman cell with layer norm of its sum; y = h'.

        h' = tanh(scale * N(W_x x + W_h h) + b)

    Args:
        hidden_size, nonlinearity, recurrent_init, input_init, bias, init_scheme: as in `RNNCell`.
            The scale starts at 1.
        epsilon: added to the variance; above 0.

    Source: Ba et al. 2016, arXiv:1607.06450, eq. 4.
    """

    hidden_size: int
    nonlinearity: Activation = "tanh"
    _: dataclasses.KW_ONLY
    epsilon: float = 1e-5
    recurrent_init: Initializer = "orthogonal"
    input_init: Initializer = "lecun_normal"
    bias: bool = True
    init_scheme: str = "jaxrnn"
    elementwise = False

    def __post_init__(self) -> None:
        _check(self, RNNCell)

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> LayerNormRNNParams:
        w_x, w_h, b = _plain(self, RNNCell).init(key, input_size, dtype)
        return LayerNormRNNParams(w_x=w_x, w_h=w_h, b=b, scale=jnp.ones(self.hidden_size, dtype))

    def init_carry(self, params: LayerNormRNNParams, like: Array) -> RNNCarry:
        return RNNCarry(h=zeros(like, self.hidden_size))

    def project(self, params: LayerNormRNNParams, xs: Array, noise: Any = None) -> Array:
        return dot(xs, params.w_x)  # [..., 1, H]

    def step(
        self, params: LayerNormRNNParams, carry: RNNCarry, u: Array, dot: Dot = dot
    ) -> tuple[RNNCarry, Array]:
        (normal,) = gates(_normal(u + dot(carry.h, params.w_h), self.epsilon))
        h = function(self.nonlinearity)(_plus(params.scale * normal, params.b))
        return RNNCarry(h=h), h


class LayerNormLSTMParams(NamedTuple):
    w_x: Array  # [I, 4, H], gates i f g o
    w_h: Array  # [H, 4, H]
    b: Array | None  # [4 * H]
    scale_x: Array  # [4 * H]
    scale_hi: Array  # [H]
    scale_hf: Array  # [H]
    scale_hg: Array  # [H]
    scale_ho: Array  # [H]
    scale_c: Array  # [H]
    b_c: Array | None  # [H]


@dataclasses.dataclass(frozen=True)
class LayerNormLSTMCell(Cell):
    """The LSTM with layer norm of both products, all gates together,
    and of the cell where the output sees it; y = h'.

        i, f, g, o = scale_x * N(W_x x) + scale_h * N(W_h h) + b
        c' = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h' = sigmoid(o) * tanh(scale_c * N(c') + b_c)

    The c in the carry is not normalised.

    Args:
        hidden_size, forget_bias, recurrent_init, input_init, bias, init_scheme: as in `LSTMCell`.
            Scales start at 1, b_c at 0.
        activation, recurrent_activation: as in `LSTMCell`.
        epsilon: added to the variances; above 0.

    Source: Ba et al. 2016, arXiv:1607.06450, eq. 20-22. Differs: b is the sum of the paper's three.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.cells.LayerNormLSTMCell(hidden_size=4)
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> carry, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((5, 2, 3)))
        >>> ys.shape, carry.c.shape
        ((5, 2, 4), (2, 4))
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
    epsilon: float = 1e-5
    forget_bias: float | Chrono = 1.0
    recurrent_init: Initializer = "orthogonal"
    input_init: Initializer = "lecun_normal"
    bias: bool = True
    init_scheme: str = "jaxrnn"
    activation: Activation = "tanh"
    recurrent_activation: Activation = "sigmoid"
    elementwise = False

    def __post_init__(self) -> None:
        _check(self, LSTMCell)

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> LayerNormLSTMParams:
        w_x, w_h, b = _plain(self, LSTMCell).init(key, input_size, dtype)
        names = ("scale_hi", "scale_hf", "scale_hg", "scale_ho", "scale_c")
        return LayerNormLSTMParams(
            w_x=w_x,
            w_h=w_h,
            b=b,
            scale_x=jnp.ones(4 * self.hidden_size, dtype),
            **{name: jnp.ones(self.hidden_size, dtype) for name in names},
            b_c=None if b is None else jnp.zeros(self.hidden_size, dtype),
        )

    def init_carry(self, params: LayerNormLSTMParams, like: Array) -> LSTMCarry:
        return LSTMCarry(h=zeros(like, self.hidden_size), c=zeros(like, self.hidden_size))

    def project(self, params: LayerNormLSTMParams, xs: Array, noise: Any = None) -> Array:
        return _scaled(functools.partial(_normal, epsilon=self.epsilon), params, xs)  # [..., 4, H]

    def step(
        self, params: LayerNormLSTMParams, carry: LSTMCarry, u: Array, dot: Dot = dot
    ) -> tuple[LSTMCarry, Array]:
        sigmoid, tanh = functions(self)
        u_i, u_f, u_g, u_o = gates(u)
        a_i, a_f, a_g, a_o = gates(_normal(dot(carry.h, params.w_h), self.epsilon))
        i = u_i + params.scale_hi * a_i
        f = u_f + params.scale_hf * a_f
        g = u_g + params.scale_hg * a_g
        o = u_o + params.scale_ho * a_o
        c = sigmoid(f) * carry.c + sigmoid(i) * tanh(g)
        seen = _plus(params.scale_c * _normal(c, self.epsilon, axes=(-1,)), params.b_c)
        h = sigmoid(o) * tanh(seen)
        return LSTMCarry(h=h, c=c), h


class LayerNormGRUParams(NamedTuple):
    w_x: Array  # [I, 3, H], gates r z n
    w_h: Array  # [H, 3, H]
    b: Array | None  # [3 * H]
    b_hn: Array | None  # [H]
    scale_x: Array  # [3 * H]
    scale_hr: Array  # [H]
    scale_hz: Array  # [H]
    scale_hn: Array  # [H]


@dataclasses.dataclass(frozen=True)
class LayerNormGRUCell(Cell):
    """The GRU with layer norm of both products, r and z together, n for itself; y = h'.

        r, z = sigmoid(scale_x * N(W_x x) + scale_h * N(W_h h) + b)
        n = tanh(scale_xn * N(W_xn x) + b_n + r * (scale_hn * N(W_hn h) + b_hn))
        h' = (1 - z) * n + z * h

    Args:
        hidden_size, update_bias, recurrent_init, input_init, bias, init_scheme: as in `GRUCell`.
            Scales start at 1.
        activation, recurrent_activation: as in `GRUCell`.
        epsilon: added to the variances; above 0.

    Source: Ba et al. 2016, arXiv:1607.06450, supplementary material. Differs: z keeps the old
    state, as in the authors' code; b is the sum of their biases.
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
    epsilon: float = 1e-5
    update_bias: float | Chrono = 0.0
    recurrent_init: Initializer = "orthogonal"
    input_init: Initializer = "lecun_normal"
    bias: bool = True
    init_scheme: str = "jaxrnn"
    activation: Activation = "tanh"
    recurrent_activation: Activation = "sigmoid"
    elementwise = False

    def __post_init__(self) -> None:
        _check(self, GRUCell)

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> LayerNormGRUParams:
        w_x, w_h, b, b_hn = _plain(self, GRUCell).init(key, input_size, dtype)
        names = ("scale_hr", "scale_hz", "scale_hn")
        return LayerNormGRUParams(
            w_x=w_x,
            w_h=w_h,
            b=b,
            b_hn=b_hn,
            scale_x=jnp.ones(3 * self.hidden_size, dtype),
            **{name: jnp.ones(self.hidden_size, dtype) for name in names},
        )

    def init_carry(self, params: LayerNormGRUParams, like: Array) -> GRUCarry:
        return GRUCarry(h=zeros(like, self.hidden_size))

    def project(self, params: LayerNormGRUParams, xs: Array, noise: Any = None) -> Array:
        return _scaled(self._normal, params, xs)  # [..., 3, H]

    def step(
        self, params: LayerNormGRUParams, carry: GRUCarry, u: Array, dot: Dot = dot
    ) -> tuple[GRUCarry, Array]:
        sigmoid, tanh = functions(self)
        u_r, u_z, u_n = gates(u)
        a_r, a_z, a_n = gates(self._normal(dot(carry.h, params.w_h)))
        r = sigmoid(u_r + params.scale_hr * a_r)
        z = sigmoid(u_z + params.scale_hz * a_z)
        n = tanh(u_n + r * _plus(params.scale_hn * a_n, params.b_hn))
        h = (1 - z) * n + z * carry.h
        return GRUCarry(h=h), h

    def _normal(self, a: Array) -> Array:
        gates = _normal(a[..., :2, :], self.epsilon)
        return jnp.concatenate([gates, _normal(a[..., 2:, :], self.epsilon)], axis=-2)


def _normal(a: Array, epsilon: float, axes: tuple[int, ...] = (-2, -1)) -> Array:
    """N(a), over gates and units together."""
    a = a - jnp.mean(a, axes, keepdims=True)
    return a / jnp.sqrt(jnp.mean(a**2, axes, keepdims=True) + epsilon)


def _scaled(normal: Callable[[Array], Array], params: Any, xs: Array) -> Array:
    """scale_x * N(W_x x) + b, [..., G, H].

    In a 16-bit run sums over units, and the gradients of scales and biases, which are sums over
    rows, need more bits.
    """
    a = dot(xs, params.w_x)
    a, scale, b = cast((a, params.scale_x, params.b), carry_dtype(a.dtype))
    by_gate = a.shape[-2:]
    return _plus(scale.reshape(by_gate) * normal(a), None if b is None else b.reshape(by_gate))


def _plus(a: Array, b: Array | None) -> Array:
    return a if b is None else a + b


def _plain(cell: Any, kind: type[Plain]) -> Plain:
    """The cell of that kind with the options of `cell`."""
    return kind(**{field.name: getattr(cell, field.name) for field in dataclasses.fields(kind)})


def _check(cell: Any, kind: type[Plain]) -> None:
    _plain(cell, kind)
    make_float(cell, "epsilon", zero=False)  # the first state is all zeros, of variance 0
