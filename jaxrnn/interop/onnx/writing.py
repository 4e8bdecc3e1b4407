"""A cell, a stack or a module as a model of ONNX."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrnn.cell import Cell, Params
from jaxrnn.interop.onnx import operators
from jaxrnn.interop.onnx.graph import Graph
from jaxrnn.interop.onnx.layers import Layers, States, batch, states_of
from jaxrnn.interop.program import fitting, step_program
from jaxrnn.structure import fit_params

DTYPES = {"float32": np.float32, "float64": np.float64, "float16": np.float16}


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
        return model, fitting(model, params)[0], False, False
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
        self.size = fitting(cell, params)[1]

    def finished(self) -> bytes:
        unknown = set(self.names) - self.used
        if unknown:
            raise ValueError(
                f"names has {sorted(unknown)}; this model has {', '.join(sorted(self.used))}."
            )
        says = f"{type(self.cell).__name__}, written by jaxrnn."
        return self.graph.model("jaxrnn", says, {"cell": repr(self.cell)}).SerializeToString()

    def step(self, head: Any) -> None:
        program = step_program(self.cell, self.params, batch(), self.inside)
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
        states = states_of(self.cell, self.params)
        given: list[str | None] = [None] * len(states.names)
        if initial_state:
            given = [*self._states(states)]
        layers = Layers(graph, self.inside, counts)
        found = layers.run(self.cell, self.params, xs, given, reverse)
        ys = self._read_out(found.ys, head)
        ys = graph.node("Transpose", ys, perm=[1, 0, 2]) if batch_first else ys
        self._output(ys, "y", [*shape[:2], None])
        self._finals(states, found.after)

    def _named(self, name: str) -> str:
        self.used.add(name)
        return self.names.get(name, name)

    def _input(self, name: str, shape: list[Any], dtype: Any = None) -> str:
        """An input; `dtype` is that of what is no floating point, as masks in a carry."""
        value = self.graph.input(self._named(name), dtype or self.outside, shape)
        same = dtype is not None or self.inside == self.outside
        return value if same else self.graph.cast(value, self.inside)

    def _output(self, value: str, name: str, shape: list[Any], dtype: Any = None) -> None:
        same = dtype is not None or self.inside == self.outside
        value = value if same else self.graph.cast(value, self.outside)
        self.graph.output(value, self._named(name), dtype or self.outside, shape)

    def _states(self, states: States) -> list[str]:
        pairs = zip(states.names, states.first, strict=True)
        return [
            self._input(f"initial_{name}", ["B", *first.shape], _other(first))
            for name, first in pairs
        ]

    def _finals(self, states: States, after: Sequence[str]) -> None:
        for name, first, value in zip(states.names, states.first, after, strict=True):
            self._output(value, f"final_{name}", ["B", *first.shape], _other(first))

    def _read_out(self, ys: str, head: Any) -> str:
        if head is None:
            return ys
        kernel, bias = head
        made = self.graph.node("MatMul", ys, self.graph.constant(np.asarray(kernel, self.inside)))
        if bias is None:
            return made
        return self.graph.node("Add", made, self.graph.constant(np.asarray(bias, self.inside)))


def _other(first: np.ndarray) -> Any:
    """The dtype of a leaf that is no floating point; None of those that are."""
    return None if first.dtype.kind == "f" else first.dtype
