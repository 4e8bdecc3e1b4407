"""The carries before each step, as the backward pass needs them: a leaf that is the output too (h) is not saved a second time."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.typing import Array, Carry


class Kept(NamedTuple):
    """Of a whole sequence, in which all but `start` lead with time, or of one chunk."""

    own: list[Array | None]  # the leaves before each step; None where the outputs stand for one
    ys: Array | None  # the outputs; None where they stand for none
    start: list[Array | None]  # the other way round: what stands before the first step, in the order of the loop


def split(shared: tuple[bool, ...], carry: Carry) -> tuple[list[Array | None], list[Array | None]]:
    """The leaves for which nothing stands, and those for which the outputs do."""
    pairs = list(zip(shared, jax.tree.leaves(carry), strict=True))
    return [None if same else leaf for same, leaf in pairs], [leaf if same else None for same, leaf in pairs]


def heads(kept: Kept, i: int, j: int, n: int, reverse: bool) -> list[Array | None]:
    """What stands before the first step of each chunk of n steps in [i, j), in the order of the loop: [chunks, *batch, ...]."""
    if kept.ys is None:
        return kept.start
    ys, begins = kept.ys, j == kept.ys.shape[0] if reverse else i == 0
    inner, outer = (ys[i + n : j : n], ys[j : j + 1]) if reverse else (ys[i + n - 1 : j - 1 : n], ys[max(i - 1, 0) : i])

    def whole(start: Array) -> Array:
        first = start[None] if begins else outer
        return jnp.concatenate([inner, first] if reverse else [first, inner])

    return jax.tree.map(whole, kept.start)


def carries(kept: Kept, like: Carry, reverse: bool) -> Carry:
    """The carries before each step of a chunk."""

    def whole(own: Array | None, start: Array | None) -> Array | None:
        if start is None or kept.ys is None:
            return own
        return jnp.concatenate((kept.ys[1:], start[None]) if reverse else (start[None], kept.ys[:-1]))

    return jax.tree.unflatten(jax.tree.structure(like), list(map(whole, kept.own, kept.start)))
