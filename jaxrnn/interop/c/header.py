"""A cell as one C99 header: its weights, its state, and a step without any allocation."""

import math
import re
from typing import Any

import numpy as np

from jaxrnn.cell import Cell, Params
from jaxrnn.interop.c.lines import Place, loop
from jaxrnn.interop.c.operations import Operations
from jaxrnn.interop.program import Operand, Program, step_program


def to_c(
    cell: Cell,
    params: Params,
    name: str = "model",
    *,
    head: tuple[Any, Any] | None = None,
) -> str:
    """A header for microcontrollers and audio: `NAME_reset(&state)`, and for each step
    `NAME_step(&state, x, y)`, in float, without allocation.

    It is read from the equations of the cell, so that any cell of vectors can be shipped, and
    wrappers as they are without noise.

    Args:
        cell: a cell or stack that runs in one direction.
        params: its parameters.
        name: what all names in the header begin with, in lower case, and macros in upper case.
        head: (kernel [H, O], bias [O] or None) of an affine readout behind it.

    Returns:
        The text of the header. It needs `math.h` and nothing else; `NAME_INPUT_SIZE` and
        `NAME_OUTPUT_SIZE` say how long x and y are.

    Raises:
        ConversionError: a cell of both directions or of pictures, or an equation that has no form
            here, by its name.
        ValueError: a name that is none in C, or a head of another size.

    Example:
        >>> import jax, jaxrnn
        >>> from jaxrnn.interop import to_c
        >>> cell = jaxrnn.GRUCell(4)
        >>> text = to_c(cell, cell.init(jax.random.key(0), input_size=3), "voice")
        >>> [line for line in text.splitlines() if line.startswith("static inline")]
        ... # doctest: +NORMALIZE_WHITESPACE
        ['static inline void voice_reset(voice_state *state) {',
         'static inline void voice_step(voice_state *state, const float *x, float *y) {']
    """
    if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError(
            f"name must be a name in C of lower-case letters, digits and _, got {name!r}."
        )
    program = step_program(cell, params)
    return _Header(name, program, _head(program, head)).text(type(cell).__name__)


def _head(program: Program, head: Any) -> tuple[np.ndarray, np.ndarray | None] | None:
    if head is None:
        return None
    kernel, bias = head
    kernel = np.asarray(kernel, np.float32)
    bias = None if bias is None else np.asarray(bias, np.float32)
    size = program.y.shape[-1]
    if kernel.ndim != 2 or kernel.shape[0] != size:
        raise ValueError(f"the kernel of head must be [{size}, outputs], got {kernel.shape}.")
    if bias is not None and bias.shape != kernel.shape[1:]:
        raise ValueError(f"the bias of head must be {kernel.shape[1:]}, got {bias.shape}.")
    return kernel, bias


class _Header(Operations):
    """The text of a header."""

    def __init__(self, name: str, program: Program, head: Any) -> None:
        super().__init__(name)
        self.program = program
        self.head = head

    def text(self, kind: str) -> str:
        program = self.program
        fields = [_field(name) for name in program.names]
        sizes = [math.prod(first.shape) for first in program.first]
        outputs = self._step(fields, sizes)
        resets = [
            line
            for field, first in zip(fields, program.first, strict=True)
            for line in self._reset(field, first)
        ]
        struct = [f"    float {f}[{n}];" for f, n in zip(fields, sizes, strict=True)]
        unused = [] if fields else ["    (void)state;"]
        name = self.name
        upper = name.upper()
        lines = [
            f"/* {kind}, written by jaxrnn. {name}_reset(&state) begins a sequence, and",
            f"   {name}_step(&state, x, y) takes a step of it. Weights {self.bytes:,} bytes,",
            f"   state {4 * sum(sizes):,}, stack {4 * self.floats:,}; no allocation. */",
            f"#ifndef {upper}_H",
            f"#define {upper}_H",
            "",
            "#include <math.h>",
            "",
            f"#define {upper}_INPUT_SIZE {math.prod(program.x.shape)}",
            f"#define {upper}_OUTPUT_SIZE {outputs}",
            "",
            "typedef struct {",
            *(struct or ["    char nothing;"]),
            f"}} {name}_state;",
            "",
            *self.constants,
            f"static inline void {name}_reset({name}_state *state) {{",
            *resets,
            *unused,
            "}",
            "",
            f"static inline void {name}_step({name}_state *state, const float *x, float *y) {{",
            *self.lines,
            *unused,
            "}",
            "",
            "#endif",
            "",
        ]
        return "\n".join(lines)

    def _step(self, fields: list[str], sizes: list[int]) -> int:
        """The lines of one step; how many numbers it puts out."""
        program = self.program
        self.places[program.x.number] = Place("x", program.x.shape)
        for value, field in zip(program.carry, fields, strict=True):
            self.places[value.number] = Place(f"state->{field}", value.shape)
        for operation in program.operations:
            self.write(operation)
        y = self._kept(self._output())
        after = [self._settled(operand) for operand in program.after]
        for field, place, size in zip(fields, after, sizes, strict=True):
            target = f"state->{field}"
            if place.text != target:
                self.loop(size, lambda i, t=target, p=place: f"{t}[{i}] = {p.at(i)};")
        # y may be where x is: it comes last
        count = math.prod(y.shape)
        self.loop(count, lambda i: f"y[{i}] = {y.at(i)};")
        return count

    def _output(self) -> Place:
        y = self.place(self.program.y)
        if self.head is None:
            return y
        kernel, bias = self.head
        out = self.fresh((kernel.shape[1],))
        self.product(y, self.constant(kernel), out, bias)
        return out

    def _settled(self, operand: Operand) -> Place:
        """A place that stays as it is while the state is written."""
        place = self.place(operand)
        if "state->" not in place.text:
            return place
        own = [f"state->{_field(name)}" for name in self.program.names]
        index = [id(a) for a in self.program.after].index(id(operand))
        if place.text == own[index]:
            return place
        return self._kept(place)

    def _kept(self, place: Place) -> Place:
        """The same numbers where they stay as the state is written."""
        if "state->" not in place.text:
            return place
        kept = self.fresh(place.shape)
        self.loop(math.prod(place.shape), lambda i: f"{kept.at(i)} = {place.at(i)};")
        return kept

    def _reset(self, field: str, first: np.ndarray) -> list[str]:
        place = self.constant(first)
        lines: list[str] = []
        loop(lines, first.size, lambda i: f"state->{field}[{i}] = {place.at(i)};")
        return lines


def _field(name: str) -> str:
    """Of a leaf of the carry, a name in C."""
    return f"layer_{name}" if name[0].isdigit() else name
