"""A learned first carry."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.cell import Array, Carry, Dot, DType, Noise, Params, dot
from jaxrnn.wrappers.base import Wrapper, carry_shapes, own


class LearnedParams(NamedTuple):
    inner: Params
    first: Carry  # without batch axes


def _learned_zeros(dtype: DType, shape: Any) -> Array | None:
    """What is learned of one leaf of a carry; None of a counter or a flag."""
    if not jnp.issubdtype(shape.dtype, jnp.floating):
        return None
    return jnp.zeros([max(n, 1) for n in shape.shape], dtype)


@dataclasses.dataclass(frozen=True)
class LearnedInitialCarry(Wrapper):
    """A sequence begins with a learned carry, and begins again with it after a reset;
    it starts at the cell's own (zeros).

    In a stack wrap the cell of each layer.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.wrappers.LearnedInitialCarry(jaxrnn.GRUCell(4))
        >>> cell.init(jax.random.key(0), input_size=3).first.h.shape
        (4,)
    """

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> LearnedParams:
        shapes = carry_shapes(self.cell, (1,) * (self.feature_axes - 1) + (input_size,))
        # A convolution without padding leaves nothing of one pixel: its learned state is the same
        # for all pixels, as others' are.
        first = jax.tree.map(functools.partial(_learned_zeros, dtype), shapes)
        return LearnedParams(inner=self.cell.init(key, input_size, dtype), first=first)

    def input_size(self, params: LearnedParams) -> int | None:
        return self.cell.input_size(own(self, params, LearnedParams).inner)

    def prepare(self, params: LearnedParams) -> LearnedParams:
        return params._replace(inner=self.cell.prepare(params.inner))

    def absorb(self, params: LearnedParams, noise: Noise) -> tuple[LearnedParams, Noise]:
        inner, noise = self.cell.absorb(params.inner, noise)
        return params._replace(inner=inner), noise

    def init_carry(self, params: LearnedParams, like: Array) -> Carry:
        # None is a leaf that is not learned, or one that neither has
        def plus(a: Array | None, b: Array | None) -> Array | None:
            return a if a is None or b is None else a + b

        first = self.cell.init_carry(params.inner, like)
        return jax.tree.map(plus, first, params.first, is_leaf=lambda a: a is None)

    def project(self, params: LearnedParams, xs: Array, noise: Noise = None) -> Any:
        return self.cell.project(params.inner, xs, noise)

    def step(
        self, params: LearnedParams, carry: Carry, u: Any, dot: Dot = dot
    ) -> tuple[Carry, Array]:
        return self.cell.step(params.inner, carry, u, dot)
