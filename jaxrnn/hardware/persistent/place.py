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
        """The tiles of an array of which one unit of one row has the shape of `aval`; where `at`
        is None it has no batch axis."""
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
        part = load(ref.at[(*at, self.rows, *entry, self.units)].T, layout=layout.WGMMA_TRANSPOSED)
        return self.plgpu.layout_cast(part, layout.WGMMA)

    def store(self, ref: Any, tiles: Tiles, at: tuple[Any, ...]) -> None:
        for index in np.ndindex(tiles.shape):
            self.store_tile(ref.at[(*at, self.rows, *index[:-1], self.units)], tiles[index])

    def store_tile(self, ref: Any, part: Array) -> None:
        part = self.plgpu.layout_cast(part, self.plgpu.Layout.WGMMA_TRANSPOSED)
        self.plgpu.store(ref.T, part, optimized=False)


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
