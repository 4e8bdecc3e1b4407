"""What the `ScannedRNN` of both APIs share: a cell by its name, and a carry that is a plain array
where it has one leaf."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn import cells
from jaxrnn.cell import Array, Carry, Cell, DType, Params, check_cell_type
from jaxrnn.checks import as_array, axes_of, check_float, check_size
from jaxrnn.interop.cell_config import nearest
from jaxrnn.interop.torch_states import from_named
from jaxrnn.modules import call


@functools.cache
def cell_names() -> dict[str, type[Cell]]:
    """The cells that need nothing but `hidden_size`, by the short form of their names:
    `GRUCell` is "gru"."""
    kinds: dict[str, Any] = {name: getattr(cells, name) for name in cells.__all__}
    return {_short(name): kind for name, kind in kinds.items() if _is_sized(kind)}


def cell_of(cell: str | Cell, hidden_size: int | None, carry: Any = None) -> Cell:
    """The cell that is meant.

    Args:
        cell: a cell or stack, or the name of one.
        hidden_size: its number of units; None reads it from the cell or from `carry`.
        carry: as a call takes it, or None.

    Raises:
        TypeError: no cell and no name, or a name without a number of units.
        ValueError: an unknown name, or a cell of another number of units.
    """
    if not isinstance(cell, str):
        check_cell_type(cell)
        own = getattr(cell, "hidden_size", hidden_size)
        if hidden_size is not None and hidden_size != own:
            raise ValueError(f"hidden_size={hidden_size}, but cell is {cell}: leave one out.")
        return cell
    known = cell_names()
    if _short(cell) not in known:
        raise ValueError(f"no cell is called {cell!r}. {nearest(_short(cell), known)}")
    leaves = jax.tree.leaves(carry)
    if hidden_size is None and not leaves:
        raise TypeError(f"cell={cell!r} needs hidden_size, or a carry to read it from.")
    size = jnp.shape(leaves[0])[-1] if hidden_size is None else hidden_size
    check_size("hidden_size", size)
    return known[_short(cell)](hidden_size=size)  # pyrefly: ignore[unexpected-keyword]


def initialize_carry(
    batch_size: int | tuple[int, ...],
    hidden_size: int | None = None,
    cell: str | Cell = "gru",
    *,
    input_size: int = 1,
    dtype: DType = jnp.float32,
) -> Any:
    """The carry before the first step.

    Args:
        batch_size: the number of environments, or the batch axes: `()` is one without.
        hidden_size, cell: as of the module.
        input_size: the number of features, for the few cells whose carry depends on it.
        dtype: of the computation.

    Raises:
        ValueError: the first carry of this cell is learned or has axes of space: pass `carry=None`
            to the module.
    """
    chosen = cell_of(cell, hidden_size)
    batch = axes_of("batch_size", batch_size)
    check_float("dtype", dtype)
    row = None
    if chosen.feature_axes == 1:
        row = call.first_row(chosen, (input_size,), jax.dtypes.canonicalize_dtype(dtype))
    if row is None:
        raise ValueError(
            f"the first carry of {chosen} is learned or has axes of space, so that it needs more "
            "than a number of rows: pass carry=None to the module."
        )
    return bare(jax.tree.map(lambda a: jnp.broadcast_to(a, (*batch, *a.shape)), row))


def bare(carry: Carry) -> Any:
    """A carry of one leaf as that array; others as they are."""
    leaves = jax.tree.leaves(carry)
    return leaves[0] if len(leaves) == 1 else carry


def whole(cell: Cell, carry: Any, batch: tuple[int, ...], input_size: int) -> Carry:
    """The carry of the cell from what `bare` made of it."""
    if not hasattr(carry, "shape"):
        return carry if carry is None else from_named(cell, carry, batch)
    structure = _structure(cell, input_size)
    return structure.unflatten([carry]) if structure.num_leaves == 1 else carry


def flags(resets: Any) -> Array:
    """Resets as booleans, from booleans or from the numbers 0 and 1 that environments give."""
    given = jnp.asarray(as_array("resets", resets))
    return given if given.dtype == bool else given != 0


def input_size_of(cell: Cell, params: Params) -> int:
    """The number of input features of parameters.

    Raises:
        ValueError: they do not tell.
    """
    size = cell.input_size(params)
    if size is None:
        raise ValueError(
            f"the parameters of {cell} do not tell its number of inputs: use Recurrent."
        )
    return size


@functools.lru_cache(maxsize=256)
def _structure(cell: Cell, input_size: int) -> Any:
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), input_size))
    x = jax.ShapeDtypeStruct((1,) * (cell.feature_axes - 1) + (input_size,), jnp.float32)
    return jax.tree.structure(
        jax.eval_shape(lambda p, x: cell.init_carry(cell.prepare(p), x), params, x)
    )


def _is_sized(kind: Any) -> bool:
    """Whether it is a class of cells of vectors that can be made of `hidden_size` alone."""
    if not isinstance(kind, type) or not issubclass(kind, Cell) or kind.feature_axes != 1:
        return False
    missing = dataclasses.MISSING
    fields = dataclasses.fields(kind)  # pyrefly: ignore[bad-argument-type]
    return ["hidden_size"] == [
        f.name for f in fields if f.default is missing and f.default_factory is missing
    ]


def _short(name: str) -> str:
    return name.removesuffix("Cell").lower()
