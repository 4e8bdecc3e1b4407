"""Where a warpgroup of the persistent kernel stands in the arrays, and how their parts come to its
registers and back."""

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxrnn.cell import Array
from jaxrnn.hardware.persistent.blocks import UNITS, Tile
from jaxrnn.hardware.persistent.tiles import Tiles


class Place:
    """Where a warpgroup stands in the arrays, and how it moves a tile [units, rows] between
    registers and [rows, units]."""

    def __init__(self, plgpu: Any, tile: Tile) -> None:
        from jax.experimental import pallas as pl

        self.plgpu = plgpu
        self.warpgroup = lax.axis_index("warpgroup")
        self.shape = (UNITS, tile.rows)
        # No other warpgroup of the grid has these units of these rows: what is written to global
        # memory needs no barrier.
        self.units = pl.ds(self.warpgroup * UNITS, UNITS)
        self.rows = pl.ds(lax.axis_index("block") * tile.rows, tile.rows)

    def load(self, ref: Any, aval: Any, at: tuple[Any, ...] | None) -> Tiles:
        """The tiles of an array of which one unit of one row has the shape of `aval`, still to be
        `turned`; where `at` is None it has no batch axis."""
        found = np.empty(aval.shape, object)
        for index in np.ndindex(aval.shape):
            found[index] = self._load(ref, index[:-1], at, aval.ndim > 0)
        return found

    def _load(
        self, ref: Any, entry: tuple[int, ...], at: tuple[Any, ...] | None, units: bool
    ) -> Array:
        layout = self.plgpu.Layout
        load = functools.partial(self.plgpu.load, optimized=False)
        if at is None:
            part = load(ref.at[(*entry, self.units)], layout=layout.WGMMA.reduce(1))
            return lax.broadcast_in_dim(part, self.shape, (0,))
        if not units:
            part = load(ref.at[(*at, self.rows)], layout=layout.WGMMA.reduce(0))
            return lax.broadcast_in_dim(part, self.shape, (1,))
        return load(ref.at[(*at, self.rows, *entry, self.units)].T, layout=layout.WGMMA_TRANSPOSED)

    def turned(self, tiles: Tiles, aval: Any) -> Tiles:
        """What `load` found of an array with a batch axis, as the tensor cores leave tiles.

        It waits for memory: threads exchange what each has read. So a step calls it when it needs
        the tiles, and not when their loads begin.
        """
        if aval.ndim == 0:
            return tiles
        found = np.empty(tiles.shape, object)
        for index in np.ndindex(tiles.shape):
            found[index] = self.plgpu.layout_cast(tiles[index], self.plgpu.Layout.WGMMA)
        return found

    def store(self, ref: Any, tiles: Tiles, at: tuple[Any, ...]) -> None:
        for index in np.ndindex(tiles.shape):
            self.store_tile(ref.at[(*at, self.rows, *index[:-1], self.units)], tiles[index])

    def store_tile(self, ref: Any, part: Array) -> None:
        part = self.plgpu.layout_cast(part, self.plgpu.Layout.WGMMA_TRANSPOSED)
        store(self.plgpu, ref.T, part)


def store(plgpu: Any, ref: Any, part: Array) -> None:
    if hasattr(plgpu, "store"):
        plgpu.store(ref, part, optimized=False)
    else:  # jax 0.11, whose indexed store asks for no layout without bank conflicts
        ref[...] = part


def meet(plgpu: Any, barrier: Any) -> None:
    """Waits until every warpgroup has arrived at the barrier."""
    if hasattr(plgpu, "barrier_arrive_and_wait"):
        plgpu.barrier_arrive_and_wait(barrier)
    else:  # jax 0.11
        plgpu.barrier_arrive(barrier)
        plgpu.barrier_wait(barrier)


def typed(tiles: Tiles, aval: Any) -> Tiles:
    """Numbers that stand for booleans, as booleans."""
    if aval.dtype != jnp.bool_:
        return tiles
    return np.vectorize(lambda a: a != 0, otypes=[object])(tiles)


def flat(tiles: list[Tiles]) -> list[Array]:
    return [each for array in tiles for each in array.flat]


def unflat(flat: list[Array], like: list[Any]) -> list[Tiles]:
    """Object arrays of the shapes of `like`."""
    pieces = iter(flat)
    found = []
    for each in like:
        array = np.empty(each.shape, object)
        for index in np.ndindex(each.shape):
            array[index] = next(pieces)
        found.append(array)
    return found
