"""The products of a step: recorded on the way forward, replayed on the way back."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxrnn.cell import Array, Dot, rows_in_one
from jaxrnn.cell import dot as plain_dot


def transposed(dot: Dot, op: Any, w: Array) -> Array | None:
    """A weight as [G * H, I], for the plain product; None for another, or in a 16-bit run.

    It stands behind a barrier: else the loop transposes it at each step (20 to 40 us of 100 at
    H = 128 on a CPU).
    """
    if dot is not plain_dot or op is not None:
        return None
    return lax.optimization_barrier(w.reshape(w.shape[0], -1).T)


def replay(dot: Dot, op: Any, product: Array, w: Array, turned: Array | None, v: Array) -> Array:
    """`product`, with the derivative of `dot(v, w, op)` in v, and its own in itself."""
    return _replayed(functools.partial(_pull, dot, op), product, w, turned, v)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _replayed(rule: Callable[..., Any], product: Array, *operands: Any) -> Array:
    return product


def _pull(dot: Dot, op: Any, operands: tuple[Any, ...], d_product: Array) -> tuple[Any, ...]:
    w, turned, v = operands
    if turned is None or v.dtype != d_product.dtype:
        (d_v,) = jax.vjp(lambda v: dot(v, w, op), v)[1](d_product)
    else:
        d_v = flat(d_product, w.ndim - 1) @ turned
    return d_product, None, None, d_v


# The value is the recorded product, whatever v is; only the rule knows that it comes from v.
_replayed.defvjp(
    lambda rule, product, *operands: (product, operands),
    lambda rule, operands, d: rule(operands, d),
)


def flat(product: Array, axes: int) -> Array:
    """A product with its `axes` last axes as one.

    Gates come one behind the other, as arrays of their own: XLA:CPU writes [.., G * H] so in half
    the time that it takes for [.., G, H] of them.
    """
    if axes == 0:  # of a vector for a weight
        return product[..., None]
    if axes == 1:
        return product
    if axes > 2:
        return product.reshape(*product.shape[: product.ndim - axes], -1)
    # Behind barriers: where XLA:CPU makes a loop of one row one kernel, a concatenation, and each
    # gate in it, is computed anew for each reader, 1.25 times the time of an LSTM's backward pass
    # at (1024,1,32,32). With more rows they cost nothing.
    gates = lax.optimization_barrier(jnp.unstack(product, axis=-2))
    return lax.optimization_barrier(jnp.concatenate(gates, axis=-1))


def weight_gradient(dot: Dot, op: Any, v: Array, w: Array, d_product: Array) -> Array:
    """The gradient of a weight from all rows of `v` and of the cotangent of its product."""
    plain = op is None and dot is plain_dot and w.dtype == d_product.dtype
    if plain and w.size > 0 and rows_in_one():
        # In this order, of two matrices, XLA:CPU copies neither operand.
        rows = v.reshape(-1, v.shape[-1])
        d_rows = d_product.reshape(len(rows), -1)
        return jnp.tensordot(rows, d_rows, ((0,), (0,))).reshape(w.shape)
    return jax.vjp(lambda w: dot(v, w, op), w)[1](d_product)[0]
