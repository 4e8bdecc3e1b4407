"""The cells that are compared, read from `cells.yaml`."""

from pathlib import Path
from typing import Any, NamedTuple, Protocol

import yaml

import jaxrnn
from jaxrnn.initializers import Normal
from jaxrnn.wrappers import Block, MultiHead


class KnownCell(Protocol):
    """What every cell has that the commands know by name."""

    @property
    def description(self) -> str: ...

    @property
    def style(self) -> str:
        """Colour and line in figures, which choose one where it is empty."""
        ...

    def make(self, hidden_size: int, lag: int) -> jaxrnn.Cell:
        """The cell of a size, with what its options make of the lag."""
        ...


class NamedCell(NamedTuple):
    description: str
    cell: str  # a class of jaxrnn.cells
    options: dict[str, Any] = {}  # noqa: RUF012
    heads: int | None = None  # of a block-diagonal recurrence
    blocks: int | None = None  # so many around it, one behind the other, and a linear layer before
    wrapped: dict[str, Any] | None = None  # by a class of jaxrnn.wrappers, with its options
    style: str = ""

    def make(self, hidden_size: int, lag: int) -> jaxrnn.Cell:
        words = {
            "chrono": lambda: jaxrnn.Chrono(lag),
            "two_over_lag": lambda: 2 / lag,
            "twofold": lambda: 2 ** (1 / lag),
            "lag": lambda: lag,
            "half": lambda: max(hidden_size // 2, 1),
        }
        options = {
            key: Normal(v["normal"]) if isinstance(v, dict) else v
            for key, v in self.options.items()
        }
        options |= {key: words[v]() for key, v in options.items() if v in words}
        cell = getattr(jaxrnn.cells, self.cell)(hidden_size, **options)
        for name, given in (self.wrapped or {}).items():
            cell = getattr(jaxrnn.wrappers, name)(cell, **given)
        if self.blocks is not None:
            block = Block(cell, mlp=2 * hidden_size)
            return jaxrnn.Stack((jaxrnn.cells.DenseCell(hidden_size), *(block,) * self.blocks))
        return cell if self.heads is None else MultiHead(cell, self.heads)


CELLS: dict[str, KnownCell] = {
    name: NamedCell(**entry)
    for name, entry in yaml.safe_load(Path(__file__).with_name("cells.yaml").read_text()).items()
}
