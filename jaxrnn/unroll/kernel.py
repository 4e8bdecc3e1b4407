"""One Pallas Mosaic-GPU kernel that runs a whole sequence, forward or backward, with the weight in shared memory.

A block of the grid takes `Tile.rows` rows of the batch through all steps, so that blocks never wait for each other. A warpgroup
of it takes 64 hidden units: of every gate it has the tile [64 units, rows] in registers, as the tensor cores leave it. At each
step the warpgroups write their part of the operand (h forward, the cotangents of the gates backward) to shared memory, meet at
a barrier, and multiply. There are two buffers for the operand, used in turn, so that one barrier per step is enough.

Arrays in global memory keep the order of all other methods, [T, B, ..., H]; they are read and written as transposed tiles.
"""

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxrnn.typing import Array, DType
from jaxrnn.unroll.tiles import Program, Running, Tiles

UNITS = 64  # of a warpgroup: the rows of a tensor core instruction (wgmma)
ROWS = (8, 16, 32)  # of a block; more would not fit the registers of an LSTM
SHARED_MEMORY = 227 * 1024  # bytes that one block may have on Hopper
RESERVED = 2048  # of which barriers and alignment
BLOCKS = 132  # the multiprocessors of an H100: no more rows per block while there is a block for each
SLOTS = 2  # buffers of the operand

PARAMS, HELD, STATE, STREAM, PRODUCT = range(5)  # the arguments of the program
AFTER, OPERAND, WRITTEN = range(3)  # its results


class Tile(NamedTuple):
    units: int  # H, rounded up to whole warpgroups
    rows: int  # of the batch, in a block


def tile(units: int, batch: int, gates: int, operands: int, dtype: DType) -> Tile | None:
    """The tile of a kernel with `gates` square weights and `operands` vectors to multiply; None where they do not fit."""
    padded, size = -(-units // UNITS) * UNITS, jnp.dtype(dtype).itemsize
    free = SHARED_MEMORY - RESERVED - gates * padded**2 * size
    fitting = [rows for rows in ROWS if SLOTS * operands * padded * rows * size <= free]
    enough = [rows for rows in fitting if -(-batch // rows) <= BLOCKS]
    return Tile(padded, (enough or fitting[-1:])[0]) if fitting else None


def run(
    program: Program,
    tile: Tile,
    weight: Array,
    params: list[Array],
    held: list[Array],
    state: list[Array],
    stream: list[Array],
    *,
    reverse: bool,
    interpret: Any,
) -> tuple[list[Array], list[Array]]:
    """Runs a program for one unit of one row over time.

    Args:
        program: `(params, held, state, stream, product) -> (after, operand, written)`.
        tile: from `tile`.
        weight: [results, operands, H, H] in the dtype of the product; the last axis is summed over.
        params: [..., H], the same for all rows and steps.
        held: [B, ..., H], the same for all steps.
        state: [B, ..., H], before the first step.
        stream: [T, B, ..., H], a slice for each step, or [T, B] where a row has one number.
        reverse: whether time runs from T - 1 to 0.
        interpret: the interpret parameters of Pallas; None compiles for a GPU.

    Returns:
        The state after the last step, and what is written at each step.
    """
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import mosaic_gpu as plgpu

    T, B, H = stream[0].shape[0], state[0].shape[0], weight.shape[-1]
    blocks, warpgroups = -(-B // tile.rows), tile.units // UNITS
    fit = functools.partial(_pad, rows=blocks * tile.rows, units=tile.units)
    numbers = [a.astype(jnp.float32) if a.dtype == jnp.bool_ else a for a in stream]  # no loads of booleans
    given = [[fit(a, None) for a in params], [fit(a, 0) for a in held], [fit(a, 0) for a in state], [fit(a, 1) for a in numbers]]
    results, operands = weight.shape[:2]
    square = [(0, 0), (0, 0), (0, tile.units - H), (0, tile.units - H)]
    swizzle = plgpu.find_swizzle(UNITS * weight.dtype.itemsize * 8)
    laid = (plgpu.TilingTransform((8, swizzle // weight.dtype.itemsize)), plgpu.SwizzleTransform(swizzle))

    def out(aval: Any, *leading: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((*leading, blocks * tile.rows, *aval.shape[:-1], tile.units), aval.dtype)

    types = [[out(a) for a in program.outputs(AFTER)], [out(a, T) for a in program.outputs(WRITTEN)]]
    counts = [len(each) for each in (*given, *types)]

    def body(w: Any, *refs: Any) -> None:
        *refs, w_shared, v_shared, loaded, met = refs
        pieces = iter(refs)
        params, held, state, stream, after, written = (list(itertools.islice(pieces, n)) for n in counts)
        place = _Place(plgpu, lax.axis_index("block"), lax.axis_index("warpgroup"), tile)

        @pl.when(place.warpgroup == 0)
        def _() -> None:
            plgpu.copy_gmem_to_smem(w, w_shared, loaded)

        fixed = [place.load(ref, a) for ref, a in zip(params, program.inputs(PARAMS), strict=True)]
        fixed_rows = [place.load(ref, a, ()) for ref, a in zip(held, program.inputs(HELD), strict=True)]
        start = [place.load(ref, a, ()) for ref, a in zip(state, program.inputs(STATE), strict=True)]
        plgpu.barrier_wait(loaded)

        def multiply(slot: Any, tiles: list[Any]) -> list[Array]:
            for k, each in enumerate(tiles):
                place.store(v_shared.at[slot, k, :, place.units], each.astype(weight.dtype))
            plgpu.commit_smem()
            plgpu.barrier_arrive_and_wait(met)

            def products(*sums: Any) -> list[Array]:
                for g, k in itertools.product(range(results), range(operands)):
                    plgpu.wgmma(sums[g], w_shared.at[g, k, place.units], v_shared.at[slot, k].T)
                plgpu.wgmma_wait(0)
                return [each[...] for each in sums]

            return pl.run_scoped(products, *[plgpu.ACC(place.shape, jnp.float32)] * results)

        def step(index: Any, flat: list[Array]) -> list[Array]:
            t = T - 1 - index if reverse else index
            running = Running(program, place.shape)
            running.give(PARAMS, fixed)
            running.give(HELD, fixed_rows)
            running.give(STATE, _unflat(flat, start))
            running.give(STREAM, [place.load(ref, a, (t,)) for ref, a in zip(stream, program.inputs(STREAM), strict=True)])
            sums = multiply(lax.rem(index, SLOTS), _flat(running.take(OPERAND)))
            running.give(PRODUCT, _unflat(sums, program.inputs(PRODUCT)))
            for ref, tiles in zip(written, running.take(WRITTEN), strict=True):
                place.store_all(ref, tiles, (t,))
            return _flat(running.take(AFTER))

        last = lax.fori_loop(0, T, step, _flat(start))
        for ref, tiles in zip(after, _unflat(last, start), strict=True):
            place.store_all(ref, tiles, ())

    shared = functools.partial(plgpu.SMEM, dtype=weight.dtype, transforms=laid)
    scratch = [shared((results, operands, tile.units, tile.units)), shared((SLOTS, operands, tile.rows, tile.units))]
    call = plgpu.kernel(
        body,
        out_type=[*types[0], *types[1]],
        scratch_types=[*scratch, plgpu.Barrier(num_arrivals=1), plgpu.Barrier(num_arrivals=warpgroups)],
        grid=(blocks,),
        grid_names=("block",),
        num_threads=warpgroups,
        thread_name="warpgroup",
        interpret=interpret,
    )
    found = list(call(jnp.pad(weight, square), *itertools.chain(*given)))
    after, written = found[: counts[4]], found[counts[4] :]
    return [a[:B, ..., :H] for a in after], [a[:, :B, ..., :H] for a in written]


class _Place:
    """Where a warpgroup stands in the arrays, and how it moves a tile [units, rows] between registers and [rows, units]."""

    def __init__(self, plgpu: Any, block: Any, warpgroup: Any, tile: Tile) -> None:
        from jax.experimental import pallas as pl

        self.plgpu, self.warpgroup, self.shape = plgpu, warpgroup, (UNITS, tile.rows)
        self.units, self.rows = pl.ds(warpgroup * UNITS, UNITS), pl.ds(block * tile.rows, tile.rows)

    def load(self, ref: Any, aval: Any, at: tuple[Any, ...] | None = None) -> Tiles:
        """The tiles of an array of which one unit of one row has the shape of `aval`; without `at` it has no batch axis."""
        layout, load = self.plgpu.Layout, functools.partial(self.plgpu.load, optimized=False)
        found = np.empty(aval.shape, object)
        for entry in np.ndindex(aval.shape[:-1]):
            if at is None:
                part = load(ref.at[(*entry, self.units)], layout=layout.WGMMA.reduce(1))
                part = lax.broadcast_in_dim(part, self.shape, (0,))
            elif aval.shape == ():
                part = load(ref.at[(*at, self.rows)], layout=layout.WGMMA.reduce(0))
                part = lax.broadcast_in_dim(part, self.shape, (1,))
            else:
                part = load(ref.at[(*at, self.rows, *entry, self.units)].T, layout=layout.WGMMA_TRANSPOSED)
                part = self.plgpu.layout_cast(part, layout.WGMMA)
            found[(*entry, 0) if aval.shape else ()] = part != 0 if aval.dtype == jnp.bool_ else part
        return found

    def store(self, ref: Any, part: Array) -> None:
        part = self.plgpu.layout_cast(part, self.plgpu.Layout.WGMMA_TRANSPOSED)
        self.plgpu.store(ref.T, part, optimized=False)

    def store_all(self, ref: Any, tiles: Tiles, at: tuple[Any, ...]) -> None:
        for entry in np.ndindex(tiles.shape[:-1]):
            self.store(ref.at[(*at, self.rows, *entry, self.units)], tiles[(*entry, 0)])


def _flat(tiles: list[Tiles]) -> list[Array]:
    return [each for array in tiles for each in array.flat]


def _unflat(flat: list[Array], like: list[Any]) -> list[Tiles]:
    """Object arrays of the shapes of `like`."""
    pieces, found = iter(flat), []
    for each in like:
        array = np.empty(each.shape, object)
        for index in np.ndindex(each.shape):
            array[index] = next(pieces)
        found.append(array)
    return found


def _pad(a: Array, axis: int | None, rows: int, units: int) -> Array:
    """Whole tiles. What is added repeats the last row and unit, so that no number comes up that would not come up anyway."""
    ends = [0] * a.ndim
    if axis is not None:
        ends[axis] = rows - a.shape[axis]
    if axis is None or a.ndim > axis + 1:
        ends[-1] = units - a.shape[-1]
    return jnp.pad(a, [(0, n) for n in ends], mode="edge") if any(ends) else a
