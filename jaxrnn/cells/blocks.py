"""Products with block-diagonal weights."""

import jax.numpy as jnp

from jaxrnn.cell import Array


def block_diagonal(v: Array, w: Array) -> Array:
    """Each head's units times its own block: v [..., H], w [P, ..., H] -> [..., ..., H].

    Heads of P units stand side by side on the last axis of both.
    """
    P, *middle, H = w.shape
    blocks = w.reshape(P, -1, H // P, P)
    heads = v.reshape(*v.shape[:-1], H // P, P)
    return jnp.einsum("...np,pgnq->...gnq", heads, blocks).reshape(*v.shape[:-1], *middle, H)
