"""How the persistent kernel cuts units and rows into tiles, and what of a multiprocessor's memory
that takes."""

import math
from typing import NamedTuple

import jax.numpy as jnp

from jaxrnn.cell import DType

UNITS = 64  # of a warpgroup: the rows of a tensor core instruction (wgmma)
# Of a block; with more, the inputs of two steps of an LSTM's backward pass would not fit the
# registers.
ROWS = (8, 16)
SLOTS = (2, 1)  # buffers of the operand; with one, warpgroups meet twice per step
# Bytes, of which the length of a weight's row in shared memory is a multiple: the least swizzle of
# wgmma.
STRIDE = 32
SHARED_MEMORY = 227 * 1024  # bytes that one block may have on Hopper
RESERVED = 2048  # of which barriers and alignment
# The multiprocessors of an H100: no more rows per block while there is a block for each.
BLOCKS = 132


class Tile(NamedTuple):
    units: int  # H, rounded up to whole warpgroups
    depth: int  # H, rounded up to whole strides: what of a vector is multiplied
    rows: int  # of the batch, in a block
    slots: int

    def weight(self, count: int) -> tuple[int, int]:
        """The shape of `count` square weights [depth, depth], one below the other.

        The units of a last warpgroup that go beyond `depth` see the rows of the next weight:
        nothing of them is used.
        """
        return count * self.depth + self.units - self.depth, self.depth

    def operand(self, count: int) -> tuple[int, int, int, int]:
        """The shape of `count` vectors for each row."""
        return self.slots, count, self.rows, self.units


def fit(units: int, batch: int, weights: int, operands: int, dtype: DType) -> Tile | None:
    """The tile of a kernel with `weights` square weights and `operands` vectors to multiply; None
    where they do not fit."""
    size = jnp.dtype(dtype).itemsize
    whole = _rounded(units, UNITS)
    depth = _rounded(units, STRIDE // size)
    # The first is the best: two buffers before one, then few rows.
    tiles = [Tile(whole, depth, rows, slots) for slots in SLOTS for rows in ROWS]
    fitting = [
        t
        for t in tiles
        if size * (math.prod(t.weight(weights)) + math.prod(t.operand(operands))) <= _free()
    ]
    enough = [t for t in fitting if -(-batch // t.rows) <= BLOCKS]
    return next(iter(enough or sorted(fitting, key=lambda t: -t.rows)), None)


def _rounded(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def _free() -> int:
    return SHARED_MEMORY - RESERVED
