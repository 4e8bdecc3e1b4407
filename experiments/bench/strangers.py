"""Four cells as a stranger would write them, on the public functions of jaxrnn alone.

Nothing in the library was made for them: they tell how a cell that it has never seen runs.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import sigmoid, softmax
from jax.numpy import tanh

import jaxrnn
from jaxrnn import dot, gates, linear, zeros
from jaxrnn.cells import RNNCarry


class BlockGRUParams(NamedTuple):
    w_x: Array  # [I, 3, H], gates r n z
    w_h: Array  # [N, H / N, 3, H / N], a matrix for each block
    b: Array  # [3 * H]
    scale: Array  # [3, H]


@dataclasses.dataclass(frozen=True)
class BlockGRUCell(jaxrnn.Cell):
    """A GRU of N blocks on the diagonal of its recurrent weight, with layer norm; y = h'.

        r, n, z = scale * N(W_x x + b + W_h h)
        h' = sigmoid(z - 1) * tanh(sigmoid(r) * n) + (1 - sigmoid(z - 1)) * h

    Args:
        hidden_size: H, a multiple of `blocks`.
        blocks: N.

    Source: DreamerV3, Hafner et al. 2023, arXiv:2301.04104, its sequence model and the authors'
    code. Differs: the norm acts on the sum of both products, and no layer stands before it.
    """

    hidden_size: int
    blocks: int = 8
    elementwise = False

    def init(self, key: Array, input_size: int, dtype: Any = jnp.float32) -> BlockGRUParams:
        H = self.hidden_size
        P = H // self.blocks
        w_x, w_h = draw(key, dtype, (input_size, 3, H), (P, self.blocks, 3, P))
        one = jnp.ones((3, H), dtype)
        return BlockGRUParams(w_x=w_x, w_h=w_h.swapaxes(0, 1), b=jnp.zeros(3 * H, dtype), scale=one)

    def init_carry(self, params: BlockGRUParams, like: Array) -> RNNCarry:
        return RNNCarry(h=zeros(like, self.hidden_size))

    def project(self, params: BlockGRUParams, xs: Array, noise: Any = None) -> Array:
        return linear(xs, params.w_x, params.b)  # [..., 3, H]

    def step(
        self, params: BlockGRUParams, carry: RNNCarry, u: Array, dot: Any = dot
    ) -> tuple[RNNCarry, Array]:
        a = normal(u + dot(carry.h, params.w_h, op=in_blocks))
        r, n, z = gates(params.scale * a)
        n = tanh(sigmoid(r) * n)
        z = sigmoid(z - 1)
        h = z * n + (1 - z) * carry.h
        return RNNCarry(h=h), h


class LowRankParams(NamedTuple):
    w_x: Array  # [I, H]
    n: Array  # [H, R]
    m: Array  # [R, H]


@dataclasses.dataclass(frozen=True)
class LowRankCell(jaxrnn.Cell):
    """A leaky network whose recurrent weight has rank R; y = h'.

        h' = h + alpha * (-h + m n^T tanh(h) + W_x x)

    Args:
        hidden_size: H.
        rank: R.
        alpha: the time step over the time constant, in (0, 1].

    Source: Mastrogiuseppe and Ostojic 2018, arXiv:1711.09672, eq. 1-3, in steps of Euler. Differs:
    no random part beside the low rank, and both vectors are learned.
    """

    hidden_size: int
    rank: int = 4
    alpha: float = 0.2

    def init(self, key: Array, input_size: int, dtype: Any = jnp.float32) -> LowRankParams:
        H = self.hidden_size
        w_x, n, m = draw(key, dtype, (input_size, H), (H, self.rank), (self.rank, H))
        return LowRankParams(w_x=w_x, n=n, m=m)

    def init_carry(self, params: LowRankParams, like: Array) -> RNNCarry:
        return RNNCarry(h=zeros(like, self.hidden_size))

    def project(self, params: LowRankParams, xs: Array, noise: Any = None) -> Array:
        return dot(xs, params.w_x)  # [..., H]

    def step(
        self, params: LowRankParams, carry: RNNCarry, u: Array, dot: Any = dot
    ) -> tuple[RNNCarry, Array]:
        overlap = dot(tanh(carry.h), params.n)  # [..., R]
        h = carry.h + self.alpha * (-carry.h + dot(overlap, params.m) + u)
        return RNNCarry(h=h), h


class AttendingParams(NamedTuple):
    w_x: Array  # [I, H]
    w_h: Array  # [H, H]
    w_q: Array  # [H, W]
    w_r: Array  # [W, H]
    b: Array  # [H]
    memory: Array  # [S, W]


class AttendingCarry(NamedTuple):
    h: Array  # [..., H]
    memory: Array  # [..., S, W], the same in every step


@dataclasses.dataclass(frozen=True)
class AttendingCell(jaxrnn.Cell):
    """A tanh network that attends to a memory in its carry, and never writes there; y = h'.

        q = W_q h
        r = sum_s softmax_s(q . memory_s) memory_s
        h' = tanh(W_x x + b + W_h h + W_r r)

    The first carry holds a memory that is learned; a carry of the caller's, as of an encoder, holds
    one for each sequence.

    Args:
        hidden_size: H.
        slots: S, the entries of the memory.
        width: W, the size of each.

    Source: Luong et al. 2015, arXiv:1508.04025, the score "general", which the step before asks
    for as in Bahdanau et al. 2015, arXiv:1409.0473. Differs: a tanh network instead of a gated one.
    """

    hidden_size: int
    slots: int = 16
    width: int = 32
    elementwise = False

    def init(self, key: Array, input_size: int, dtype: Any = jnp.float32) -> AttendingParams:
        H = self.hidden_size
        W = self.width
        shapes = ((input_size, H), (H, H), (H, W), (W, H), (self.slots, W))
        w_x, w_h, w_q, w_r, memory = draw(key, dtype, *shapes)
        b = jnp.zeros(H, dtype)
        return AttendingParams(w_x=w_x, w_h=w_h, w_q=w_q, w_r=w_r, b=b, memory=memory)

    def init_carry(self, params: AttendingParams, like: Array) -> AttendingCarry:
        memory = zeros(like, self.slots, self.width) + params.memory
        return AttendingCarry(h=zeros(like, self.hidden_size), memory=memory)

    def project(self, params: AttendingParams, xs: Array, noise: Any = None) -> Array:
        return linear(xs, params.w_x, params.b)  # [..., H]

    def step(
        self, params: AttendingParams, carry: AttendingCarry, u: Array, dot: Any = dot
    ) -> tuple[AttendingCarry, Array]:
        q = dot(carry.h, params.w_q)
        weights = softmax(jnp.einsum("...w,...sw->...s", q, carry.memory))
        r = jnp.einsum("...s,...sw->...w", weights, carry.memory)
        h = tanh(u + dot(carry.h, params.w_h) + dot(r, params.w_r))
        return AttendingCarry(h=h, memory=carry.memory), h


class DeepTransitionParams(NamedTuple):
    w_x: Array  # [I, H]
    w_h: Array  # [H, H]
    w_m: Array  # [H, H]
    b: Array  # [H]
    b_m: Array  # [H]


@dataclasses.dataclass(frozen=True)
class DeepTransitionCell(jaxrnn.Cell):
    """A tanh network with a layer between one state and the next: two products in a row; y = h'.

        m = tanh(W_x x + b + W_h h)
        h' = tanh(W_m m + b_m)

    Args:
        hidden_size: H, of both layers.

    Source: Pascanu et al. 2013, arXiv:1312.6026, the deep transition of section 3.3.1.
    """

    hidden_size: int

    def init(self, key: Array, input_size: int, dtype: Any = jnp.float32) -> DeepTransitionParams:
        H = self.hidden_size
        w_x, w_h, w_m = draw(key, dtype, (input_size, H), (H, H), (H, H))
        b = jnp.zeros(H, dtype)
        return DeepTransitionParams(w_x=w_x, w_h=w_h, w_m=w_m, b=b, b_m=b)

    def init_carry(self, params: DeepTransitionParams, like: Array) -> RNNCarry:
        return RNNCarry(h=zeros(like, self.hidden_size))

    def project(self, params: DeepTransitionParams, xs: Array, noise: Any = None) -> Array:
        return linear(xs, params.w_x, params.b)  # [..., H]

    def step(
        self, params: DeepTransitionParams, carry: RNNCarry, u: Array, dot: Any = dot
    ) -> tuple[RNNCarry, Array]:
        m = tanh(u + dot(carry.h, params.w_h))
        h = tanh(dot(m, params.w_m) + params.b_m)
        return RNNCarry(h=h), h


def strangers(hidden_size: int) -> dict[str, jaxrnn.Cell]:
    """The four by name; of a size that eight does not divide, the GRU has fewer blocks."""
    return {
        "strange_block_gru": BlockGRUCell(hidden_size, blocks=math.gcd(hidden_size, 8)),
        "strange_low_rank": LowRankCell(hidden_size),
        "attending": AttendingCell(hidden_size),
        "deep_transition": DeepTransitionCell(hidden_size),
    }


def draw(key: Array, dtype: Any, *shapes: tuple[int, ...]) -> list[Array]:
    """An array of each shape from N(0, 1 / its first size)."""
    arrays = map(jax.random.normal, jax.random.split(key, len(shapes)), shapes)
    return [(a / math.sqrt(a.shape[0])).astype(dtype) for a in arrays]


def in_blocks(h: Array, w: Array) -> Array:
    """The product with a weight that is zero outside its blocks:
    [..., H], [N, H / N, G, H / N] -> [..., G, H].
    """
    parts = h.reshape(*h.shape[:-1], *w.shape[:2])
    a = jnp.einsum("...np,npgq->...gnq", parts, w)
    return a.reshape(*a.shape[:-2], -1)


def normal(a: Array) -> Array:
    """N(a), over gates and units together, with the epsilon of the source."""
    a = a - jnp.mean(a, (-2, -1), keepdims=True)
    return a / jnp.sqrt(jnp.mean(a**2, (-2, -1), keepdims=True) + 1e-3)
