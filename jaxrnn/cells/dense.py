"""A linear layer at every step."""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxrnn import initializers
from jaxrnn.cell import Array, Cell, Dot, DType, dot, linear
from jaxrnn.cells.gated_mlp import NoCarry
from jaxrnn.cells.options import check_draws
from jaxrnn.checks import check_size
from jaxrnn.initializers import Initializer


class DenseParams(NamedTuple):
    w_x: Array  # [I, 1, H]
    b: Array | None  # [H]


@dataclasses.dataclass(frozen=True)
class DenseCell(Cell):
    """A linear layer at every step, y = W x + b: for a stack whose first layer wants as many inputs
    as it has outputs (`Block`), and for its end.

    Args:
        hidden_size: H, how many outputs.
        input_init: initialiser of the kernel.
        bias: False leaves b out.

    Source: `torch.nn.Linear`, whose weight is the transposed.

    Example:
        >>> import jax, jaxrnn
        >>> from jaxrnn.wrappers import Block
        >>> cells = (jaxrnn.cells.DenseCell(8), Block(jaxrnn.cells.MinGRUCell(16)))
        >>> stack = jaxrnn.Stack(cells)
        >>> params = stack.init(jax.random.key(0), input_size=3)
        >>> carry, ys = jaxrnn.unroll(stack, params, jax.numpy.ones((5, 2, 3)))
        >>> ys.shape
        (5, 2, 8)
    """

    hidden_size: int
    _: dataclasses.KW_ONLY
    input_init: Initializer = "lecun_normal"
    bias: bool = True
    elementwise = False

    def __post_init__(self) -> None:
        check_draws(self, "input_init")

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> DenseParams:
        check_size("input_size", input_size)
        return DenseParams(
            w_x=initializers.kernel(self.input_init, key, input_size, 1, self.hidden_size, dtype),
            b=jnp.zeros(self.hidden_size, dtype) if self.bias else None,
        )

    def init_carry(self, params: DenseParams, like: Array) -> NoCarry:
        return NoCarry()

    def project(self, params: DenseParams, xs: Array, noise: Any = None) -> Array:
        return linear(xs, params.w_x, params.b)[..., 0, :]

    def step(
        self, params: DenseParams, carry: NoCarry, u: Array, dot: Dot = dot
    ) -> tuple[NoCarry, Array]:
        return carry, u
