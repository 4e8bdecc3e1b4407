"""The LSTM whose gates see the cell."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import initializers
from jaxrnn.cell import Array, Cell, Dot, DType, dot, gates, linear, zeros
from jaxrnn.cells.activations import Activation, functions
from jaxrnn.cells.lstm import LSTMCarry, LSTMCell
from jaxrnn.cells.options import check_options
from jaxrnn.initializers import Chrono, Initializer


class PeepholeLSTMParams(NamedTuple):
    w_x: Array  # [I, 4, H], gates i f g o
    w_h: Array  # [H, 4, H]
    b: Array | None  # [4 * H]
    p_i: Array  # [H]
    p_f: Array  # [H]
    p_o: Array  # [H]


@dataclasses.dataclass(frozen=True)
class PeepholeLSTMCell(Cell):
    """The LSTM with peepholes: i and f see the old cell, o the new one, each unit its own; y = h'.

        i, f, g, o = W_x x + W_h h + b
        c' = sigmoid(f + p_f * c) * c + sigmoid(i + p_i * c) * tanh(g)
        h' = sigmoid(o + p_o * c') * tanh(c')

    Args:
        hidden_size: H.
        forget_bias, recurrent_init, input_init, bias, init_scheme: as in `LSTMCell`. The peepholes
            are zeros, and with the torch scheme uniform like all else; `bias=False` leaves them in.
        activation, recurrent_activation: as in `LSTMCell`.

    Source: Gers & Schmidhuber 2000, "Recurrent nets that time and count"; Graves 2013,
    arXiv:1308.0850, eq. 7-11.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.cells.PeepholeLSTMCell(hidden_size=4)
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> carry, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((5, 2, 3)))
        >>> params.p_i.shape, ys.shape
        ((4,), (5, 2, 4))
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

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> PeepholeLSTMParams:
        key, key_c = jax.random.split(key)
        options = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        w_x, w_h, b = LSTMCell(**options).init(key, input_size, dtype)
        peepholes = jnp.zeros((3, self.hidden_size), dtype)
        if self.init_scheme == "torch":
            draw = initializers.TorchUniform(self.hidden_size)
            peepholes = draw(key_c, peepholes.shape, dtype)
        p_i, p_f, p_o = peepholes
        return PeepholeLSTMParams(w_x=w_x, w_h=w_h, b=b, p_i=p_i, p_f=p_f, p_o=p_o)

    def init_carry(self, params: PeepholeLSTMParams, like: Array) -> LSTMCarry:
        return LSTMCarry(h=zeros(like, self.hidden_size), c=zeros(like, self.hidden_size))

    def project(self, params: PeepholeLSTMParams, xs: Array, noise: Any = None) -> Array:
        return linear(xs, params.w_x, params.b)  # [..., 4, H]

    def step(
        self, params: PeepholeLSTMParams, carry: LSTMCarry, u: Array, dot: Dot = dot
    ) -> tuple[LSTMCarry, Array]:
        sigmoid, tanh = functions(self)
        i, f, g, o = gates(u + dot(carry.h, params.w_h))
        i = sigmoid(i + params.p_i * carry.c)
        f = sigmoid(f + params.p_f * carry.c)
        c = f * carry.c + i * tanh(g)
        h = sigmoid(o + params.p_o * c) * tanh(c)
        return LSTMCarry(h=h, c=c), h
