"""A cell as one C99 header: its weights, its state, and a step without any allocation."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxrnn.cell import Cell, Params
from jaxrnn.interop.layouts import ConversionError
from jaxrnn.interop.program import Operand, Operation, Program, Value, step_program

# what an operation makes of C expressions of its operands
ELEMENTWISE: dict[str, Callable[..., str]] = {
    "add": "{0} + {1}".format,
    "sub": "{0} - {1}".format,
    "mul": "{0} * {1}".format,
    "div": "{0} / {1}".format,
    "max": "fmaxf({0}, {1})".format,
    "min": "fminf({0}, {1})".format,
    "pow": "powf({0}, {1})".format,
    "neg": "-{0}".format,
    "exp": "expf({0})".format,
    "exp2": "exp2f({0})".format,
    "expm1": "expm1f({0})".format,
    "log": "logf({0})".format,
    "log1p": "log1pf({0})".format,
    "tanh": "tanhf({0})".format,
    "sin": "sinf({0})".format,
    "cos": "cosf({0})".format,
    "erf": "erff({0})".format,
    "logistic": "1.0f / (1.0f + expf(-{0}))".format,
    "sqrt": "sqrtf({0})".format,
    "rsqrt": "1.0f / sqrtf({0})".format,
    "abs": "fabsf({0})".format,
    "square": "{0} * {0}".format,
    "floor": "floorf({0})".format,
    "ceil": "ceilf({0})".format,
    "sign": "(float)(({0} > 0.0f) - ({0} < 0.0f))".format,
    "gt": "(float)({0} > {1})".format,
    "lt": "(float)({0} < {1})".format,
    "ge": "(float)({0} >= {1})".format,
    "le": "(float)({0} <= {1})".format,
    "eq": "(float)({0} == {1})".format,
    "ne": "(float)({0} != {1})".format,
    "and": "{0} * {1}".format,
    "or": "fmaxf({0}, {1})".format,
    "not": "1.0f - {0}".format,
    "select_n": "{0} != 0.0f ? {2} : {1}".format,
    "clamp": "fminf(fmaxf({1}, {0}), {2})".format,
}
SAME = ("reshape", "squeeze", "expand_dims", "copy", "copy_p", "stop_gradient")
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
    return _Writer(name, program, _head(program, head)).text(type(cell).__name__)


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


class _Writer:
    """The lines of a header: constants as they are met, and those of the step in their order."""

    def __init__(self, name: str, program: Program, head: Any) -> None:
        self.name = name
        self.program = program
        self.head = head
        self.constants: list[str] = []
        self.known: dict[bytes, str] = {}
        self.bytes = 0
        self.lines: list[str] = []
        self.places: dict[int, Place] = {}
        self.temporaries = 0
        self.floats = 0

    def text(self, kind: str) -> str:
        program = self.program
        fields = [_field(name) for name in program.names]
        sizes = [math.prod(first.shape) for first in program.first]
        self.places[program.x.number] = Place("x", program.x.shape)
        for value, field in zip(program.carry, fields, strict=True):
            self.places[value.number] = Place(f"state->{field}", value.shape)
        for operation in program.operations:
            self._write(operation)
        y = self._output()
        after = [self._settled(operand) for operand in program.after]
        count = math.prod(y.shape)
        self._loop(count, lambda i: f"y[{i}] = {y.at(i)};")
        for field, place, size in zip(fields, after, sizes, strict=True):
            if place.text != f"state->{field}":
                target = f"state->{field}"
                self._loop(size, lambda i, t=target, p=place: f"{t}[{i}] = {p.at(i)};")
        resets = [
            self._reset(field, first) for field, first in zip(fields, program.first, strict=True)
        ]
        upper = self.name.upper()
        struct = "\n".join(f"    float {f}[{n}];" for f, n in zip(fields, sizes, strict=True))
        unused = [] if fields else ["    (void)state;"]
        struct = struct or "    char nothing;"
        return "\n".join(
            [
                f"/* {kind}, written by jaxrnn. {self.name}_reset(&state) begins a sequence, and",
                f"   {self.name}_step(&state, x, y) takes a step of it. Weights {self.bytes:,} "
                "bytes,",
                f"   state {4 * sum(sizes):,}, stack {4 * self.floats:,}; no allocation. */",
                f"#ifndef {upper}_H",
                f"#define {upper}_H",
                "",
                "#include <math.h>",
                "",
                f"#define {upper}_INPUT_SIZE {math.prod(program.x.shape)}",
                f"#define {upper}_OUTPUT_SIZE {count}",
                "",
                f"typedef struct {{\n{struct}\n}} {self.name}_state;",
                "",
                *self.constants,
                f"static inline void {self.name}_reset({self.name}_state *state) {{",
                *(line for lines in resets for line in lines),
                *unused,
                "}",
                "",
                f"static inline void {self.name}_step({self.name}_state *state, const float *x, "
                "float *y) {",
                *self.lines,
                *unused,
                "}",
                "",
                "#endif",
                "",
            ]
        )

    def _output(self) -> Place:
        y = self._place(self.program.y)
        if self.head is None:
            return y
        kernel, bias = self.head
        out = self._fresh((kernel.shape[1],))
        self._product(y, self._constant(kernel), out, bias)
        return out

    def _settled(self, operand: Operand) -> Place:
        """A place that stays as it is while the state is written."""
        place = self._place(operand)
        if not place.text.startswith("state->"):
            return place
        own = [f"state->{_field(name)}" for name in self.program.names]
        index = [id(a) for a in self.program.after].index(id(operand))
        if place.text == own[index]:
            return place
        kept = self._fresh(place.shape)
        self._loop(math.prod(place.shape), lambda i: f"{kept.at(i)} = {place.at(i)};")
        return kept

    def _reset(self, field: str, first: np.ndarray) -> list[str]:
        place = self._constant(first)
        lines: list[str] = []
        _loop(lines, first.size, lambda i: f"state->{field}[{i}] = {place.at(i)};")
        return lines

    # --- operations -------------------------------------------------------------------------------

    def _write(self, operation: Operation) -> None:
        name = operation.name
        inputs = [self._place(operand) for operand in operation.inputs]
        out = operation.outputs[0]
        if name in SAME or (name == "convert_element_type" and out.dtype != jnp.bool_):
            self.places[out.number] = inputs[0]._replace(shape=out.shape)
        elif name == "convert_element_type":
            self._each(out, lambda i: f"(float)({inputs[0].at(i)} != 0.0f)")
        elif name in ELEMENTWISE:
            form = ELEMENTWISE[name]
            inputs = [self._spread(place, out.shape) for place in inputs]
            self._each(out, lambda i: form(*(_wrapped(place.at(i)) for place in inputs)))
        elif name == "integer_pow":
            self._power(operation, inputs[0])
        elif name == "dot_general":
            self._dot(operation, inputs)
        elif name.startswith("reduce_"):
            self._reduce(operation, inputs[0])
        else:
            self._moved(operation, inputs)

    def _each(self, out: Value, value: Callable[[str], str]) -> None:
        place = self._fresh(out.shape)
        self.places[out.number] = place
        self._loop(math.prod(out.shape), lambda i: f"{place.at(i)} = {value(i)};")

    def _spread(self, a: Place, shape: tuple[int, ...]) -> Place:
        """The same numbers over the axes of which `a` has one entry."""
        if a.is_number or math.prod(a.shape) == math.prod(shape):
            return a
        if math.prod(a.shape) == 1:
            return Place(a.at("0"), shape, is_number=True)
        return self._gather(shape, a, range(len(shape)))

    def _power(self, operation: Operation, a: Place) -> None:
        y = operation.params["y"]
        form = " * ".join(["{0}"] * abs(y)) if 0 < abs(y) <= 4 else f"powf({{0}}, {abs(y)}.0f)"
        form = f"1.0f / ({form})" if y < 0 else form
        self._each(operation.outputs[0], lambda i: form.format(_wrapped(a.at(i))))

    def _dot(self, operation: Operation, inputs: list[Place]) -> None:
        (left, right), batch = operation.params["dimension_numbers"]
        lhs, rhs = operation.inputs
        out = operation.outputs[0]
        place = self._fresh(out.shape)
        self.places[out.number] = place
        of_vector = isinstance(rhs, np.ndarray) and len(lhs.shape) == len(left) and not batch[0]
        if of_vector:  # its weights lie as they are read
            free = [axis for axis in range(rhs.ndim) if axis not in right]
            kernel = np.transpose(rhs, (*right, *free))
            kernel = kernel.reshape(math.prod(lhs.shape), -1)
            if list(left) == sorted(left):
                self._product(inputs[0], self._constant(kernel), place, None)
                return
        self._contract(inputs, place, (left, right), batch)

    def _product(self, v: Place, kernel: Place, out: Place, bias: Any) -> None:
        """out = v kernel + bias, row by row of the kernel, which a compiler makes vectors of."""
        rows, columns = kernel.shape
        start = Place("0.0f", (), is_number=True) if bias is None else self._constant(bias)
        self._loop(columns, lambda j: f"{out.at(j)} = {start.at(j)};")
        w = kernel.at(f"i * {columns} + j")
        self.lines += [
            f"    for (int i = 0; i < {rows}; i++) {{",
            f"        const float a = {v.at('i')};",
            f"        for (int j = 0; j < {columns}; j++) {out.at('j')} += a * {w};",
            "    }",
        ]

    def _contract(self, inputs: list[Place], out: Place, contract: Any, batch: Any) -> None:
        """Any other product of two arrays: a loop for each axis."""
        names: list[list[str]] = [[""] * len(place.shape) for place in inputs]
        loops = []
        for k, (a, b) in enumerate(zip(*batch, strict=True)):
            names[0][a] = names[1][b] = f"b{k}"
            loops.append((f"b{k}", inputs[0].shape[a]))
        for k, (a, b) in enumerate(zip(*contract, strict=True)):
            names[0][a] = names[1][b] = f"k{k}"
        for side, place in enumerate(inputs):
            for axis, size in enumerate(place.shape):
                if not names[side][axis]:
                    names[side][axis] = f"f{side}{axis}"
                    loops.append((f"f{side}{axis}", size))
        inner = [(f"k{k}", inputs[0].shape[a]) for k, a in enumerate(contract[0])]
        left, right = (
            place.at(_index(own, place.shape)) for place, own in zip(inputs, names, strict=True)
        )
        target = out.at(_index([n for n, _ in loops], [size for _, size in loops]))
        body = ["float sum = 0.0f;", *_heads(inner), f"    sum += {left} * {right};"]
        self._nested(loops, [*body, f"{target} = sum;"])

    def _reduce(self, operation: Operation, a: Place) -> None:
        form = {
            "reduce_sum": ("0.0f", "sum += {};"),
            "reduce_max": ("-INFINITY", "sum = fmaxf(sum, {});"),
            "reduce_min": ("INFINITY", "sum = fminf(sum, {});"),
            "reduce_prod": ("1.0f", "sum *= {};"),
        }.get(operation.name)
        if form is None:
            raise _unknown(operation)
        out = operation.outputs[0]
        place = self._fresh(out.shape)
        self.places[out.number] = place
        names = [f"i{axis}" for axis in range(len(a.shape))]
        pairs = list(zip(names, a.shape, strict=True))
        axes = operation.params["axes"]
        outer = [pair for axis, pair in enumerate(pairs) if axis not in axes]
        inner = [pair for axis, pair in enumerate(pairs) if axis in axes]
        term = form[1].format(a.at(_index(names, a.shape)))
        target = place.at(_index([n for n, _ in outer], [size for _, size in outer]))
        body = [f"float sum = {form[0]};", *_heads(inner), f"    {term}", f"{target} = sum;"]
        self._nested(outer, body)

    def _moved(self, operation: Operation, inputs: list[Place]) -> None:
        """What only puts numbers elsewhere."""
        p = operation.params
        a = inputs[0]
        out = operation.outputs[0]
        rank = len(a.shape)
        if operation.name == "broadcast_in_dim":
            self.places[out.number] = self._gather(out.shape, a, p["broadcast_dimensions"])
        elif operation.name == "transpose":
            places = [p["permutation"].index(axis) for axis in range(rank)]
            self.places[out.number] = self._gather(out.shape, a, places)
        elif operation.name == "slice":
            steps = p["strides"] or (1,) * rank
            found = self._gather(out.shape, a, range(rank), p["start_indices"], steps)
            self.places[out.number] = found
        elif operation.name in ("split", "unstack"):
            self._apart(operation, a)
        elif operation.name == "concatenate":
            self._joined(operation, inputs)
        elif operation.name == "rev":
            last = [n - 1 if k in p["dimensions"] else 0 for k, n in enumerate(a.shape)]
            steps = [-1 if k in p["dimensions"] else 1 for k in range(rank)]
            self.places[out.number] = self._gather(out.shape, a, range(rank), last, steps)
        else:
            raise _unknown(operation)

    def _apart(self, operation: Operation, a: Place) -> None:
        """Parts along an axis, as they lie where they lie together."""
        axis = operation.params["axis"]
        start = 0
        for out in operation.outputs:
            whole = out.shape
            if operation.name == "unstack":
                whole = (*out.shape[:axis], 1, *out.shape[axis:])
            if math.prod(a.shape[:axis]) == 1 and not a.is_number:
                offset = start * math.prod(a.shape[axis + 1 :])
                self.places[out.number] = Place(f"({a.text} + {offset})", out.shape)
            else:
                starts = [start if k == axis else 0 for k in range(len(a.shape))]
                found = self._gather(whole, a, range(len(whole)), starts)
                self.places[out.number] = found._replace(shape=out.shape)
            start += whole[axis]

    def _joined(self, operation: Operation, inputs: list[Place]) -> None:
        out = operation.outputs[0]
        place = self._fresh(out.shape)
        self.places[out.number] = place
        axis = operation.params["dimension"]
        start = 0
        for a in inputs:
            names = [f"i{k}" for k in range(len(a.shape))]
            there = [f"({n} + {start})" if k == axis else n for k, n in enumerate(names)]
            line = f"{place.at(_index(there, out.shape))} = {a.at(_index(names, a.shape))};"
            self._nested(list(zip(names, a.shape, strict=True)), [line])
            start += a.shape[axis]

    def _gather(
        self,
        shape: tuple[int, ...],
        a: Place,
        axes: Sequence[int],
        starts: Sequence[int] | None = None,
        steps: Sequence[int] | None = None,
    ) -> Place:
        """out[i] = a[start + step * i], where axis k of `a` goes along axis `axes[k]` of `out`."""
        place = self._fresh(shape)
        names = [f"i{k}" for k in range(len(shape))]
        starts = starts or [0] * len(a.shape)
        steps = steps or [1] * len(a.shape)
        there = []
        for axis, size, start, step in zip(axes, a.shape, starts, steps, strict=True):
            is_spread = size == 1 and shape[axis] > 1
            there.append("0" if is_spread else f"({start} + {step} * {names[axis]})")
        line = f"{place.at(_index(names, shape))} = {a.at(_index(there, a.shape))};"
        self._nested(list(zip(names, shape, strict=True)), [line])
        return place

    # --- places and lines -------------------------------------------------------------------------

    def _place(self, operand: Operand) -> Place:
        known = isinstance(operand, np.ndarray)
        return self._constant(operand) if known else self.places[operand.number]

    def _constant(self, array: np.ndarray) -> Place:
        flat = np.asarray(array, np.float32).ravel()
        if flat.size and (flat == flat[0]).all():
            return Place(_number(flat[0]), array.shape, is_number=True)
        key = flat.tobytes()
        if key not in self.known:
            name = f"{self.name}_w{len(self.known)}"
            self.known[key] = name
            self.bytes += flat.nbytes
            rows = [flat[k : k + NUMBERS_A_LINE] for k in range(0, flat.size, NUMBERS_A_LINE)]
            lines = ["    " + ", ".join(map(_number, row)) + "," for row in rows]
            shape = " x ".join(map(str, array.shape))
            head = f"static const float {name}[{flat.size}] = {{ /* {shape} */"
            self.constants += [head, *lines, "};", ""]
        return Place(self.known[key], array.shape)

    def _fresh(self, shape: tuple[int, ...]) -> Place:
        name = f"v{self.temporaries}"
        self.temporaries += 1
        self.floats += math.prod(shape)
        self.lines.append(f"    float {name}[{math.prod(shape)}];")
        return Place(name, shape)

    def _loop(self, count: int, line: Callable[[str], str]) -> None:
        _loop(self.lines, count, line)

    def _nested(self, loops: list[tuple[str, int]], body: list[str]) -> None:
        self.lines += [f"    {head}" for head in _heads(loops)]
        self.lines += ["    {", *(f"        {line}" for line in body), "    }"]


def _loop(lines: list[str], count: int, line: Callable[[str], str]) -> None:
    if count == 1:
        lines.append(f"    {line('0')}")
    else:
        lines.append(f"    for (int i = 0; i < {count}; i++) {line('i')}")


def _heads(loops: list[tuple[str, int]]) -> list[str]:
    return [f"for (int {name} = 0; {name} < {size}; {name}++)" for name, size in loops]


def _index(names: Sequence[str], shape: Sequence[int]) -> str:
    """The place of an entry among numbers in rows."""
    text = "0"
    for name, size in zip(names, shape, strict=True):
        text = name if text == "0" else f"({text}) * {size} + {name}"
    return text


def _number(value: Any) -> str:
    value = float(value)
    if math.isnan(value):
        return "NAN"
    if math.isinf(value):
        return "INFINITY" if value > 0 else "-INFINITY"
    text = f"{value:.9g}"
    return f"{text}f" if re.search(r"[.e]", text) else f"{text}.0f"


def _wrapped(text: str) -> str:
    return f"({text})" if text.startswith("-") else text


def _field(name: str) -> str:
    """Of a leaf of the carry, a name in C."""
    return f"layer_{name}" if name[0].isdigit() else name


def _unknown(operation: Operation) -> ConversionError:
    return ConversionError(
        f"a step has the equation {operation.name!r}, which has no form in C here."
    )
