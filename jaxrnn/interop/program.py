"""One step of a cell as a list of operations on arrays, for what runs it without JAX: what the
parameters alone decide is computed, calls are written out, and what nothing needs is left out."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np

from jaxrnn.cell import Cell, Params, as_cell
from jaxrnn.interop.layouts import ConversionError
from jaxrnn.running.trace import called
from jaxrnn.structure import check_params


class Value(NamedTuple):
    """An array that is computed."""

    number: int
    shape: tuple[Any, ...]
    dtype: Any


Operand = Value | np.ndarray


class Operation(NamedTuple):
    """An equation of JAX, as named there."""

    name: str
    inputs: tuple[Operand, ...]
    outputs: tuple[Value, ...]
    params: dict[str, Any]


class Program(NamedTuple):
    """`(x, carry) -> (y, carry)` of one step."""

    x: Value
    carry: tuple[Value, ...]
    names: tuple[str, ...]  # of the leaves of the carry, such as "h" or "0_c"
    first: tuple[np.ndarray, ...]  # the carry before the first step
    operations: tuple[Operation, ...]
    y: Operand
    after: tuple[Operand, ...]


def step_program(cell: Cell, params: Params, batch: tuple[Any, ...] = (), dtype: Any = None):
    """Reads one step.

    Args:
        cell: a cell or stack that runs in one direction.
        params: its parameters.
        batch: the batch axes, symbols of `jax.export` among them.
        dtype: of the computation; None is float32.

    Raises:
        ConversionError: a cell of both directions, or one whose step has an effect.
    """
    cell = as_cell(cell)
    if not cell.causal:
        raise ConversionError(f"{cell} runs in both directions, so it has no step by itself.")
    dtype = jnp.dtype(dtype or jnp.float32)
    params, size = fitting(cell, params)
    params = jax.tree.map(lambda a: np.asarray(a, dtype), params)
    first = _first(cell, params, size, dtype)
    x = jax.ShapeDtypeStruct((*batch, size), dtype)
    carry = jax.tree.map(lambda a: jax.ShapeDtypeStruct((*batch, *a.shape), a.dtype), first)

    def step(x: Any, carry: Any) -> Any:
        after, y = cell(params, carry, x)
        return y, after

    closed, shapes = jax.make_jaxpr(step, return_shape=True)(x, carry)
    if jax.tree.structure(shapes[0]).num_leaves != 1:
        raise ConversionError(f"{cell} gives several outputs at each step; one can be shipped.")
    if closed.effects:
        raise ConversionError(f"a step of {cell} has effects, {closed.effects}.")
    reader = _Reader()
    inputs = [reader.made(v.aval) for v in closed.jaxpr.invars]
    outputs = reader.read(closed.jaxpr, closed.consts, inputs)
    kept = _needed(reader.operations, outputs)
    names, leaves = _named(first)
    return Program(
        x=inputs[0],
        carry=tuple(inputs[1:]),
        names=tuple(names),
        first=tuple(leaves),
        operations=tuple(kept),
        y=outputs[0],
        after=tuple(outputs[1:]),
    )


def fitting(cell: Cell, params: Params) -> tuple[Params, int]:
    """Parameters that fit a cell of vectors, and the number of its inputs.

    Raises:
        TypeError, ValueError: they are those of another cell, or of other sizes.
        ConversionError: a cell of pictures, or one whose parameters do not tell that number.
    """
    params = check_params(cell, params)
    size = cell.input_size(params) if cell.feature_axes == 1 else None
    if size is None:
        raise ConversionError(f"the parameters of {cell} do not tell the size of its inputs.")
    return params, size


def first_carry(cell: Cell, params: Params) -> tuple[list[str], list[np.ndarray]]:
    """The names of the leaves of a carry, and the carry before the first step, of one sequence."""
    size = cell.input_size(params)
    dtype = jax.tree.leaves(params)[0].dtype
    return _named(_first(cell, params, 1 if size is None else size, dtype))


def _first(cell: Cell, params: Params, size: int, dtype: Any) -> Any:
    carry = cell.init_carry(cell.prepare(params), jnp.zeros((size,), dtype))
    return jax.tree.map(np.asarray, carry)


def _named(carry: Any) -> tuple[list[str], list[np.ndarray]]:
    paths = jax.tree_util.tree_leaves_with_path(carry)
    return [_name(path) for path, _ in paths], [leaf for _, leaf in paths]


class _Reader:
    """Walks over equations with values that are known (arrays) or not."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.count = 0

    def made(self, aval: Any) -> Value:
        self.count += 1
        return Value(self.count, tuple(aval.shape), aval.dtype)

    def read(self, jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
        values: dict[Any, Any] = {}
        values.update(zip(jaxpr.constvars, map(np.asarray, consts), strict=True))
        values.update(zip(jaxpr.invars, inputs, strict=True))

        def of(atom: Any) -> Any:
            return np.asarray(atom.val, atom.aval.dtype) if _is_literal(atom) else values[atom]

        for equation in jaxpr.eqns:
            operands = [of(atom) for atom in equation.invars]
            values.update(zip(equation.outvars, self._results(equation, operands), strict=True))
        return [of(atom) for atom in jaxpr.outvars]

    def _results(self, equation: Any, operands: list[Any]) -> list[Any]:
        inner = called(equation)
        if inner is not None:
            closed = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
            return self.read(inner, getattr(closed, "consts", ()), operands)
        if equation.primitive.name == "custom_vjp_call":
            closed = equation.params["call_jaxpr"]
            return self.read(closed.jaxpr, closed.consts, operands)
        fixed = all(_is_fixed(v.aval.shape) for v in equation.outvars)
        if fixed and not any(isinstance(operand, Value) for operand in operands):
            return _computed(equation, operands)
        outputs = [self.made(v.aval) for v in equation.outvars]
        operation = Operation(
            equation.primitive.name, tuple(operands), tuple(outputs), dict(equation.params)
        )
        self.operations.append(operation)
        return outputs


def _computed(equation: Any, operands: list[Any]) -> list[np.ndarray]:
    """The results of an equation whose operands are known."""
    with jax.ensure_compile_time_eval():
        found = equation.primitive.bind(*map(jnp.asarray, operands), **equation.params)
    found = found if equation.primitive.multiple_results else [found]
    return [np.asarray(a) for a in found]


def _needed(operations: Iterable[Operation], outputs: Iterable[Any]) -> list[Operation]:
    """The operations on which some output depends, in their order."""
    wanted = {v.number for v in outputs if isinstance(v, Value)}
    kept = []
    for operation in reversed(list(operations)):
        if wanted & {v.number for v in operation.outputs}:
            kept.append(operation)
            wanted |= {v.number for v in operation.inputs if isinstance(v, Value)}
    return kept[::-1]


def _name(path: Any) -> str:
    """Of a leaf of the carry: fields by name and entries by number."""
    parts = (str(getattr(key, "name", getattr(key, "idx", key))) for key in path)
    return "_".join(parts) or "state"


def _is_fixed(shape: tuple[Any, ...]) -> bool:
    return all(isinstance(size, int) for size in shape)


def _is_literal(atom: Any) -> bool:
    return isinstance(atom, jax.extend.core.Literal)
