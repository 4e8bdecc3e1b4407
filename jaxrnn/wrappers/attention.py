"""A cell that attends to a memory, such as the outputs of an encoder."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.numpy import tanh

from jaxrnn import initializers
from jaxrnn.cell import (
    Array,
    Carry,
    Dot,
    DType,
    Noise,
    Params,
    carry_dtype,
    dot,
    zeros,
)
from jaxrnn.checks import check_flag, check_size
from jaxrnn.wrappers.base import Wrapper, carry_shapes, own, projects_by_w_x


class AttentionParams(NamedTuple):
    inner: Params
    w_q: Array  # [H, A]
    w_k: Array  # [M, A]
    v: Array | None  # [A], of the additive score


class AttentionCarry(NamedTuple):
    inner: Carry
    memory: Array  # [..., S, M], the same in every step
    keys: Array  # [..., S, A], of the memory
    valid: Array  # [..., S], True where the memory counts


class AttentionStep(NamedTuple):
    x: Array  # [..., I]
    u: Any  # its projection without a context, of cells whose projection is one product
    noise: Noise


@dataclasses.dataclass(frozen=True)
class AttentionInput(Wrapper):
    """A cell whose input is joined at each step with what it looks up in a memory.

        q = W_q h
        score_s = q . W_k m_s / sqrt(A), or v . tanh(q + W_k m_s)
        context = sum_s softmax_s(score) m_s
        x' = [x, context]

    h is that of the cell before the step, in a stack that of the last layer. The memory belongs to
    the carry: `attend` makes the first one. A reset empties it, and an empty memory gives a context
    of 0.

    Args:
        cell: a cell with an h in its carry, or a stack of them, on vectors and in one direction.
        memory_size: M, the features of the memory.
        slots: S, how many entries it has; shorter memories are padded and masked.
        key_size: A; None is M.
        score: "dot", scaled, or "additive".
        output_context: whether the output is [y, context], for a readout that sees both.

    Raises:
        TypeError: a cell without an h.
        ValueError: a cell of both directions or of pictures; an unknown score.

    Source: Bahdanau et al. 2015, arXiv:1409.0473, section 3.1 (additive; context of the state
    before); Luong et al. 2015, arXiv:1508.04025 ("general"), scaled as in Vaswani et al. 2017,
    arXiv:1706.03762.

    Example:
        >>> import jax, jaxrnn
        >>> encoder = jaxrnn.GRUCell(8)
        >>> source = jax.random.normal(jax.random.key(0), (7, 4, 3))  # time, batch, features
        >>> _, seen = jaxrnn.unroll(encoder, encoder.init(jax.random.key(1), 3), source)
        >>> decoder = jaxrnn.wrappers.AttentionInput(jaxrnn.GRUCell(16), memory_size=8, slots=7)
        >>> params = decoder.init(jax.random.key(2), input_size=5)
        >>> carry = decoder.attend(params, seen.swapaxes(0, 1))  # [batch, slots, features]
        >>> carry, ys = jaxrnn.unroll(decoder, params, jax.numpy.ones((6, 4, 5)), carry)
        >>> ys.shape
        (6, 4, 16)
    """

    memory_size: int
    slots: int
    _: dataclasses.KW_ONLY
    key_size: int | None = None
    score: str = "dot"
    output_context: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("memory_size", "slots", "key_size"):
            if getattr(self, name) is not None or name != "key_size":
                check_size(name, getattr(self, name))
        check_flag("output_context", self.output_context)
        if self.score not in ("dot", "additive"):
            raise ValueError(f"score must be 'dot' or 'additive', got {self.score!r}.")
        if not self.cell.causal or self.cell.feature_axes != 1:
            raise ValueError(
                "AttentionInput needs a cell for vectors that runs in one direction, got "
                f"{self.cell}."
            )

    @property
    def elementwise(self) -> bool:  # pyrefly: ignore[bad-override]
        return False

    def init(self, key: Array, input_size: int, dtype: DType = jnp.float32) -> AttentionParams:
        check_size("input_size", input_size)
        key, key_q, key_k, key_v = jax.random.split(key, 4)
        width = input_size + self.memory_size
        H = _state(carry_shapes(self.cell, (width,)), self.cell).shape[-1]
        A = self.key_size or self.memory_size

        def draw(key: Array, rows: int, columns: int) -> Array:
            return initializers.kernel("lecun_normal", key, rows, 1, columns, dtype)[:, 0]

        return AttentionParams(
            inner=self.cell.init(key, width, dtype),
            w_q=draw(key_q, H, A),
            w_k=draw(key_k, self.memory_size, A),
            v=draw(key_v, A, 1)[:, 0] if self.score == "additive" else None,
        )

    def input_size(self, params: AttentionParams) -> int | None:
        inner = self.cell.input_size(own(self, params, AttentionParams).inner)
        return None if inner is None else inner - self.memory_size

    def prepare(self, params: AttentionParams) -> AttentionParams:
        return params._replace(inner=self.cell.prepare(params.inner))

    def absorb(self, params: AttentionParams, noise: Noise) -> tuple[AttentionParams, Noise]:
        inner, noise = self.cell.absorb(params.inner, noise)
        return params._replace(inner=inner), noise

    def noise(self, key: Array, T: int, like: Array) -> Noise:
        width = like.shape[-1] + self.memory_size
        return self.cell.noise(key, T, jnp.zeros_like(like, shape=(*like.shape[:-1], width)))

    def attend(
        self,
        params: AttentionParams,
        memory: Array,
        valid: Array | None = None,
        inner: Carry = None,
    ) -> AttentionCarry:
        """The carry before the first step, with a memory.

        Args:
            params: of this cell.
            memory: [*batch, S, M].
            valid: [*batch, S] booleans, what of it counts; NaN elsewhere reaches nothing. None is
                all.
            inner: the first carry of the cell itself, such as the last of an encoder; None is its
                own.

        Raises:
            ValueError: a memory of other sizes than the cell's.
        """
        if memory.shape[-2:] != (self.slots, self.memory_size):
            raise ValueError(
                f"memory must have the last axes (slots, memory_size) = "
                f"{(self.slots, self.memory_size)}, got shape {memory.shape}."
            )
        like = memory[..., 0, :1].astype(carry_dtype(memory.dtype))
        first = self.init_carry(self.prepare(params), jnp.zeros_like(like))
        valid = jnp.ones_like(first.valid) if valid is None else valid & jnp.ones_like(first.valid)
        wide = first.memory.dtype
        memory = jnp.where(valid[..., None], memory.astype(wide), jnp.zeros((), wide))
        return AttentionCarry(
            inner=first.inner if inner is None else inner,
            memory=memory,
            keys=dot(memory, params.w_k.astype(wide)),
            valid=valid,
        )

    def init_carry(self, params: AttentionParams, like: Array) -> AttentionCarry:
        empty = zeros(like, self.slots, self.memory_size)
        seen = jnp.concatenate([like, jnp.zeros_like(empty[..., 0, :])], axis=-1)
        return AttentionCarry(
            inner=self.cell.init_carry(params.inner, seen),
            memory=empty,
            keys=zeros(like, self.slots, params.w_k.shape[-1]),
            valid=zeros(like, self.slots) > 0,
        )

    def project(self, params: AttentionParams, xs: Array, noise: Noise = None) -> AttentionStep:
        if not projects_by_w_x(self.cell, params.inner):
            return AttentionStep(x=xs, u=None, noise=noise)
        nothing = jnp.zeros_like(xs, shape=(*xs.shape[:-1], self.memory_size))
        whole = jnp.concatenate([xs, nothing], axis=-1)
        return AttentionStep(x=xs, u=self.cell.project(params.inner, whole, noise), noise=None)

    def step(
        self, params: AttentionParams, carry: AttentionCarry, u: AttentionStep, dot: Dot = dot
    ) -> tuple[AttentionCarry, Array]:
        q = dot(_state(carry.inner, self.cell), params.w_q)
        context = self._context(params, carry, q)
        if u.u is None:
            x = jnp.concatenate([u.x, context], axis=-1)
            v = self.cell.project(params.inner, x, u.noise)
        else:
            v = u.u + dot(context, params.inner.w_x[u.x.shape[-1] :])
        inner, y = self.cell.step(params.inner, carry.inner, v, dot)
        y = jnp.concatenate([y, context], axis=-1) if self.output_context else y
        return carry._replace(inner=inner), y

    def _context(self, params: AttentionParams, carry: AttentionCarry, q: Array) -> Array:
        """What the query finds, [..., M]."""
        if params.v is None:
            scores = jnp.einsum("...a,...sa->...s", q, carry.keys) / math.sqrt(q.shape[-1])
        else:
            scores = dot(tanh(q[..., None, :] + carry.keys), params.v)
        least = jnp.finfo(scores.dtype).min
        scores = jnp.where(carry.valid, scores, least)
        weights = jnp.where(carry.valid, jax.nn.softmax(scores), jnp.zeros_like(scores))
        return jnp.einsum("...s,...sm->...m", weights, carry.memory)


def _state(carry: Any, cell: Any) -> Array:
    """The h of a carry, of the last layer in a stack."""
    last = carry[-1] if isinstance(carry, tuple) and not hasattr(carry, "_fields") else carry
    if not hasattr(last, "h"):
        raise TypeError(f"AttentionInput needs a cell with an h in its carry, got {cell}.")
    return last.h
