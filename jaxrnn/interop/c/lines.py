"""Lines of C, and the arrays that they read and write."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxrnn.interop.program import Operand

NUMBERS_A_LINE = 8


class Place(NamedTuple):
    """Where the numbers of an array lie, one after another: an expression of a pointer, or of the
    one number that all of them are."""

    text: str
    shape: tuple[int, ...]
    is_number: bool = False

    def at(self, index: str) -> str:
        """The number at an index, an expression."""
        return self.text if self.is_number else f"{self.text}[{index}]"


class Lines:
    """The lines of a step in their order, and constants as they are met."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.constants: list[str] = []
        self.known: dict[bytes, str] = {}
        self.bytes = 0
        self.lines: list[str] = []
        self.places: dict[int, Place] = {}
        self.temporaries = 0
        self.floats = 0

    def place(self, operand: Operand) -> Place:
        known = isinstance(operand, np.ndarray)
        return self.constant(operand) if known else self.places[operand.number]

    def constant(self, array: np.ndarray) -> Place:
        flat = np.asarray(array, np.float32).ravel()
        if flat.size and (flat == flat[0]).all():
            return Place(number(flat[0]), array.shape, is_number=True)
        key = flat.tobytes()
        if key not in self.known:
            name = f"{self.name}_w{len(self.known)}"
            self.known[key] = name
            self.bytes += flat.nbytes
            rows = [flat[k : k + NUMBERS_A_LINE] for k in range(0, flat.size, NUMBERS_A_LINE)]
            lines = ["    " + ", ".join(map(number, row)) + "," for row in rows]
            shape = " x ".join(map(str, array.shape))
            head = f"static const float {name}[{flat.size}] = {{ /* {shape} */"
            self.constants += [head, *lines, "};", ""]
        return Place(self.known[key], array.shape)

    def fresh(self, shape: tuple[int, ...]) -> Place:
        name = f"v{self.temporaries}"
        self.temporaries += 1
        self.floats += math.prod(shape)
        self.lines.append(f"    float {name}[{math.prod(shape)}];")
        return Place(name, shape)

    def loop(self, count: int, line: Callable[[str], str]) -> None:
        loop(self.lines, count, line)

    def nested(self, loops: list[tuple[str, int]], body: list[str]) -> None:
        self.lines += [f"    {head}" for head in heads(loops)]
        self.lines += ["    {", *(f"        {line}" for line in body), "    }"]


def loop(lines: list[str], count: int, line: Callable[[str], str]) -> None:
    if count == 1:
        lines.append(f"    {line('0')}")
    else:
        lines.append(f"    for (int i = 0; i < {count}; i++) {line('i')}")


def heads(loops: list[tuple[str, int]]) -> list[str]:
    return [f"for (int {name} = 0; {name} < {size}; {name}++)" for name, size in loops]


def index(names: Sequence[str], shape: Sequence[int]) -> str:
    """The place of an entry among numbers in rows."""
    text = "0"
    for name, size in zip(names, shape, strict=True):
        text = name if text == "0" else f"({text}) * {size} + {name}"
    return text


def number(value: Any) -> str:
    value = float(value)
    if math.isnan(value):
        return "NAN"
    if math.isinf(value):
        return "INFINITY" if value > 0 else "-INFINITY"
    text = f"{value:.9g}"
    return f"{text}f" if re.search(r"[.e]", text) else f"{text}.0f"


def wrapped(text: str) -> str:
    return f"({text})" if text.startswith("-") else text
