"""One Pallas Mosaic-GPU kernel that runs a whole sequence, forward or backward, with the weight in
shared memory.

A block of the grid takes `Tile.rows` rows of the batch through all steps, so that blocks never wait
for each other. A warpgroup of it takes 64 hidden units: of every gate it has the tile [64 units,
rows] in registers, as the tensor cores leave it. At each step the warpgroups write their part of
the operand (h forward, the cotangents of the gates backward) to shared memory, meet at a barrier,
and multiply. Where there is room for two buffers of the operand, used in turn, one barrier per step
is enough.

Arrays in global memory keep the order of all other methods, [T, B, ..., H]; they are read and
written as transposed tiles.
"""

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxrnn.cell import Array, DType
from jaxrnn.hardware.persistent.blocks import UNITS, Tile
from jaxrnn.hardware.persistent.place import Place, flat, meet, typed, unflat
from jaxrnn.hardware.persistent.tiles import Program, Running, Tiles

# The arguments of `unit.forward` and `unit.backward` and their results, by place.
PARAMS, HELD, STATE, STREAM, PRODUCT = range(5)
AFTER, OPERAND, WRITTEN = range(3)


class Launch(NamedTuple):
    """What a kernel is compiled for."""

    program: Program  # (params, held, state, stream, product) -> (after, operand, written)
    tile: Tile
    steps: int
    reverse: bool
    gates: tuple[int, int]  # of the result and of the operand of the product
    dtype: DType  # of the product
    blocks: int

    @property
    def rounds(self) -> bool:
        """Whether products round their operands to 16 bits: beside it the error of the GPU's
        approximate instructions, 2^-11 for tanh, is small."""
        return self.dtype.itemsize == 2

    @property
    def warpgroups(self) -> int:
        return self.tile.units // UNITS


class Refs(NamedTuple):
    """What a block sees of memory; a list for each argument and result of the program."""

    params: list[Any]
    held: list[Any]
    state: list[Any]
    stream: list[Any]
    after: list[Any]
    written: list[Any]
    weight: Any  # in global memory, `Tile.weight`
    on_chip: Any  # the same in shared memory
    operand: Any  # `Tile.operand`
    loaded: Any  # barriers: the weight is on chip,
    met: Any  # and every warpgroup has written its part of the operand


def run(
    program: Program,
    tile: Tile,
    weight: Array,
    arguments: tuple[list[Array], list[Array], list[Array], list[Array]],
    *,
    reverse: bool,
    interpret: Any,
) -> tuple[list[Array], list[Array]]:
    """Runs a program for one unit of one row over time.

    Args:
        program: `(params, held, state, stream, product) -> (after, operand, written)`.
        tile: from `blocks.fit`.
        weight: [results, operands, H, H] in the dtype of the product; the last axis is summed over.
        arguments: params [..., H], the same for all rows and steps; held [B, ..., H], the same for
            all steps; state [B, ..., H], before the first step; stream [T, B, ..., H], or [T, B]
            where a row has one number, a slice for each step.
        reverse: whether time runs from T - 1 to 0.
        interpret: the interpret parameters of Pallas; None compiles for a GPU.

    Returns:
        The state after the last step, and what is written at each step.
    """
    from jax.experimental.pallas import mosaic_gpu as plgpu

    T = arguments[STREAM][0].shape[0]
    B = arguments[STATE][0].shape[0]
    results, operands, _, H = weight.shape
    launch = Launch(
        program=program,
        tile=tile,
        steps=T,
        reverse=reverse,
        gates=(results, operands),
        dtype=weight.dtype,
        blocks=-(-B // tile.rows),
    )
    batch = (None, 0, 0, 1)  # which axis of an argument it is
    given = [
        [_pad(_number(a), axis, launch) for a in arrays]
        for arrays, axis in zip(arguments, batch, strict=True)
    ]
    types = [
        [_type(a, launch) for a in program.outputs(AFTER)],
        [_type(a, launch, T) for a in program.outputs(WRITTEN)],
    ]
    counts = [len(each) for each in (*given, *types)]

    def body(weight: Any, *refs: Any) -> None:
        *others, on_chip, operand, loaded, met = refs
        pieces = iter(others)
        lists = [list(itertools.islice(pieces, n)) for n in counts]
        refs = Refs(*lists, weight=weight, on_chip=on_chip, operand=operand, loaded=loaded, met=met)
        _block(plgpu, launch, refs)

    call = plgpu.kernel(
        body,
        out_type=[*types[0], *types[1]],
        scratch_types=_scratch(plgpu, launch),
        grid=(launch.blocks,),
        grid_names=("block",),
        num_threads=launch.warpgroups,
        thread_name="warpgroup",
        compiler_params=plgpu.CompilerParams(approx_math=launch.rounds),
        interpret=interpret,
    )
    found = list(call(_stacked(weight, tile), *itertools.chain(*given)))
    after = found[: len(types[0])]
    written = found[len(types[0]) :]
    return [a[:B, ..., :H] for a in after], [a[:, :B, ..., :H] for a in written]


def _stacked(weight: Array, tile: Tile) -> Array:
    """The weights one below the other, `Tile.weight`; what is added to them takes nothing from the
    vectors."""
    more = tile.depth - weight.shape[-1]
    rows = jnp.pad(weight, [(0, 0), (0, 0), (0, more), (0, 0)], mode="edge")  # as in `_pad`
    flat = jnp.pad(rows, [(0, 0), (0, 0), (0, 0), (0, more)]).reshape(-1, tile.depth)
    return jnp.pad(flat, [(0, tile.units - tile.depth), (0, 0)])


def _number(a: Array) -> Array:
    """Booleans as numbers: they are not loaded as such."""
    return a.astype(jnp.float32) if a.dtype == jnp.bool_ else a


def _pad(a: Array, axis: int | None, launch: Launch) -> Array:
    """Whole tiles. What is added repeats the last row and unit, so that no number comes up that
    would not come up anyway."""
    # An added unit below `Tile.depth` runs as the last one at every step, as its rows of the weight
    # repeat too (`_stacked`): what a product takes of it is 0 times a number that was there before.
    ends = [0] * a.ndim
    if axis is not None:
        ends[axis] = launch.blocks * launch.tile.rows - a.shape[axis]
    if axis is None or a.ndim > axis + 1:
        ends[-1] = launch.tile.units - a.shape[-1]
    return jnp.pad(a, [(0, n) for n in ends], mode="edge") if any(ends) else a


def _type(aval: Any, launch: Launch, *leading: int) -> jax.ShapeDtypeStruct:
    rows = launch.blocks * launch.tile.rows
    return jax.ShapeDtypeStruct((*leading, rows, *aval.shape[:-1], launch.tile.units), aval.dtype)


def _scratch(plgpu: Any, launch: Launch) -> list[Any]:
    results, operands = launch.gates
    tile = launch.tile
    size = launch.dtype.itemsize
    swizzle = plgpu.find_swizzle(tile.depth * size * 8)
    laid = (plgpu.TilingTransform((8, swizzle // size)), plgpu.SwizzleTransform(swizzle))
    weight = plgpu.SMEM(tile.weight(results * operands), launch.dtype, transforms=laid)
    operand = plgpu.SMEM(tile.operand(operands), launch.dtype, transforms=laid)
    loaded = plgpu.Barrier(num_arrivals=1)  # of the copy, which one warpgroup starts
    met = plgpu.Barrier(num_arrivals=launch.warpgroups)
    return [weight, operand, loaded, met]


def _block(plgpu: Any, launch: Launch, refs: Refs) -> None:
    """All steps of one block, as one of its warpgroups runs them."""
    from jax.experimental import pallas as pl

    program = launch.program
    place = Place(plgpu, launch.tile)

    @pl.when(place.warpgroup == 0)
    def _() -> None:
        plgpu.copy_gmem_to_smem(refs.weight, refs.on_chip, refs.loaded)

    def load(k: int, refs: list[Any], at: tuple[Any, ...] | None) -> list[Tiles]:
        pairs = zip(refs, program.inputs(k), strict=True)
        return [place.load(ref, aval, at) for ref, aval in pairs]

    def turned(k: int, loaded: list[Tiles]) -> list[Tiles]:
        pairs = zip(loaded, program.inputs(k), strict=True)
        return [place.turned(tiles, aval) for tiles, aval in pairs]

    def at(index: Any) -> Any:
        return launch.steps - 1 - index if launch.reverse else index

    fixed = load(PARAMS, refs.params, None)
    held = turned(HELD, load(HELD, refs.held, ()))
    start = turned(STATE, load(STATE, refs.state, ()))
    now = load(STREAM, refs.stream, (at(0),))
    plgpu.barrier_wait(refs.loaded)  # all warpgroups read the weight, which one of them copies

    def step(
        index: Any, carried: tuple[list[Array], list[Array]]
    ) -> tuple[list[Array], list[Array]]:
        # The inputs of the next step are on their way while this one runs; after the last there is
        # none, and its own are read again, for nothing.
        later = load(STREAM, refs.stream, (at(lax.min(index + 1, launch.steps - 1)),))
        running = Running(program, place.shape, approximate=launch.rounds)
        stream = turned(STREAM, unflat(carried[1], now))
        lists = (fixed, held, unflat(carried[0], start), stream)
        for k, tiles in enumerate(lists):
            pairs = zip(tiles, program.inputs(k), strict=True)
            running.give(k, [typed(each, aval) for each, aval in pairs])
        slot = _slot(index, launch.tile)
        operand = flat(running.take(OPERAND))
        sums = _multiply(plgpu, launch, place, refs, slot, operand)
        running.give(PRODUCT, unflat(sums, program.inputs(PRODUCT)))
        for ref, tiles in zip(refs.written, running.take(WRITTEN), strict=True):
            place.store(ref, tiles, (at(index),))
        return flat(running.take(AFTER)), flat(later)

    last, _ = lax.fori_loop(0, launch.steps, step, (flat(start), flat(now)))
    for ref, tiles in zip(refs.after, unflat(last, start), strict=True):
        place.store(ref, tiles, ())


def _slot(index: Any, tile: Tile) -> Any:
    """Which buffer of the operand a step uses."""
    return lax.rem(index, tile.slots)


def _multiply(
    plgpu: Any, launch: Launch, place: Place, refs: Refs, slot: Any, tiles: list[Array]
) -> list[Array]:
    """The rows of the product that belong to this warpgroup, a tile for each gate of the result."""
    from jax.experimental import pallas as pl

    results, operands = launch.gates
    depth = launch.tile.depth
    # Where buffers are used in turn, the one of this step was last read two steps ago. Every
    # warpgroup was done with that (`wgmma_wait`) before it came to the barrier of the step between,
    # and this one has passed it: nobody reads any more what is written here.
    for k, each in enumerate(tiles):
        place.store_tile(refs.operand.at[slot, k, :, place.units], each.astype(launch.dtype))
    # Every warpgroup comes here equally often: a branch on it around a step would hang the block.
    plgpu.commit_smem()  # before the barrier: the tensor cores of any warpgroup may read it after
    meet(plgpu, refs.met)

    def products(*sums: Any) -> list[Array]:
        for g, k in itertools.product(range(results), range(operands)):
            rows = pl.ds((g * operands + k) * depth + place.warpgroup * UNITS, UNITS)
            vectors = refs.operand.at[slot, k, :, pl.ds(0, depth)]  # one per column of a weight
            plgpu.wgmma(sums[g], refs.on_chip.at[rows], vectors.T)
        plgpu.wgmma_wait(0)
        return [each[...] for each in sums]

    sums = pl.run_scoped(products, *[plgpu.ACC(place.shape, jnp.float32)] * results)
    if launch.tile.slots == 1:
        meet(plgpu, refs.met)  # before it is written again
    return sums
