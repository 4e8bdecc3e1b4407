"""The gradient of a loss with respect to the carry of every step."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.cell import Array, Carry, Cell, Dot, Noise, Params, dot
from jaxrnn.diagnostics.given import checked
from jaxrnn.running import unroll


class GradientNorms(NamedTuple):
    whole: Array  # [T + 1, *batch], of all fields of the carry together
    fields: Carry  # as the carry, each leaf [T + 1, *batch]


def carry_gradients(
    cell: Cell,
    params: Params,
    xs: Array,
    loss: Callable[[Carry, Array], Array],
    carry: Carry = None,
) -> Carry:
    """d loss / d carry_t for every t, by one backward pass.

    Zeros are added to the carry in the loop, and the loss is differentiated with respect to them.
    carry_t, for t from 0 to T, is the carry after t steps, as the next step reads it: y_t is taken
    before the zeros are added, so a loss of the last state should read it from the carry.

    Args:
        cell: the cell.
        params: its parameters.
        xs: [T, *batch, I], without padding.
        loss: `loss(carry_T, ys) -> []`, a sum over the batch if the gradients of each sequence are
            to be its own.
        carry: the carry before the first step; None means the cell's own.

    Returns:
        The gradients, as the carry, each leaf [T + 1, *batch, ...]; the lag of entry t is T - t.

    Source: Pascanu et al. 2013, arXiv:1211.5063, eq. 4-5.

    Example:
        >>> import jax, jaxrnn
        >>> from jaxrnn.diagnostics import carry_gradients
        >>> cell = jaxrnn.LSTMCell(hidden_size=4)
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> xs = jax.numpy.ones((5, 2, 3))
        >>> carry_gradients(cell, params, xs, lambda carry, ys: carry.h.sum()).c.shape
        (6, 2, 4)
    """
    cell, params, xs, first = checked(cell, params, xs, carry, one=False)
    T = xs.shape[0]
    zeros = jax.tree.map(lambda a: jnp.zeros((T + 1, *a.shape), a.dtype), first)

    def perturbed(zeros: Carry) -> Array:
        inner = jax.tree.map(lambda a: a[:-1], zeros)
        last = jax.tree.map(lambda a: a[-1], zeros)
        shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), inner)
        carry, ys = unroll(_Perturbed(cell, shapes), params, xs, first, noise=inner)
        return loss(jax.tree.map(jnp.add, carry, last), ys)

    return jax.grad(perturbed)(zeros)


def carry_gradient_norms(
    cell: Cell,
    params: Params,
    xs: Array,
    loss: Callable[[Carry, Array], Array],
    carry: Carry = None,
) -> GradientNorms:
    """The Euclidean norms of `carry_gradients`, of each field of the carry and of the whole.

    The squares are taken after scaling, so a norm is exact down to the smallest normal number of
    its dtype (1e-38 in float32: a gradient that halves at each step is lost after 126; run in
    float64 to see beyond).

    Args:
        cell, params, xs, loss, carry: as in `carry_gradients`.

    Returns:
        `whole` [T + 1, *batch], and `fields`, as the carry with leaves [T + 1, *batch]; the lag of
        entry t is T - t.

    Example:
        >>> import jax, jaxrnn
        >>> from jaxrnn.diagnostics import carry_gradient_norms
        >>> cell = jaxrnn.LSTMCell(hidden_size=4)
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> xs = jax.numpy.ones((5, 2, 3))
        >>> norms = carry_gradient_norms(cell, params, xs, lambda carry, ys: carry.h.sum())
        >>> norms.whole.shape, norms.fields.c.shape
        ((6, 2), (6, 2))
    """
    gradients = carry_gradients(cell, params, xs, loss, carry)
    leading = jnp.ndim(xs) - cell.feature_axes  # time and batch
    fields = jax.tree.map(lambda g: _norm(g, g.ndim - leading), gradients)
    return GradientNorms(whole=_norm(jnp.stack(jax.tree.leaves(fields), axis=-1), 1), fields=fields)


@dataclasses.dataclass(frozen=True)
class _Perturbed(Cell):
    """A cell to whose carry the noise is added before each step."""

    cell: Cell
    shapes: Carry  # of that noise, [T, ...]

    @property
    def feature_axes(self) -> int:  # pyrefly: ignore[bad-override]
        return self.cell.feature_axes

    def prepare(self, params: Params) -> Params:
        return self.cell.prepare(params)

    def input_size(self, params: Params) -> int | None:
        return self.cell.input_size(params)

    def init_carry(self, params: Params, like: Array) -> Carry:
        return self.cell.init_carry(params, like)

    def noise(self, key: Array, T: int, like: Array) -> Noise:
        return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), self.shapes)

    def project(self, params: Params, xs: Array, noise: Noise = None) -> Any:
        return self.cell.project(params, xs), noise

    def step(self, params: Params, carry: Carry, u: Any, dot: Dot = dot) -> tuple[Carry, Array]:
        u, zeros = u
        return self.cell.step(params, jax.tree.map(jnp.add, carry, zeros), u, dot)


def _norm(a: Array, axes: int) -> Array:
    """The Euclidean norm over the last `axes`, whose squares cannot underflow."""
    last = tuple(range(-axes, 0))
    size = jnp.max(jnp.abs(a), axis=last, keepdims=True)
    scaled = a / jnp.where(size > 0, size, 1)
    return jnp.sqrt(jnp.sum(scaled**2, axis=last)) * jnp.squeeze(size, last)
