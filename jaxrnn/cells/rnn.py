"""The simple (Elman) recurrent network."""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxrnn import initializers
from jaxrnn.cell import Array, Cell, Dot, DType, dot, gates, linear, zeros
from jaxrnn.cells.activations import Activation, function
from jaxrnn.cells.options import check_options
from jaxrnn.initializers import Initializer


class RNNParams(NamedTuple):
    w_x: Array  # [I, 1, H]
    w_h: Array  # [H, 1, H]
    b: Array | None  # [H]


class RNNCarry(NamedTuple):
    h: Array  # [..., H]


@dataclasses.dataclass(frozen=True)
class RNNCell(Cell):
    """The Elman cell; y = h'.

        h' = tanh(W_x x + W_h h + b)

    Args:
        hidden_size: H.
        nonlinearity: "tanh", "relu", another name, or a function of arrays.
        recurrent_init: initialiser of `w_h`, a name or one of `jaxrnn.initializers`.
        input_init: initialiser of `w_x`.
        bias: False leaves the bias out.
        init_scheme: "jaxrnn", or "torch", which draws everything from U(+-1/sqrt(H)), and is
            refused together with another initialiser.

    Source: Elman 1990, "Finding structure in time"; `torch.nn.RNN`. Differs: torch has two biases,
    of which this is the sum.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.RNNCell(hidden_size=4, nonlinearity="relu")
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> carry, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((5, 2, 3)))
        >>> ys.shape
        (5, 2, 4)
    """

    hidden_size: int
    nonlinearity: Activation = "tanh"
    _: dataclasses.KW_ONLY
    recurrent_init: Initializer = "orthogonal"
    input_init: Initializer = "lecun_normal"
    bias: bool = True
    init_scheme: str = "jaxrnn"

    def __post_init__(self) -> None:
        check_options(self)

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> RNNParams:
        return RNNParams(*initializers.parameters(self, key, input_size, gates=1, dtype=dtype))

    def init_carry(self, params: RNNParams, like: Array) -> RNNCarry:
        return RNNCarry(h=zeros(like, self.hidden_size))

    def project(self, params: RNNParams, xs: Array, noise: Any = None) -> Array:
        return linear(xs, params.w_x, params.b)  # [..., 1, H]

    def step(
        self, params: RNNParams, carry: RNNCarry, u: Array, dot: Dot = dot
    ) -> tuple[RNNCarry, Array]:
        (a,) = gates(u + dot(carry.h, params.w_h))
        h = function(self.nonlinearity)(a)
        return RNNCarry(h=h), h
