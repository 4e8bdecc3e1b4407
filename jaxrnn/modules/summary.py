"""How a module prints: its layers, their directions, and the shapes of their parameters."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import jax

from jaxrnn.cell import Cell
from jaxrnn.stack import Stack


def title(cell: Cell, input_size: int, batch_first: bool) -> str:
    """What stands in the first line: sizes, and the options that are not the default."""
    layout = "batch first" if batch_first else "time first"
    count = sum(math.prod(shape) for _, shape in _shapes(cell, input_size))
    noise = f", dropout={cell.dropout}" if isinstance(cell, Stack) and cell.dropout else ""
    return f"input_size={input_size}, {layout}{noise}: {count:,} parameters"


def rows(cell: Cell, input_size: int) -> Iterator[tuple[str, str]]:
    """For each layer and direction its name, and its cell with the shapes of its parameters."""
    if not isinstance(cell, Stack):
        yield "cell", _row(cell, _shapes(cell, input_size))
        return
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), input_size))
    for index, own in enumerate(params):
        layer, direction = divmod(index, cell.directions)
        name = f"layer_{layer}"
        if cell.bidirectional:
            name += ("_forward", "_backward")[direction]
        yield name, _row(cell.cells[layer], _leaves(own))


def text(module: Any, cell: Cell, input_size: int, batch_first: bool) -> str:
    """A module as lines of text."""
    lines = [f"  {name} = {row}" for name, row in rows(cell, input_size)]
    head = f"{type(module).__name__}(  # {title(cell, input_size, batch_first)}"
    return "\n".join([head, *lines, ")"])


def _row(cell: Cell, shapes: list[tuple[str, tuple[int, ...]]]) -> str:
    told = ", ".join(f"{name} {list(shape)}" for name, shape in shapes)
    return f"{_short(cell)}: {told}"


def _short(cell: Any) -> str:
    """A cell with those of its options that are not the default."""
    if not isinstance(cell, Cell) or not dataclasses.is_dataclass(cell):
        return repr(cell)
    options = [(f, getattr(cell, f.name)) for f in dataclasses.fields(cell)]
    told = [
        _short(value) if f.default is dataclasses.MISSING else f"{f.name}={_short(value)}"
        for f, value in options
        if f.default is dataclasses.MISSING or value != f.default
    ]
    return f"{type(cell).__name__}({', '.join(told)})"


def _shapes(cell: Cell, input_size: int) -> list[tuple[str, tuple[int, ...]]]:
    return _leaves(jax.eval_shape(lambda: cell.init(jax.random.key(0), input_size)))


def _leaves(params: Any) -> list[tuple[str, tuple[int, ...]]]:
    return [
        (jax.tree_util.keystr(path, simple=True, separator="."), leaf.shape)
        for path, leaf in jax.tree.leaves_with_path(params)
    ]
