"""Time cut into chunks, and put together again; `remat="sqrt"` for any method."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxrnn.cell import Carry, Tree
from jaxrnn.running.problem import Problem, Steps


def cut(tree: Tree, length: int, reverse: bool) -> list[Tree]:
    """Chunks [chunks, length, ...] of a tree [T, ...], in the order of the loop.

    Where T leaves a rest, one chunk of that length comes last.
    """
    T = jax.tree.leaves(tree)[0].shape[0]
    length = min(length, T)
    at = T % length if reverse else T - T % length
    # The rest comes last in loop order, so that all whole chunks are one scan.
    ends = [(at, T, length), (0, at, at)] if reverse else [(0, at, length), (at, T, T - at)]

    def piece(i: int, j: int, n: int) -> Tree:
        # counted: -1 cannot be told where a leaf has no features
        return jax.tree.map(lambda a: a[i:j].reshape((j - i) // n, n, *a.shape[1:]), tree)

    return [piece(i, j, n) for i, j, n in ends if j > i]


def join(pieces: list[Tree], reverse: bool) -> Tree:
    """The inverse of `cut`."""

    def flattened(a: jax.Array) -> jax.Array:
        return a.reshape(a.shape[0] * a.shape[1], *a.shape[2:])

    flat = [jax.tree.map(flattened, piece) for piece in pieces]
    if len(flat) == 1:
        return flat[0]
    return jax.tree.map(lambda *a: jnp.concatenate(a), *(flat[::-1] if reverse else flat))


def scan_chunks(
    body: Callable[[Any, Tree], tuple[Any, Any]], state: Any, tree: Tree, length: int, reverse: bool
) -> tuple[Any, Any]:
    """`lax.scan` over chunks [length, ...] of a tree [T, ...]; no loop where there is one chunk.

    `body` is traced for the whole chunks and once more for the rest: it may not count its calls.
    """
    found = []
    for piece in cut(tree, length, reverse):
        if jax.tree.leaves(piece)[0].shape[0] == 1:
            state, out = body(state, jax.tree.map(lambda a: a[0], piece))
            out = jax.tree.map(lambda a: a[None], out)
        else:
            state, out = lax.scan(body, state, piece, reverse=reverse)
        found.append(out)
    return state, join(found, reverse)


def in_chunks(run: Callable[[Problem], tuple[Carry, Any]], problem: Problem) -> tuple[Carry, Any]:
    """Runs about sqrt(T) steps at a time: the carry before each chunk is all that is saved."""

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def chunk(carry: Carry, steps: Steps) -> tuple[Carry, Any]:
        return run(dataclasses.replace(problem, carry=carry, steps=steps, remat="none"))

    length = math.isqrt(problem.T)
    return scan_chunks(chunk, problem.carry, problem.steps, length, problem.reverse)
