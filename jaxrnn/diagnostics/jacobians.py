"""The derivative of one carry with respect to another: of every step, and of many."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from jaxrnn.cell import Array, Carry, Cell, Params
from jaxrnn.diagnostics.given import checked, projected


def carry_jacobians(cell: Cell, params: Params, xs: Array, carry: Carry = None) -> Array:
    """d carry_t / d carry_(t-1) for every step, by forward differentiation.

    Args:
        cell: the cell.
        params: its parameters.
        xs: [T, I], one sequence; use `jax.vmap` for more.
        carry: the carry before the first step; None means the cell's own.

    Returns:
        [T, S, S], where S is the size of the whole carry: its fields one after the other, each
        flattened.

    Example:
        >>> import jax, jaxrnn
        >>> from jaxrnn.diagnostics import carry_jacobians
        >>> cell = jaxrnn.LSTMCell(hidden_size=4)
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> carry_jacobians(cell, params, jax.numpy.ones((5, 3))).shape
        (5, 8, 8)
    """
    cell, params, xs, first = checked(cell, params, xs, carry)
    flat, unravel = ravel_pytree(first)
    params, us = projected(cell, params, xs)

    def advance(flat: Array, u: Any) -> tuple[Array, Array]:
        after, _ = cell.step(params, unravel(flat), u)
        flat = ravel_pytree(after)[0]
        return flat, flat

    def jacobian(flat: Array, u: Any) -> tuple[Array, Array]:
        matrix, after = jax.jacfwd(lambda f: advance(f, u), has_aux=True)(flat)
        return after, matrix

    return lax.scan(jacobian, flat, us)[1]


def carry_jacobian_singular_values(
    cell: Cell, params: Params, xs: Array, carry: Carry = None
) -> Array:
    """The singular values of d carry_t / d carry_(t-1) for every step: how much one step stretches
    and squeezes what came before.

    The largest bounds how fast a gradient can grow at that step, the smallest how fast it must
    vanish in some direction.

    Args:
        cell: the cell.
        params: its parameters.
        xs: [T, I], one sequence; use `jax.vmap` for more.
        carry: the carry before the first step; None means the cell's own.

    Returns:
        [T, S], the largest first, where S is the size of the whole carry.

    Source: Pascanu et al. 2013, arXiv:1211.5063, section 2.1.

    Example:
        >>> import jax, jaxrnn
        >>> from jaxrnn.diagnostics import carry_jacobian_singular_values
        >>> cell = jaxrnn.RNNCell(hidden_size=4)  # orthogonal, at a zero state
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> values = carry_jacobian_singular_values(cell, params, jax.numpy.zeros((5, 3)))
        >>> values.shape, bool(abs(values - 1).max() < 1e-5)
        ((5, 4), True)
    """
    return jnp.linalg.svd(carry_jacobians(cell, params, xs, carry), compute_uv=False)


def carry_jacobian_norms(
    cell: Cell, params: Params, xs: Array, carry: Carry = None, *, field: str | None = None
) -> Array:
    """log10 of the spectral norm of d carry_T / d carry_t, against the lag T - t.

    The product of the steps' Jacobians is kept at norm 1 and the logarithm of what was divided out
    is summed, so the norm of the whole carry underflows at no lag and in no dtype; that of a
    `field` does where it is too small a part of the whole.

    Args:
        cell: the cell.
        params: its parameters.
        xs: [T, I], one sequence; use `jax.vmap` for more, and take medians over them.
        carry: the carry before the first step; None means the cell's own.
        field: None for the whole carry; "c" for the block d c_T / d c_t of it, along every path,
            those through h included.

    Returns:
        [T + 1], indexed by the lag; 0 at lag 0, and -inf where the norm is zero.

    Raises:
        ValueError: the carry has no such field.

    Source: Pascanu et al. 2013, arXiv:1211.5063, eq. 5 and 6.

    Example:
        >>> import jax, jaxrnn
        >>> from jaxrnn.diagnostics import carry_jacobian_norms
        >>> cell = jaxrnn.RNNCell(hidden_size=4)  # orthogonal, at a zero state: every norm is 1
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> bool(abs(carry_jacobian_norms(cell, params, jax.numpy.zeros((50, 3)))).max() < 1e-4)
        True
    """
    cell, params, xs, first = checked(cell, params, xs, carry)
    matrices = carry_jacobians(cell, params, xs, first)
    block = _block(first, field)

    def multiply(state: tuple[Array, Array], matrix: Array) -> tuple[tuple[Array, Array], Array]:
        product, log = state
        product = product @ matrix
        size = jnp.max(jnp.abs(product))
        product = product / jnp.where(size > 0, size, 1)
        log = log + jnp.log10(jnp.where(size > 0, size, 1))
        return (product, log), log + jnp.log10(jnp.linalg.norm(product[block, block], ord=2))

    start = jnp.eye(matrices.shape[-1], dtype=matrices.dtype), jnp.zeros((), matrices.dtype)
    norms = lax.scan(multiply, start, matrices, reverse=True)[1]
    return jnp.concatenate([norms, jnp.zeros_like(norms, shape=1)])[::-1]


def _block(carry: Carry, field: str | None) -> slice:
    """Where a field of the carry stands in the flattened whole."""
    if field is None:
        return slice(None)
    names = getattr(carry, "_fields", ())
    if field not in names:
        raise ValueError(f"the carry has no field {field!r}; its fields are {', '.join(names)}.")
    sizes = [sum(a.size for a in jax.tree.leaves(part)) for part in carry]
    ends = list(itertools.accumulate(sizes, initial=0))
    k = names.index(field)
    return slice(ends[k], ends[k + 1])
