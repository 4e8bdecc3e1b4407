"""The recurrent network whose units see of the state themselves alone."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import initializers
from jaxrnn.cell import Array, Cell, Dot, DType, carry_dtype, dot, gates, linear, zeros
from jaxrnn.cells.activations import Activation, check_activations, function
from jaxrnn.cells.options import check_draws, make_float
from jaxrnn.cells.rnn import RNNCarry
from jaxrnn.checks import check_number, check_size
from jaxrnn.initializers import Initializer


class IndRNNParams(NamedTuple):
    w_x: Array  # [I, 1, H]
    w_h: Array  # [H]
    b: Array | None  # [H]


@dataclasses.dataclass(frozen=True)
class IndRNNCell(Cell):
    """The independently recurrent network, one recurrent weight per unit; y = h'.

        h' = relu(W_x x + w_h * h + b)

    Units meet in the next layer: stack several. Over T steps a gradient grows or decays as |w_h|^T,
    which the paper holds in bounds by `max_recurrent=2 ** (1 / T)`; a layer that is to remember
    begins near 1.

    Args:
        hidden_size: H.
        nonlinearity: "relu", "tanh", another name, or a function of arrays.
        recurrent_range: (low, high): `w_h` is drawn from U(low, high).
        max_recurrent: where `w_h` is used it is clipped to at most so much on either side of 0;
            None leaves it. A weight beyond has no gradient.
        input_init: initialiser of `w_x`, a name or one of `jaxrnn.initializers`.
        bias: False leaves the bias out.

    Source: Li et al. 2018, arXiv:1803.04831. Differs: the weight that is used is clipped, not
    the one that is trained, and there is no batch norm.

    Example:
        >>> import jax, jaxrnn
        >>> last = jaxrnn.cells.IndRNNCell(4, recurrent_range=(0.9, 1.0))
        >>> stack = jaxrnn.Stack((jaxrnn.cells.IndRNNCell(8), last))
        >>> params = stack.init(jax.random.key(0), input_size=3)
        >>> carries, ys = jaxrnn.unroll(stack, params, jax.numpy.ones((5, 2, 3)))
        >>> ys.shape
        (5, 2, 4)
    """

    hidden_size: int
    nonlinearity: Activation = "relu"
    _: dataclasses.KW_ONLY
    recurrent_range: tuple[float, float] = (0.0, 1.0)
    max_recurrent: float | None = None
    input_init: Initializer = "lecun_normal"
    bias: bool = True

    def __post_init__(self) -> None:
        check_draws(self, "input_init")
        check_activations(self, "nonlinearity")
        if self.max_recurrent is not None:
            make_float(self, "max_recurrent", zero=False)
        if not (isinstance(self.recurrent_range, tuple) and len(self.recurrent_range) == 2):
            raise ValueError(
                f"recurrent_range must be a tuple (low, high), got {self.recurrent_range!r}."
            )
        for end in self.recurrent_range:
            check_number("each of recurrent_range", end)
        if not self.recurrent_range[0] <= self.recurrent_range[1]:
            raise ValueError(
                "recurrent_range must be (low, high) with low <= high, "
                f"got {self.recurrent_range!r}."
            )

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> IndRNNParams:
        check_size("input_size", input_size)
        key_x, key_h = jax.random.split(key)
        w_x = initializers.kernel(self.input_init, key_x, input_size, 1, self.hidden_size, dtype)
        w_h = jax.random.uniform(
            key_h, (self.hidden_size,), carry_dtype(dtype), *self.recurrent_range
        ).astype(dtype)
        return IndRNNParams(
            w_x=w_x, w_h=w_h, b=jnp.zeros(self.hidden_size, dtype) if self.bias else None
        )

    def prepare(self, params: IndRNNParams) -> IndRNNParams:
        if self.max_recurrent is None:
            return params
        return params._replace(w_h=params.w_h.clip(-self.max_recurrent, self.max_recurrent))

    def init_carry(self, params: IndRNNParams, like: Array) -> RNNCarry:
        return RNNCarry(h=zeros(like, self.hidden_size))

    def project(self, params: IndRNNParams, xs: Array, noise: Any = None) -> Array:
        return linear(xs, params.w_x, params.b)  # [..., 1, H]

    def step(
        self, params: IndRNNParams, carry: RNNCarry, u: Array, dot: Dot = dot
    ) -> tuple[RNNCarry, Array]:
        (a,) = gates(u)
        h = function(self.nonlinearity)(a + params.w_h * carry.h)
        return RNNCarry(h=h), h
