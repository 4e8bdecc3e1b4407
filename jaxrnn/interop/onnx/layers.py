"""Layers over a sequence as nodes of ONNX: operators of its own, or a `Scan` over steps."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.export
import numpy as np

from jaxrnn.cell import Cell, Params
from jaxrnn.interop.layouts import ConversionError
from jaxrnn.interop.onnx import native, operators
from jaxrnn.interop.onnx.graph import Graph
from jaxrnn.interop.program import Program, first_carry, step_program
from jaxrnn.stack import Stack
from jaxrnn.wrappers import Bidirectional


class Layer(NamedTuple):
    """What a layer gives."""

    ys: str  # [T, B, features]
    after: list[str]  # the leaves of its carry, each [B, ...]


class States(NamedTuple):
    """The leaves of a carry, in the order of the stack."""

    names: list[str]
    first: list[np.ndarray]


class Layers:
    """Layers over a sequence, each an operator of its own or a `Scan`."""

    def __init__(self, graph: Graph, dtype: Any, lengths: str | None) -> None:
        self.graph = graph
        self.dtype = dtype
        self.lengths = lengths
        self.valid = ""

    def run(
        self, cell: Cell, params: Params, xs: str, given: Sequence[str | None], reverse: bool
    ) -> Layer:
        if isinstance(cell, Stack):
            return self._stack(cell, params, xs, given, reverse)
        if isinstance(cell, Bidirectional):
            ways = [
                (cell.forward, params.forward),
                (cell.backward or cell.forward, params.backward),
            ]
            return self._both(ways, xs, given, reverse, cell.merge)
        # onnxruntime has no recurrent operator in double precision
        made = native.operator(cell, params) if self.dtype == np.float32 else None
        if made is not None:
            return self._native(made, xs, given, reverse)
        return self._scan(cell, params, xs, given, reverse)

    def _stack(
        self, stack: Stack, params: Params, xs: str, given: Sequence[str | None], reverse: bool
    ) -> Layer:
        after: list[str] = []
        for k, cell in enumerate(stack.cells):
            first = k * stack.directions
            ways = [(cell, own) for own in params[first : first + stack.directions]]
            found = self._both(ways, xs, given[len(after) :], reverse, stack.merge)
            xs = found.ys
            after += found.after
        return Layer(xs, after)

    def _both(
        self,
        ways: Sequence[tuple[Cell, Params]],
        xs: str,
        given: Sequence[str | None],
        reverse: bool,
        merge: str,
    ) -> Layer:
        """One direction, or two of which the second runs the other way."""
        outputs: list[str] = []
        after: list[str] = []
        for direction, (cell, params) in enumerate(ways):
            count = len(states_of(cell, params).names)
            some = given[len(after) : len(after) + count]
            found = self.run(cell, params, xs, some, reverse != bool(direction))
            outputs.append(found.ys)
            after += found.after
        return Layer(self._merged(outputs, merge), after)

    def _merged(self, ways: list[str], merge: str) -> str:
        if len(ways) == 1:
            return ways[0]
        graph = self.graph
        if merge == "concat":
            return graph.node("Concat", *ways, axis=-1)
        if merge == "mul":
            return graph.node("Mul", *ways)
        if merge not in ("sum", "mean"):
            raise ConversionError(f"directions that are merged by {merge!r} have no form here.")
        total = graph.node("Add", *ways)
        half = graph.constant(np.asarray(0.5, self.dtype))
        return total if merge == "sum" else graph.node("Mul", total, half)

    def _native(
        self, made: native.Operator, xs: str, given: Sequence[str | None], reverse: bool
    ) -> Layer:
        graph = self.graph
        weights = [graph.constant(a[None]) for a in (made.w, made.r, made.b)]
        axis = graph.constant(np.array([0], np.int64), "axes")
        initial = [graph.node("Unsqueeze", g, axis) if g else "" for g in given]
        inputs = [xs, *weights, self.lengths or "", *initial]
        if made.p is not None:
            inputs += [graph.constant(made.p[None])]
        while not inputs[-1]:
            inputs.pop()
        count = 3 if made.kind == "LSTM" else 2
        ys, *after = graph.nodes_of(
            made.kind,
            *inputs,
            count=count,
            hidden_size=made.r.shape[-1],
            direction="reverse" if reverse else "forward",
            **_activations(made),
            **made.attributes,
        )
        one = graph.constant(np.array([1], np.int64), "axes")
        squeezed = [graph.node("Squeeze", a, axis) for a in after]
        return Layer(graph.node("Squeeze", ys, one), self._kept(squeezed, given))

    def _kept(self, after: list[str], given: Sequence[str | None]) -> list[str]:
        """The carry of sequences without a step is that which they began with."""
        if self.lengths is None:
            return after
        graph = self.graph
        zero = graph.constant(np.array(0, np.int32), "zero")
        some = graph.node("Greater", self.lengths, zero)
        some = graph.node("Unsqueeze", some, graph.constant(np.array([1], np.int64), "axes"))
        none = graph.constant(np.asarray(0, self.dtype), "zero")
        return [
            graph.node("Where", some, value, begun or none)
            for value, begun in zip(after, given, strict=True)
        ]

    def _scan(
        self, cell: Cell, params: Params, xs: str, given: Sequence[str | None], reverse: bool
    ) -> Layer:
        graph = self.graph
        program = step_program(cell, params, batch(), self.dtype)
        rows = operators.rows_of(graph, xs, axis=1)
        begun = [
            g or operators.expanded(graph, first, rows)
            for g, first in zip(given, program.first, strict=True)
        ]
        scanned = [xs]
        if self.lengths is not None:
            scanned.append(self._valid(xs))
        body = _body(graph, program, len(scanned) > 1)
        ways = [int(reverse)]
        *after, ys = graph.nodes_of(
            "Scan",
            *begun,
            *scanned,
            count=len(begun) + 1,
            body=body,
            num_scan_inputs=len(scanned),
            scan_input_directions=ways * len(scanned),
            scan_output_directions=ways,
        )
        return Layer(ys, after)

    def _valid(self, xs: str) -> str:
        """[T, B], True at the steps of each sequence."""
        if not self.valid:
            graph = self.graph
            T = graph.node("Shape", xs, start=0, end=1)
            axis = graph.constant(np.array([0], np.int64), "axes")
            T = graph.node("Squeeze", T, axis)
            zero, one = (graph.constant(np.array(n, np.int64), "number") for n in (0, 1))
            steps = graph.node("Range", zero, T, one)
            steps = graph.node("Unsqueeze", steps, graph.constant(np.array([1], np.int64), "axes"))
            assert self.lengths is not None
            self.valid = graph.node("Less", steps, graph.cast(self.lengths, np.int64))
        return self.valid


def _activations(made: native.Operator) -> dict[str, Any]:
    """The attributes that name the activations of an operator."""
    rules = [native.ACTIVATIONS[name] for name in made.activations]
    attributes: dict[str, Any] = {"activations": [rule[0] for rule in rules]}
    for place, name in ((1, "activation_alpha"), (2, "activation_beta")):
        numbers = [rule[place] for rule in rules if rule[place] is not None]
        attributes |= {name: numbers} if numbers else {}
    return attributes


def _body(outer: Graph, program: Program, masked: bool) -> Any:
    """The graph of one step, in which what is not valid changes nothing and gives 0."""
    graph = Graph(outer=outer)
    dtype = program.x.dtype
    pairs = list(zip(program.names, program.first, strict=True))
    shapes = [["B", *first.shape] for _, first in pairs]
    carry = [
        graph.input(outer.name(f"{name}_before"), first.dtype, shape)
        for (name, first), shape in zip(pairs, shapes, strict=True)
    ]
    x = graph.input(outer.name("x_now"), dtype, ["B", *program.x.shape[1:]])
    valid = graph.input(outer.name("valid_now"), np.bool_, ["B"]) if masked else None
    y, after = operators.step(graph, program, x, carry)
    if valid is not None:
        zero = graph.constant(np.asarray(0, dtype), "zero")
        y = graph.node("Where", _fitted(graph, valid, 2), y, zero)
        after = [
            graph.node("Where", _fitted(graph, valid, len(shape)), new, old)
            for new, old, shape in zip(after, carry, shapes, strict=True)
        ]
    for (name, first), value, shape in zip(pairs, after, shapes, strict=True):
        graph.output(value, outer.name(f"{name}_after"), first.dtype, shape)
    graph.output(y, outer.name("y_now"), dtype, ["B", *program.y.shape[1:]])
    return graph.made(outer.name("step"))


def _fitted(graph: Graph, valid: str, rank: int) -> str:
    axes = graph.constant(np.arange(1, rank, dtype=np.int64), "axes")
    return graph.node("Unsqueeze", valid, axes)


def batch() -> tuple[Any, ...]:
    return tuple(jax.export.symbolic_shape("b"))


def states_of(cell: Cell, params: Params) -> States:
    """The leaves of the carry, their names and first values."""
    return States(*first_carry(cell, params))
