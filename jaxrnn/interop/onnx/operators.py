"""Operations of a step as nodes of ONNX. A batch of any size is the first axis of what depends on
the inputs."""

import math
import string
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxrnn.interop.layouts import ConversionError
from jaxrnn.interop.onnx.graph import Graph
from jaxrnn.interop.program import Operand, Operation, Program

# one node each, of the same operands
NODES = {
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "max": "Max",
    "min": "Min",
    "pow": "Pow",
    "neg": "Neg",
    "exp": "Exp",
    "log": "Log",
    "tanh": "Tanh",
    "logistic": "Sigmoid",
    "sqrt": "Sqrt",
    "abs": "Abs",
    "sign": "Sign",
    "floor": "Floor",
    "ceil": "Ceil",
    "sin": "Sin",
    "cos": "Cos",
    "erf": "Erf",
    "gt": "Greater",
    "lt": "Less",
    "ge": "GreaterOrEqual",
    "le": "LessOrEqual",
    "eq": "Equal",
    "and": "And",
    "or": "Or",
    "not": "Not",
    "copy": "Identity",
    "copy_p": "Identity",
    "stop_gradient": "Identity",
}
REDUCE = {
    "reduce_max": "ReduceMax",
    "reduce_min": "ReduceMin",
    "reduce_prod": "ReduceProd",
}


def step(graph: Graph, program: Program, x: str, carry: Sequence[str]) -> tuple[str, list[str]]:
    """Writes one step of rows: (y, carry)."""
    writer = _Writer(graph, x)
    writer.names[program.x.number] = x
    for value, name in zip(program.carry, carry, strict=True):
        writer.names[value.number] = name
    for operation in program.operations:
        for value, name in zip(operation.outputs, writer.write(operation), strict=True):
            writer.names[value.number] = name
    return writer.full(program.y), [writer.full(operand) for operand in program.after]


def expanded(graph: Graph, array: np.ndarray, batch: str) -> str:
    """The same array for each row; `batch` is their number, [1]."""
    shape = np.array(array.shape, np.int64)
    whole = graph.node("Concat", batch, graph.constant(shape, "shape"), axis=0)
    return graph.node("Expand", graph.constant(array, "first"), whole)


def rows_of(graph: Graph, value: str, axis: int = 0) -> str:
    """How long an axis is, [1]."""
    return graph.node("Shape", value, start=axis, end=axis + 1)


class _Writer:
    def __init__(self, graph: Graph, x: str) -> None:
        self.graph = graph
        self.x = x
        self.names: dict[int, str] = {}
        self.batch = ""

    def name(self, operand: Operand) -> str:
        if isinstance(operand, np.ndarray):
            return self.graph.constant(operand)
        return self.names[operand.number]

    def full(self, operand: Operand) -> str:
        """A result of a step, which a cell may not have made of its inputs at all."""
        if not isinstance(operand, np.ndarray):
            return self.graph.node("Identity", self.name(operand))
        return expanded(self.graph, operand, self._batch())

    def write(self, operation: Operation) -> list[str]:
        """The names of the outputs."""
        named: Callable[..., Any] | None = getattr(self, f"_{operation.name}", None)
        inputs = [self.name(operand) for operand in operation.inputs]
        if operation.name in NODES:
            return [self.graph.node(NODES[operation.name], *inputs)]
        if named is not None:
            made = named(operation, *inputs)
            return made if isinstance(made, list) else [made]
        if operation.name in REDUCE:
            axes = list(operation.params["axes"])
            return [self.graph.node(REDUCE[operation.name], *inputs, axes=axes, keepdims=0)]
        raise ConversionError(
            f"a step has the equation {operation.name!r}, which has no form in ONNX here."
        )

    def _batch(self) -> str:
        self.batch = self.batch or rows_of(self.graph, self.x)
        return self.batch

    def _like(self, operation: Operation, number: float) -> str:
        return self.graph.constant(np.asarray(number, operation.outputs[0].dtype))

    def _axes(self, axes: Sequence[int]) -> str:
        return self.graph.constant(np.array(axes, np.int64), "axes")

    def _log1p(self, operation: Operation, a: str) -> str:
        """log(u) a / (u - 1) with u = 1 + a, and a itself where u is 1: right for a small a."""
        one = self._like(operation, 1)
        u = self.graph.node("Add", a, one)
        is_one = self.graph.node("Equal", u, one)
        rest = self.graph.node("Where", is_one, one, self.graph.node("Sub", u, one))
        ratio = self.graph.node("Div", a, rest)
        long = self.graph.node("Mul", self.graph.node("Log", u), ratio)
        return self.graph.node("Where", is_one, a, long)

    def _expm1(self, operation: Operation, a: str) -> str:
        """tanh(a / 2) (exp(a) + 1): right for a small a."""
        half = self.graph.node("Mul", a, self._like(operation, 0.5))
        more = self.graph.node("Add", self.graph.node("Exp", a), self._like(operation, 1))
        return self.graph.node("Mul", self.graph.node("Tanh", half), more)

    def _exp2(self, operation: Operation, a: str) -> str:
        return self.graph.node("Pow", self._like(operation, 2), a)

    def _rsqrt(self, operation: Operation, a: str) -> str:
        return self.graph.node("Reciprocal", self.graph.node("Sqrt", a))

    def _square(self, operation: Operation, a: str) -> str:
        return self.graph.node("Mul", a, a)

    def _integer_pow(self, operation: Operation, a: str) -> str:
        return self.graph.node("Pow", a, self._like(operation, operation.params["y"]))

    def _ne(self, operation: Operation, a: str, b: str) -> str:
        return self.graph.node("Not", self.graph.node("Equal", a, b))

    def _select_n(self, operation: Operation, which: str, *cases: str) -> str:
        if len(cases) != 2:
            raise ConversionError("a step chooses between more than two, which has no form here.")
        return self.graph.node("Where", which, cases[1], cases[0])

    def _clamp(self, operation: Operation, low: str, a: str, high: str) -> str:
        return self.graph.node("Min", self.graph.node("Max", a, low), high)

    def _convert_element_type(self, operation: Operation, a: str) -> str:
        return self.graph.cast(a, operation.outputs[0].dtype)

    def _reduce_sum(self, operation: Operation, a: str) -> str:
        axes = self._axes(operation.params["axes"])
        return self.graph.node("ReduceSum", a, axes, keepdims=0)

    def _transpose(self, operation: Operation, a: str) -> str:
        return self.graph.node("Transpose", a, perm=list(operation.params["permutation"]))

    def _concatenate(self, operation: Operation, *parts: str) -> str:
        return self.graph.node("Concat", *parts, axis=operation.params["dimension"])

    def _rev(self, operation: Operation, a: str) -> str:
        axes = operation.params["dimensions"]
        ends = [-(2**31)] * len(axes)
        return self._cut(a, [-1] * len(axes), ends, axes, [-1] * len(axes))

    def _slice(self, operation: Operation, a: str) -> str:
        p = operation.params
        shape = operation.inputs[0].shape
        steps = p["strides"] or (1,) * len(shape)
        pairs = list(zip(p["start_indices"], p["limit_indices"], steps, strict=True))
        # whole axes stay, that of the batch among them
        cut = [k for k, pair in enumerate(pairs) if pair != (0, shape[k], 1)]
        starts, ends, strides = ([int(pairs[k][i]) for k in cut] for i in range(3))
        return self._cut(a, starts, ends, cut, strides)

    def _gather(self, operation: Operation, a: str, start: str) -> str:
        """Where the place is known, a slice: what indexing of rows of any number becomes."""
        where = operation.inputs[1]
        numbers = operation.params["dimension_numbers"]
        sizes = operation.params["slice_sizes"]
        axes = numbers.start_index_map
        if not isinstance(where, np.ndarray) or where.shape != (len(axes),):
            raise ConversionError("a step looks things up by an index that it computes.")
        ends = [int(first) + sizes[axis] for first, axis in zip(where, axes, strict=True)]
        cut = self._cut(a, [int(first) for first in where], ends, axes, [1] * len(axes))
        gone = numbers.collapsed_slice_dims
        return self.graph.node("Squeeze", cut, self._axes(gone)) if gone else cut

    def _cut(self, a: str, starts: Any, ends: Any, axes: Any, steps: Any) -> str:
        return self.graph.node("Slice", a, *map(self._axes, (starts, ends, axes, steps)))

    def _split(self, operation: Operation, a: str) -> list[str]:
        sizes = self._axes([int(n) for n in operation.params["sizes"]])
        count = len(operation.outputs)
        axis = operation.params["axis"]
        return self.graph.nodes_of("Split", a, sizes, count=count, axis=axis)

    def _unstack(self, operation: Operation, a: str) -> list[str]:
        axis = operation.params["axis"]
        return [
            self.graph.node("Gather", a, self.graph.constant(np.int64(k), "index"), axis=axis)
            for k in range(len(operation.outputs))
        ]

    def _squeeze(self, operation: Operation, a: str) -> str:
        return self.graph.node("Squeeze", a, self._axes(operation.params["dimensions"]))

    def _expand_dims(self, operation: Operation, a: str) -> str:
        return self.graph.node("Unsqueeze", a, self._axes(operation.params["dimensions"]))

    def _reshape(self, operation: Operation, a: str) -> str:
        return self._shaped(a, operation.inputs[0].shape, operation.outputs[0].shape)

    def _shaped(self, a: str, before: Sequence[Any], after: Sequence[Any]) -> str:
        """0 keeps the batch, which is the first axis of both or of neither."""
        sizes = [n if isinstance(n, int) else -1 for n in after]
        if after and before and not isinstance(after[0], int):
            sizes[0] = 0 if str(before[0]) == str(after[0]) else -1
        return self.graph.node(
            "Reshape", a, self.graph.constant(np.array(sizes, np.int64), "shape")
        )

    def _broadcast_in_dim(self, operation: Operation, a: str, *sizes: str) -> str:
        out = operation.outputs[0].shape
        kept = operation.params["broadcast_dimensions"]
        if any(not isinstance(n, int) and str(n) != "b" for n in out):
            raise ConversionError("a step puts rows and another axis together and spreads them.")
        new = [axis for axis in range(len(out)) if axis not in kept]
        spread = self.graph.node("Unsqueeze", a, self._axes(new)) if new else a
        parts = [
            self.graph.constant(np.array([n], np.int64), "shape")
            if isinstance(n, int)
            else self._batch()
            for n in out
        ]
        whole = parts[0] if len(parts) == 1 else self.graph.node("Concat", *parts, axis=0)
        return self.graph.node("Expand", spread, whole)

    def _dot_general(self, operation: Operation, a: str, b: str) -> str:
        contract, batch = operation.params["dimension_numbers"]
        lhs, rhs = operation.inputs
        rank = len(lhs.shape)
        if isinstance(rhs, np.ndarray) and not batch[0] and tuple(contract[0]) == (rank - 1,):
            axis = contract[1][0]
            free = [k for k in range(rhs.ndim) if k != axis]
            kernel = np.transpose(rhs, (axis, *free))
            flat = self.graph.constant(kernel.reshape(kernel.shape[0], -1))
            made = self.graph.node("MatMul", a, flat)
            if kernel.ndim == 2:
                return made
            out = operation.outputs[0].shape
            return self._shaped(made, (*lhs.shape[:-1], math.prod(kernel.shape[1:])), out)
        return self.graph.node("Einsum", a, b, equation=_equation(lhs, rhs, contract, batch))


def _equation(lhs: Any, rhs: Any, contract: Any, batch: Any) -> str:
    letters = iter(string.ascii_lowercase)
    names: list[list[str]] = [[""] * len(operand.shape) for operand in (lhs, rhs)]
    for a, b in (*zip(*batch, strict=True), *zip(*contract, strict=True)):
        names[0][a] = names[1][b] = next(letters)
    shared = [names[0][a] for a in batch[0]]
    free: list[str] = []
    for side in names:
        for axis, letter in enumerate(side):
            if not letter:
                side[axis] = next(letters)
                free.append(side[axis])
    left, right = ("".join(side) for side in names)
    return f"{left},{right}->{''.join([*shared, *free])}"
