"""The block GRU: the sequence model of DreamerV3."""

import dataclasses
import functools
import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.nn import sigmoid, silu
from jax.numpy import tanh

from jaxrnn.cell import Array, Cell, Dot, DType, carry_dtype, dot, gates, linear, zeros
from jaxrnn.cells.blocks import block_diagonal
from jaxrnn.cells.gru import GRUCarry
from jaxrnn.checks import check_flag, check_number, check_size
from jaxrnn.initializers import kernel


class BlockGRUParams(NamedTuple):
    w_x: Array  # [I, D], below each other those of the K parts of the input
    b_x: Array | None  # [K * D]
    scale_x: Array  # [K * D]
    w_h: Array  # [H, D]
    b_h: Array | None  # [D]
    scale_h: Array  # [D]
    w_u: Array  # [K * D, H]
    w_v: Array  # [D, H]
    w_b: Array  # [P, H], a block of P x P for each P units
    b_s: Array | None  # [H]
    scale_s: Array  # [H]
    w_g: Array  # [P, 3, H], blocks; gates r n z
    b_g: Array | None  # [3 * H]


@dataclasses.dataclass(frozen=True)
class BlockGRUCell(Cell):
    """The GRU of blocks that DreamerV3 has for its world model; y = h'.

        u = silu(N(W_x x + b_x))
        v = silu(N(W_h h + b_h))
        s = silu(N(W_u u + W_v v + W_b h + b_s))
        r, n, z = W_g s + b_g
        h' = sigmoid(z - 1) * tanh(sigmoid(r) * n) + (1 - sigmoid(z - 1)) * h

    W_b and W_g are block-diagonal: P = H / blocks units see each other, and what others hold only
    through v, of D units. N divides by the root of the mean square and has a learned scale. Where
    the input has several parts, each has a W_x and an N of its own.

    Args:
        hidden_size: H, a multiple of `blocks`.
        blocks: how many; None is 8, or as many as both 8 and H are multiples of.
        inner_size: D; None is H / 8, as the authors have it.
        parts: the sizes of the parts of the input, such as (stochastic state, action), which add up
            to the input size; () is one part.
        epsilon: added to the mean square; above 0.
        bias: False leaves all biases out.

    Source: Hafner et al. 2023, arXiv:2301.04104, and the authors' `rssm.py`, with their
    initialisation, whose variance of a block counts the inputs of all blocks. Differs: an action
    larger than 1 is not divided by its size, which is left to the caller.

    Example:
        >>> import jax, jaxrnn
        >>> cell = jaxrnn.cells.BlockGRUCell(hidden_size=16, blocks=4, parts=(6, 2))
        >>> params = cell.init(jax.random.key(0), input_size=8)
        >>> carry, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((5, 2, 8)))
        >>> ys.shape, params.w_b.shape
        ((5, 2, 16), (4, 16))
    """

    hidden_size: int
    blocks: int | None = None
    _: dataclasses.KW_ONLY
    inner_size: int | None = None
    parts: tuple[int, ...] = ()
    epsilon: float = 1e-4
    bias: bool = True
    elementwise = False

    def __post_init__(self) -> None:
        check_size("hidden_size", self.hidden_size)
        check_size("blocks", self._blocks)
        check_size("inner_size", self._inner)
        check_number("epsilon", self.epsilon, above=0)
        check_flag("bias", self.bias)
        if not isinstance(self.parts, tuple):
            raise TypeError(f"parts must be a tuple of sizes, got {self.parts!r}.")
        for part in self.parts:
            check_size("each of parts", part)
        if self.hidden_size % self._blocks:
            raise ValueError(
                f"hidden_size={self.hidden_size} must be a multiple of blocks={self.blocks}."
            )

    @property
    def _blocks(self) -> int:
        return math.gcd(self.hidden_size, 8) if self.blocks is None else self.blocks

    @property
    def _inner(self) -> int:
        return max(1, self.hidden_size // 8) if self.inner_size is None else self.inner_size

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> BlockGRUParams:
        check_size("input_size", input_size)
        if self.parts and sum(self.parts) != input_size:
            raise ValueError(f"input_size={input_size} must be the sum of parts={self.parts}.")
        parts = self.parts or (input_size,)
        H = self.hidden_size
        D = self._inner
        P = H // self._blocks
        K = len(parts)
        key_h, key_u, key_v, key_b, key_g, *keys = jax.random.split(key, 5 + K)
        draw = functools.partial(_draw, dtype=dtype)
        fan = H + self._blocks * (K + 1) * D
        w_x = [draw(k, (part, D), part) for k, part in zip(keys, parts, strict=True)]
        zero = functools.partial(jnp.zeros, dtype=dtype) if self.bias else lambda shape: None
        return BlockGRUParams(
            w_x=jnp.concatenate(w_x),
            b_x=zero((K * D,)),
            scale_x=jnp.ones(K * D, dtype),
            w_h=draw(key_h, (H, D), H),
            b_h=zero((D,)),
            scale_h=jnp.ones(D, dtype),
            w_u=draw(key_u, (K * D, H), fan),
            w_v=draw(key_v, (D, H), fan),
            w_b=draw(key_b, (P, H), fan),
            b_s=zero((H,)),
            scale_s=jnp.ones(H, dtype),
            w_g=draw(key_g, (P, 3, H), H),
            b_g=zero((3 * H,)),
        )

    def init_carry(self, params: BlockGRUParams, like: Array) -> GRUCarry:
        return GRUCarry(h=zeros(like, self.hidden_size))

    def project(self, params: BlockGRUParams, xs: Array, noise: Any = None) -> Array:
        ends = list(itertools.accumulate(self.parts or xs.shape[-1:]))
        K = len(ends)
        parts = zip(
            jnp.split(xs, ends[:-1], -1),
            jnp.split(params.w_x, ends[:-1]),
            [None] * K if params.b_x is None else jnp.split(params.b_x, K),
            jnp.split(params.scale_x, K),
            strict=True,
        )
        us = [silu(self._normal(linear(x, w, b), scale)) for x, w, b, scale in parts]
        return linear(jnp.concatenate(us, -1), params.w_u, params.b_s)  # [..., H]

    def step(
        self, params: BlockGRUParams, carry: GRUCarry, u: Array, dot: Dot = dot
    ) -> tuple[GRUCarry, Array]:
        v = _plus(dot(carry.h, params.w_h), params.b_h)
        v = silu(self._normal(v, params.scale_h))
        s = u + dot(v, params.w_v) + dot(carry.h, params.w_b, op=block_diagonal)
        s = silu(self._normal(s, params.scale_s))
        b = None if params.b_g is None else params.b_g.reshape(3, -1)
        r, n, z = gates(_plus(dot(s, params.w_g, op=block_diagonal), b))
        n = tanh(sigmoid(r) * n)
        z = sigmoid(z - 1)
        h = z * n + (1 - z) * carry.h
        return GRUCarry(h=h), h

    def _normal(self, a: Array, scale: Array) -> Array:
        """N: over the root of the mean square, which is taken in 32 bits or more."""
        wide = a.astype(carry_dtype(a.dtype))
        root = lax.rsqrt(jnp.mean(wide**2, axis=-1, keepdims=True) + self.epsilon)
        return (wide * root * scale.astype(wide.dtype)).astype(a.dtype)


def _draw(key: Array, shape: tuple[int, ...], fan: int, dtype: DType) -> Array:
    """A truncated normal distribution of variance 1 / fan."""
    rows, *gates, units = shape
    drawn = kernel("lecun_normal", key, rows, math.prod(gates), units, dtype)
    return (drawn * math.sqrt(rows / fan)).reshape(shape)


def _plus(a: Array, b: Array | None) -> Array:
    return a if b is None else a + b
