"""A convolution over the inputs seen last."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.cell import Array, Cell, Dot, DType, carry_dtype, dot, plus, zeros
from jaxrnn.checks import check_flag, check_size


class CausalConvParams(NamedTuple):
    w: Array  # [width, I], for x_t first
    b: Array | None  # [I]


class CausalConvCarry(NamedTuple):
    before: tuple[Array, ...]  # the last width - 1 inputs, the newest first, [..., I] each


@dataclasses.dataclass(frozen=True)
class CausalConvCell(Cell):
    """A convolution over the last inputs, each feature by itself (depthwise):
    y_t = w_0 x_t + w_1 x_{t-1} + ... + b; inputs are 0 before the first.

    In a `Stack` it stands before a recurrent cell, as in the blocks of Mamba, Griffin and ParaRNN.
    Its state is the last `width - 1` inputs, so that it streams, and what is masked or comes before
    a reset is not seen.

    Args:
        width: how many inputs, that of the step itself among them.
        bias: False leaves b out.

    Source: De et al. 2024, arXiv:2402.19427, section 2.3, with width 4; torch's
    `Conv1d(I, I, width, groups=I)` with `width - 1` zeros before the sequence, whose kernel runs
    the other way: `weight[:, 0, ::-1].T` is `w`.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.cells.CausalConvCell(width=4)
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> carry, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((5, 2, 3)))
        >>> ys.shape, len(carry.before)
        ((5, 2, 3), 3)
    """

    width: int = 4
    _: dataclasses.KW_ONLY
    bias: bool = True

    def __post_init__(self) -> None:
        check_size("width", self.width)
        check_flag("bias", self.bias)

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> CausalConvParams:
        check_size("input_size", input_size)
        # one output sees `width` numbers: the variance of the inputs is kept
        wide = carry_dtype(dtype)
        w = jax.random.normal(key, (self.width, input_size), wide) / self.width**0.5
        b = jnp.zeros(input_size, dtype) if self.bias else None
        return CausalConvParams(w=w.astype(dtype), b=b)

    def input_size(self, params: CausalConvParams) -> int:
        return params.w.shape[-1]

    def init_carry(self, params: CausalConvParams, like: Array) -> CausalConvCarry:
        return CausalConvCarry(before=(zeros(like, params.w.shape[-1]),) * (self.width - 1))

    def project(self, params: CausalConvParams, xs: Array, noise: Any = None) -> Any:
        return xs, plus(xs * params.w[0], params.b)

    def step(
        self, params: CausalConvParams, carry: CausalConvCarry, u: Any, dot: Dot = dot
    ) -> tuple[CausalConvCarry, Array]:
        x, y = u
        for w, past in zip(params.w[1:], carry.before, strict=True):
            y = y + w * past
        return CausalConvCarry(before=(x, *carry.before)[:-1]), y
