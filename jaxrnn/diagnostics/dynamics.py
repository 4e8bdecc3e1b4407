"""Whether two states that start side by side part or meet."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from jaxrnn.cell import Array, Carry, Cell, Params
from jaxrnn.checks import check_key, check_size
from jaxrnn.diagnostics.given import checked, projected


def largest_lyapunov_exponent(
    cell: Cell,
    params: Params,
    xs: Array,
    carry: Carry = None,
    *,
    key: Array | None = None,
    washout: int = 0,
) -> Array:
    """The mean growth of a small difference of two carries, in nats per step:
    lim 1/T ln |d carry_T / d carry_0 v|.

    Negative: differences, and with them gradients, vanish. Near zero: they are kept. Positive: they
    grow, the state is chaotic. A tangent vector goes along with the carry by forward
    differentiation and is brought back to length 1 after each step, so that no Jacobian is built
    and nothing underflows.

    Args:
        cell: the cell.
        params: its parameters.
        xs: [T, I], one sequence; use `jax.vmap` for more.
        carry: the carry before the first step; None means the cell's own.
        key: of the direction of the first difference, which a long sequence forgets; None means
            `jax.random.key(0)`.
        washout: how many first steps do not count, in which the difference turns to where it grows
            fastest; 0 to T - 1.

    Returns:
        [], nats per step; -inf where the difference vanishes altogether.

    Raises:
        ValueError: `washout` leaves no step.

    Source: Benettin et al. 1980, Meccanica 15; for recurrent networks Engelken et al. 2023,
    arXiv:2006.02427.

    Example:
        >>> import jax, jaxrnn
        >>> from jaxrnn.diagnostics import largest_lyapunov_exponent
        >>> # orthogonal, at a zero state: every difference keeps its length
        >>> cell = jaxrnn.RNNCell(hidden_size=4)
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> bool(abs(largest_lyapunov_exponent(cell, params, jax.numpy.zeros((50, 3)))) < 1e-5)
        True
    """
    cell, params, xs, first = checked(cell, params, xs, carry)
    T = xs.shape[0]
    check_size("washout", washout, least=0)
    if washout >= T:
        raise ValueError(f"washout must be from 0 to T - 1 = {T - 1}, got {washout}.")
    flat, unravel = ravel_pytree(first)
    params, us = projected(cell, params, xs)

    def step(state: tuple[Array, Array], u: Any) -> tuple[tuple[Array, Array], Array]:
        def advance(flat: Array) -> Array:
            return ravel_pytree(cell.step(params, unravel(flat), u)[0])[0]

        flat, tangent = jax.jvp(advance, state[:1], state[1:])
        length = jnp.linalg.norm(tangent)
        return (flat, tangent / jnp.where(length > 0, length, 1)), jnp.log(length)

    key = jax.random.key(0) if key is None else key
    check_key(key)
    tangent = jax.random.normal(key, flat.shape, flat.dtype)
    growth = lax.scan(step, (flat, tangent / jnp.linalg.norm(tangent)), us)[1]
    return jnp.mean(growth[washout:])
