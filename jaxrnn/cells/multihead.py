"""Cells whose recurrent kernel is block-diagonal: hidden units see those of their own head only."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import sigmoid
from jax.numpy import tanh

from jaxrnn import initializers
from jaxrnn.cell import Array, Cell, Dot, DType, dot, gates, linear, zeros
from jaxrnn.cells.gru import GRUCarry
from jaxrnn.cells.lstm import LSTMCarry
from jaxrnn.cells.rnn import NONLINEARITIES, RNNCarry
from jaxrnn.checks import check_size
from jaxrnn.initializers import Chrono, Initializer


def block_diagonal(v: Array, w: Array) -> Array:
    """Each head's units times its own block: v [..., N*P], w [N, P, G, P] -> [..., G, N*P]."""
    N, P = w.shape[:2]
    a = jnp.einsum("...np,npgq->...gnq", v.reshape(*v.shape[:-1], N, P), w)
    return a.reshape(*a.shape[:-2], -1)


class MultiHeadRNNParams(NamedTuple):
    w_x: Array  # [I, 1, H]
    w_h: Array  # [N, P, 1, P], N heads of P = H / N units
    b: Array | None  # [1, H]


@dataclasses.dataclass(frozen=True)
class MultiHeadRNNCell(Cell):
    """The Elman cell with a block-diagonal W_h: h' = tanh(W_x x + W_h h + b), y = h'.

    Args:
        hidden_size: H, a multiple of `heads`.
        heads: N, the number of blocks.
        nonlinearity, recurrent_init, input_init, bias, init_scheme: as in `RNNCell`; each block is
            drawn for itself.

    Source: Beck et al. 2024, arXiv:2405.04517, section 2.2 (the heads of the sLSTM).
    """

    hidden_size: int
    heads: int
    nonlinearity: str = "tanh"
    _: dataclasses.KW_ONLY
    recurrent_init: Initializer = "orthogonal"
    input_init: Initializer = "lecun_normal"
    bias: bool = True
    init_scheme: str = "jaxrnn"

    def __post_init__(self) -> None:
        _check(self)
        if self.nonlinearity not in NONLINEARITIES:
            raise ValueError(f"nonlinearity must be 'tanh' or 'relu', got {self.nonlinearity!r}.")

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> MultiHeadRNNParams:
        return MultiHeadRNNParams(*_parameters(self, key, input_size, gates=1, dtype=dtype))

    def init_carry(self, params: MultiHeadRNNParams, like: Array) -> RNNCarry:
        return RNNCarry(h=zeros(like, self.hidden_size))

    def project(self, params: MultiHeadRNNParams, xs: Array, noise: Any = None) -> Array:
        return linear(xs, params.w_x, params.b)  # [..., 1, H]

    def step(
        self, params: MultiHeadRNNParams, carry: RNNCarry, u: Array, dot: Dot = dot
    ) -> tuple[RNNCarry, Array]:
        (a,) = gates(u + dot(carry.h, params.w_h, op=block_diagonal))
        h = NONLINEARITIES[self.nonlinearity](a)
        return RNNCarry(h=h), h


class MultiHeadLSTMParams(NamedTuple):
    w_x: Array  # [I, 4, H], gates i f g o
    w_h: Array  # [N, P, 4, P], N heads of P = H / N units
    b: Array | None  # [4, H]


@dataclasses.dataclass(frozen=True)
class MultiHeadLSTMCell(Cell):
    """The LSTM with a block-diagonal W_h for each gate, all else as in `LSTMCell`.

    Args:
        hidden_size: H, a multiple of `heads`.
        heads: N, the number of blocks.
        forget_bias, recurrent_init, input_init, bias, init_scheme: as in `LSTMCell`; each block is
            drawn for itself.

    Source: Beck et al. 2024, arXiv:2405.04517, section 2.2 (the heads of the sLSTM). Differs: the
    gates are those of the LSTM.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.MultiHeadLSTMCell(hidden_size=6, heads=2)
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> carry, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((5, 2, 3)))
        >>> params.w_h.shape, ys.shape
        ((2, 3, 4, 3), (5, 2, 6))
    """

    hidden_size: int
    heads: int
    _: dataclasses.KW_ONLY
    forget_bias: float | Chrono = 1.0
    recurrent_init: Initializer = "orthogonal"
    input_init: Initializer = "lecun_normal"
    bias: bool = True
    init_scheme: str = "jaxrnn"

    def __post_init__(self) -> None:
        _check(self, self.forget_bias)

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> MultiHeadLSTMParams:
        key, key_f = jax.random.split(key)
        w_x, w_h, b = _parameters(self, key, input_size, gates=4, dtype=dtype)
        if b is not None and self.init_scheme != "torch":
            b_f = initializers.gate_bias(self.forget_bias, key_f, self.hidden_size, dtype)
            b_i = -b_f if isinstance(self.forget_bias, Chrono) else b[0]
            b = b.at[0].set(b_i).at[1].set(b_f)
        return MultiHeadLSTMParams(w_x=w_x, w_h=w_h, b=b)

    def init_carry(self, params: MultiHeadLSTMParams, like: Array) -> LSTMCarry:
        return LSTMCarry(h=zeros(like, self.hidden_size), c=zeros(like, self.hidden_size))

    def project(self, params: MultiHeadLSTMParams, xs: Array, noise: Any = None) -> Array:
        return linear(xs, params.w_x, params.b)  # [..., 4, H]

    def step(
        self, params: MultiHeadLSTMParams, carry: LSTMCarry, u: Array, dot: Dot = dot
    ) -> tuple[LSTMCarry, Array]:
        i, f, g, o = gates(u + dot(carry.h, params.w_h, op=block_diagonal))
        c = sigmoid(f) * carry.c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(c)
        return LSTMCarry(h=h, c=c), h


class MultiHeadGRUParams(NamedTuple):
    w_x: Array  # [I, 3, H], gates r z n
    w_h: Array  # [N, P, 3, P], N heads of P = H / N units
    b: Array | None  # [3, H]
    b_hn: Array | None  # [H]


@dataclasses.dataclass(frozen=True)
class MultiHeadGRUCell(Cell):
    """The GRU with a block-diagonal W_h for each gate, all else as in `GRUCell`.

    Args:
        hidden_size: H, a multiple of `heads`.
        heads: N, the number of blocks.
        update_bias, recurrent_init, input_init, bias, init_scheme: as in `GRUCell`; each block is
            drawn for itself.

    Source: Beck et al. 2024, arXiv:2405.04517, section 2.2 (the heads of the sLSTM). Differs: the
    gates are those of the GRU.
    """

    hidden_size: int
    heads: int
    _: dataclasses.KW_ONLY
    update_bias: float | Chrono = 0.0
    recurrent_init: Initializer = "orthogonal"
    input_init: Initializer = "lecun_normal"
    bias: bool = True
    init_scheme: str = "jaxrnn"

    def __post_init__(self) -> None:
        _check(self, self.update_bias)

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> MultiHeadGRUParams:
        key, key_z, key_n = jax.random.split(key, 3)
        w_x, w_h, b = _parameters(self, key, input_size, gates=3, dtype=dtype)
        b_hn = None if b is None else jnp.zeros(self.hidden_size, dtype)
        if b is not None and self.init_scheme == "torch":
            b_hn = initializers.TorchUniform(self.hidden_size)(key_n, (self.hidden_size,), dtype)
        elif b is not None:
            b = b.at[1].set(
                initializers.gate_bias(self.update_bias, key_z, self.hidden_size, dtype)
            )
        return MultiHeadGRUParams(w_x=w_x, w_h=w_h, b=b, b_hn=b_hn)

    def init_carry(self, params: MultiHeadGRUParams, like: Array) -> GRUCarry:
        return GRUCarry(h=zeros(like, self.hidden_size))

    def project(self, params: MultiHeadGRUParams, xs: Array, noise: Any = None) -> Array:
        return linear(xs, params.w_x, params.b)  # [..., 3, H]

    def step(
        self, params: MultiHeadGRUParams, carry: GRUCarry, u: Array, dot: Dot = dot
    ) -> tuple[GRUCarry, Array]:
        u_r, u_z, u_n = gates(u)
        a_r, a_z, a_n = gates(dot(carry.h, params.w_h, op=block_diagonal))
        a_n = a_n if params.b_hn is None else a_n + params.b_hn
        r = sigmoid(u_r + a_r)
        z = sigmoid(u_z + a_z)
        n = tanh(u_n + r * a_n)
        h = (1 - z) * n + z * carry.h
        return GRUCarry(h=h), h


def _check(cell: Any, *biases: float | Chrono) -> None:
    initializers.check_options(cell, *biases)
    check_size("heads", cell.heads)
    if cell.hidden_size % cell.heads:
        raise ValueError(
            f"hidden_size={cell.hidden_size} must be a multiple of heads={cell.heads}."
        )


def _parameters(
    cell: Any, key: Array, input_size: int, gates: int, dtype: DType
) -> tuple[Array, Array, Array | None]:
    """w_x [I, G, H], w_h [N, P, G, P], b [G, H]."""
    key, key_h = jax.random.split(key)
    w_x, _, b = initializers.parameters(
        cell, key, input_size, gates, dtype, recurrent_size=1
    )  # a dense w_h would be N times ours
    draw = (
        initializers.TorchUniform(cell.hidden_size)
        if cell.init_scheme == "torch"
        else cell.recurrent_init
    )
    P = cell.hidden_size // cell.heads
    blocks = [
        initializers.kernel(draw, k, P, gates, P, dtype)
        for k in jax.random.split(key_h, cell.heads)
    ]
    return w_x, jnp.stack(blocks), b
