"""A cell, a stack or a module as a model of ONNX."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.export
import numpy as np

from jaxrnn.cell import Cell, Params
from jaxrnn.interop.layouts import ConversionError
from jaxrnn.interop.onnx import native, operators
from jaxrnn.interop.onnx.graph import Graph
from jaxrnn.interop.program import Program, first_carry, step_program
from jaxrnn.stack import Stack
from jaxrnn.structure import fit_params
from jaxrnn.wrappers import Bidirectional

DTYPES = {"float32": np.float32, "float64": np.float64, "float16": np.float16}


class Layer(NamedTuple):
    """What a layer gives."""

    ys: str  # [T, B, features]
    after: list[str]  # the leaves of its carry, each [B, ...]


class States(NamedTuple):
    """The leaves of a carry, in the order of the stack."""

    names: list[str]
    first: list[np.ndarray]


def to_onnx(
    model: Any,
    params: Params = None,
    path: str | os.PathLike[str] | None = None,
    *,
    step: bool = False,
    batch_first: bool | None = None,
    lengths: bool = False,
    initial_state: bool = False,
    head: tuple[Any, Any] | None = None,
    dtype: str = "float32",
    names: Mapping[str, str] | None = None,
) -> bytes:
    """A model for servers, phones and browsers, of any number of steps and sequences.

    RNN, LSTM (with peepholes and coupled gates too) and GRU (both resets) become ONNX's operators
    of these names, where it knows their activations, in both directions; other cells, and wrappers
    as they are without noise, a `Scan` of ordinary operators, read from their equations.

    Args:
        model: a cell or stack, or a module of `jaxrnn.nnx` or `jaxrnn.linen`.
        params: its parameters, of a linen module its variables; None for a module of nnx.
        path: where the file is written; None writes none.
        step: whether it takes one step instead, x [B, I] and the carry to y and the carry.
        batch_first: whether x is [B, T, I] instead of [T, B, I]; None is the module's, else False.
        lengths: whether it has an input `lengths` [B], int32: the valid steps of each
            right-padded sequence, zero included. Outputs beyond are zero.
        initial_state: whether the carry before the first step is an input; otherwise it is the
            cell's own.
        head: (kernel [H, O], bias [O] or None) of an affine readout of every output.
        dtype: "float32", "float64" or "float16", of inputs, outputs and weights. The computation of
            float16 is in float32.
        names: other names for inputs and outputs, which are "x", "lengths", "y", and for each leaf
            of the carry such as "h" or "0_c", "initial_h" and "final_h".

    Returns:
        The file's bytes. It needs operators of version 17.

    Raises:
        ConversionError: a cell of pictures, or an equation that has no form in ONNX, by its name.
        ValueError, TypeError: an unknown dtype or name, parameters that do not fit.
        ImportError: onnx is not installed.

    Example:
        >>> import jax, jaxrnn
        >>> from jaxrnn.interop import to_onnx
        >>> cell = jaxrnn.LSTMCell(8)
        >>> params = cell.init(jax.random.key(0), input_size=3)
        >>> data = to_onnx(cell, params, lengths=True)
        >>> data = to_onnx(cell, params, step=True)  # for streams
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}.")
    cell, params, own_layout, reverse = _unpacked(model, params)
    layout = own_layout if batch_first is None else batch_first
    if step and (lengths or reverse):
        raise ValueError("a model of one step has no lengths, and runs forward.")
    outside = np.dtype(DTYPES[dtype])
    inside = np.dtype(np.float64 if dtype == "float64" else np.float32)
    with jax.enable_x64(dtype == "float64"):
        params = jax.tree.map(lambda a: np.asarray(a, inside), params)
        writer = _Model(cell, params, inside, outside, dict(names or {}))
        if step:
            writer.step(head)
        else:
            writer.sequence(head, layout, lengths, initial_state, reverse)
        data = writer.finished()
    if path is not None:
        Path(path).write_bytes(data)
    return data


def _unpacked(model: Any, params: Any) -> tuple[Cell, Params, bool, bool]:
    """(cell, params, batch_first, reverse) of a cell or a module."""
    if isinstance(model, Cell):
        if params is None:
            raise TypeError("a cell needs its parameters: to_onnx(cell, params).")
        return model, params, False, False
    cell = getattr(model, "cell", None)
    if not isinstance(cell, Cell):
        raise TypeError(f"model must be a cell, a stack or a module, got {type(model).__name__}.")
    if params is None:
        params = getattr(model, "params", None)
    if params is None:
        raise TypeError("a module of linen needs its variables: to_onnx(module, variables).")
    params = fit_params(cell, params, model.input_size)
    options = getattr(model, "options", model)
    return cell, params, bool(options.batch_first), bool(getattr(options, "reverse", False))


class _Model:
    """The graph of a model, and what its inputs and outputs are called."""

    def __init__(
        self, cell: Cell, params: Params, inside: Any, outside: Any, names: dict[str, str]
    ) -> None:
        self.cell = cell
        self.params = params
        self.inside = inside
        self.outside = outside
        self.names = names
        self.used: set[str] = set()
        self.graph = Graph(outside)
        self.size = cell.input_size(params)
        if self.size is None or cell.feature_axes != 1:
            raise ConversionError(f"the parameters of {cell} do not tell the size of its inputs.")

    def finished(self) -> bytes:
        unknown = set(self.names) - self.used
        if unknown:
            raise ValueError(
                f"names has {sorted(unknown)}; this model has {', '.join(sorted(self.used))}."
            )
        says = f"{type(self.cell).__name__}, written by jaxrnn."
        return self.graph.model("jaxrnn", says, {"cell": repr(self.cell)}).SerializeToString()

    def step(self, head: Any) -> None:
        program = step_program(self.cell, self.params, _batch(), self.inside)
        states = States(list(program.names), list(program.first))
        x = self._input("x", ["B", self.size])
        carry = self._states(states)
        y, after = operators.step(self.graph, program, x, carry)
        self._output(self._read_out(y, head), "y", ["B", None])
        self._finals(states, after)

    def sequence(
        self, head: Any, batch_first: bool, lengths: bool, initial_state: bool, reverse: bool
    ) -> None:
        graph = self.graph
        shape = ["B", "T", self.size] if batch_first else ["T", "B", self.size]
        xs = self._input("x", shape)
        xs = graph.node("Transpose", xs, perm=[1, 0, 2]) if batch_first else xs
        counts = None
        if lengths:
            counts = graph.input(self._named("lengths"), np.int32, ["B"])
        states = _states_of(self.cell, self.params)
        given: list[str | None] = [None] * len(states.names)
        if initial_state:
            given = [*self._states(states)]
        layers = _Layers(graph, self.inside, counts)
        found = layers.run(self.cell, self.params, xs, given, reverse)
        ys = self._read_out(found.ys, head)
        ys = graph.node("Transpose", ys, perm=[1, 0, 2]) if batch_first else ys
        self._output(ys, "y", [*shape[:2], None])
        self._finals(states, found.after)

    def _named(self, name: str) -> str:
        self.used.add(name)
        return self.names.get(name, name)

    def _input(self, name: str, shape: list[Any]) -> str:
        value = self.graph.input(self._named(name), self.outside, shape)
        return value if self.inside == self.outside else self.graph.cast(value, self.inside)

    def _output(self, value: str, name: str, shape: list[Any]) -> None:
        value = value if self.inside == self.outside else self.graph.cast(value, self.outside)
        self.graph.output(value, self._named(name), self.outside, shape)

    def _states(self, states: States) -> list[str]:
        pairs = zip(states.names, states.first, strict=True)
        return [self._input(f"initial_{name}", ["B", *first.shape]) for name, first in pairs]

    def _finals(self, states: States, after: Sequence[str]) -> None:
        for name, first, value in zip(states.names, states.first, after, strict=True):
            self._output(value, f"final_{name}", ["B", *first.shape])

    def _read_out(self, ys: str, head: Any) -> str:
        if head is None:
            return ys
        kernel, bias = head
        made = self.graph.node("MatMul", ys, self.graph.constant(np.asarray(kernel, self.inside)))
        if bias is None:
            return made
        return self.graph.node("Add", made, self.graph.constant(np.asarray(bias, self.inside)))


class _Layers:
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
        made = native.operator(cell, params)
        # onnxruntime has no recurrent operator in double precision
        if made is not None and self.dtype == np.float32:
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
            count = len(_states_of(cell, params).names)
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
        rules = [native.ACTIVATIONS[name] for name in made.activations]
        attributes: dict[str, Any] = {"activations": [rule[0] for rule in rules]}
        for place, name in ((1, "activation_alpha"), (2, "activation_beta")):
            numbers = [rule[place] for rule in rules if rule[place] is not None]
            attributes |= {name: numbers} if numbers else {}
        count = 3 if made.kind == "LSTM" else 2
        ys, *after = graph.nodes_of(
            made.kind,
            *inputs,
            count=count,
            hidden_size=made.r.shape[-1],
            direction="reverse" if reverse else "forward",
            **attributes,
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
        program = step_program(cell, params, _batch(), self.dtype)
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


def _body(outer: Graph, program: Program, masked: bool) -> Any:
    """The graph of one step, in which what is not valid changes nothing and gives 0."""
    graph = Graph(outer=outer)
    dtype = program.x.dtype
    pairs = list(zip(program.names, program.first, strict=True))
    shapes = [["B", *first.shape] for _, first in pairs]
    carry = [
        graph.input(outer.name(f"{name}_before"), dtype, shape)
        for (name, _), shape in zip(pairs, shapes, strict=True)
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
    for (name, _), value, shape in zip(pairs, after, shapes, strict=True):
        graph.output(value, outer.name(f"{name}_after"), dtype, shape)
    graph.output(y, outer.name("y_now"), dtype, ["B", *program.y.shape[1:]])
    return graph.made(outer.name("step"))


def _fitted(graph: Graph, valid: str, rank: int) -> str:
    axes = graph.constant(np.arange(1, rank, dtype=np.int64), "axes")
    return graph.node("Unsqueeze", valid, axes)


def _batch() -> tuple[Any, ...]:
    return tuple(jax.export.symbolic_shape("b"))


def _states_of(cell: Cell, params: Params) -> States:
    """The leaves of the carry, their names and first values."""
    return States(*first_carry(cell, params))
