"""Whether a step is affine in its carry, unit by unit: read from its equations.

Nothing is run, and what is not known to be linear is taken for nonlinear: a wrong yes would give
wrong numbers without a sign, a wrong no costs time.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxrnn.running.trace import Trace, called, is_literal, product_p

Axes = tuple[int | None, ...]  # for each axis of a leaf of the carry that of an array; None: size 1


class Value(NamedTuple):
    """What is known of an array of a step."""

    leaves: frozenset[int] = frozenset()  # of the carry: those that it depends on
    linear: bool = True  # affine in them
    axes: Axes | None = ()  # unit by unit along these; None where units mix
    timed: bool = False  # depends on the input
    steep: bool = False  # the input is in what it multiplies the carry by


class Linear(NamedTuple):
    """How the leaves of a carry after a step are made of those before it."""

    blocks: tuple[tuple[bool, ...], ...]  # [after][before]: whether it depends on it
    steep: bool  # whether the coefficients depend on the input
    # where leaves only move on: the order in which they are made, each (leaf, the leaf that it was
    # one step before); None for one that the input makes anew
    delay: tuple[tuple[int, int | None], ...] | None = None


NOTHING = Value()
# primitives that are linear in all operands at once
ADDITIVE = {"add", "sub", "add_any"}
# one result for each operand, which is the operand
THE_SAME = {"neg", "copy", "copy_p", "pvary", "pcast", "optimization_barrier"}
THE_SAME |= {"sharding_constraint", "mesh_cast"}


def read_linear(trace: Trace, moving: Sequence[bool]) -> Linear | str:
    """Reads a step; a string says why it is not affine, unit by unit.

    Args:
        trace: of the step.
        moving: for each leaf of the carry, whether a step changes it.
    """
    before = [v for v, moves in zip(trace.carry, moving, strict=True) if moves]
    after = [v for v, moves in zip(trace.after, moving, strict=True) if moves]
    reason = _unfit(trace, before, after)
    if reason is not None:
        return reason
    shape = before[0].aval.shape if before else ()
    own = axes_of(shape)
    values = {v: Value(frozenset({k}), axes=own) for k, v in enumerate(before)}
    values |= dict.fromkeys(trace.u, Value(timed=True))
    found = walk(trace.equations, values, after)
    reason = coupled(found, own)
    if reason is not None:
        return reason
    return Linear(blocks(found), any(value.steep for value in found), _delay(before, after, found))


def coupled(found: Sequence[Value], own: Axes) -> str | None:
    """Why results are no linear functions, unit by unit along `own`, of what they depend on."""
    if not all(value.linear for value in found):
        return "its carry is not linear."
    if any(value.leaves and value.axes != own for value in found):
        return "its units act on each other."
    return None


def blocks(found: Sequence[Value]) -> tuple[tuple[bool, ...], ...]:
    """[result][leaf]: whether it depends on it."""
    count = range(len(found))
    return tuple(tuple(k in value.leaves for k in count) for value in found)


def axes_of(shape: tuple[int, ...]) -> Axes:
    """Those of a leaf itself."""
    return tuple(None if size == 1 else axis for axis, size in enumerate(shape))


def _delay(
    before: Sequence[Any], after: Sequence[Any], found: Sequence[Value]
) -> tuple[tuple[int, int | None], ...] | None:
    """The moves of a carry that is what the input was in some steps before; None of another."""
    sources: dict[int, int | None] = {k: None for k, v in enumerate(found) if not v.leaves}
    places = {v: k for k, v in enumerate(before)}
    moved = {
        k: places[v] for k, v in enumerate(after) if not is_literal(v) and places.get(v, k) != k
    }
    while any(k not in sources and j in sources for k, j in moved.items()):
        sources |= {k: j for k, j in moved.items() if k not in sources and j in sources}
    return tuple(sources.items()) if len(sources) == len(after) else None


def _unfit(trace: Trace, before: Sequence[Any], after: Sequence[Any]) -> str | None:
    """Why no carry of this kind is scanned, whatever the step does with it."""
    if trace.effects:
        return "its step has effects."
    if trace.carry and not before:
        return "it has no carry that changes."
    if len({v.aval.shape for v in before}) > 1:
        return "the leaves of its carry differ in shape."
    return unscannable([v.aval for v in (*before, *after)])


def unscannable(leaves: Sequence[Any]) -> str | None:
    """Why no scan takes leaves of these dtypes, all of one carry."""
    if not all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves):
        return "a leaf of its carry is not floating-point."
    dtypes = {leaf.dtype for leaf in leaves}
    if len(dtypes) > 1 or any(dtype.itemsize < 4 for dtype in dtypes):
        return "its carry has several dtypes, or one of 16 bits."
    return None


def walk(equations: Sequence[Any], values: dict[Any, Value], targets: Sequence[Any]) -> list[Any]:
    """What is known of the targets; `values` has what is known at first, the rest is constant."""
    values = dict(values)

    def read(atom: Any) -> Value:
        return NOTHING if is_literal(atom) else values.get(atom, NOTHING)

    for equation in equations:
        operands = [read(atom) for atom in equation.invars]
        inner = called(equation)
        if inner is not None and _opens(equation, operands):
            given = dict(zip(inner.invars, operands, strict=True))
            results = walk(inner.eqns, given, inner.outvars)
        else:
            results = _results(equation, operands)
        values.update(zip(equation.outvars, results, strict=True))
    return [read(target) for target in targets]


def _opens(equation: Any, operands: Sequence[Value]) -> bool:
    """Whether a call is read as what it calls: the value of one with a derivative of its own does
    not say what its derivative is."""
    depends = any(value.leaves for value in operands)
    return not (depends and equation.primitive.name == "custom_jvp_call")


def _results(equation: Any, operands: list[Value]) -> list[Value]:
    name = equation.primitive.name
    timed = any(value.timed for value in operands)
    if not any(value.leaves for value in operands):
        return [Value(timed=timed)] * len(equation.outvars)
    if name in THE_SAME:
        return operands
    rule = RULES.get(name)
    if rule is None and name not in ADDITIVE:
        unknown = _together(operands)._replace(linear=False, axes=None)
        return [unknown] * len(equation.outvars)
    value = _together(operands)
    if rule is not None:
        value = rule(equation, operands, value)
    return [value] * len(equation.outvars)


def _together(values: Sequence[Value]) -> Value:
    """What a sum of values is: along the same axes, or else units mix."""
    depending = [value for value in values if value.leaves]
    axes = {value.axes for value in depending}
    return Value(
        leaves=frozenset().union(*(value.leaves for value in depending)),
        linear=all(value.linear for value in depending),
        axes=axes.pop() if len(axes) == 1 else None,
        timed=any(value.timed for value in values),
        steep=any(value.steep for value in depending),
    )


def _product(equation: Any, operands: list[Value], value: Value) -> Value:
    depending = [operand for operand in operands if operand.leaves]
    others = any(operand.timed for operand in operands if not operand.leaves)
    return value._replace(linear=value.linear and len(depending) == 1, steep=value.steep or others)


def _quotient(equation: Any, operands: list[Value], value: Value) -> Value:
    value = _product(equation, operands, value)
    return value._replace(linear=value.linear and not operands[1].leaves)


def _selection(equation: Any, operands: list[Value], value: Value) -> Value:
    which = operands[0]
    return value._replace(
        linear=value.linear and not which.leaves, steep=value.steep or which.timed
    )


def _conversion(equation: Any, operands: list[Value], value: Value) -> Value:
    """One to fewer digits rounds, which is not linear."""
    given = equation.invars[0].aval.dtype
    made = equation.params["new_dtype"]
    real = jnp.issubdtype(made, jnp.floating) and jnp.issubdtype(given, jnp.floating)
    exact = bool(real) and jnp.finfo(made).bits >= jnp.finfo(given).bits
    return value._replace(linear=value.linear and exact)


def _moved(place: Callable[[Any, int], int | None]) -> Callable[[Any, list[Value], Value], Value]:
    """The rule of what moves axes: where an axis is afterwards; None where its entries mix."""

    def rule(equation: Any, operands: list[Value], value: Value) -> Value:
        if value.axes is None:
            return value
        places = [None if axis is None else place(equation, axis) for axis in value.axes]
        lost = any(a is not None and b is None for a, b in zip(value.axes, places, strict=True))
        return value._replace(axes=None if lost else tuple(places))

    return rule


def _broadcast(equation: Any, axis: int) -> int:
    return equation.params["broadcast_dimensions"][axis]


def _transposed(equation: Any, axis: int) -> int:
    return equation.params["permutation"].index(axis)


def _reshaped(equation: Any, axis: int) -> int | None:
    """The axis of the same size with as many entries before it and behind it."""
    if equation.params.get("dimensions") is not None:
        return None
    before = equation.invars[0].aval.shape
    after = equation.outvars[0].aval.shape
    wanted = (math.prod(before[:axis]), before[axis])
    found = [(math.prod(after[:k]), size) for k, size in enumerate(after)]
    return found.index(wanted) if wanted in found else None


def _reduced(equation: Any, axis: int) -> int | None:
    axes = equation.params["axes"]
    return None if axis in axes else axis - sum(other < axis for other in axes)


def _squeezed(equation: Any, axis: int) -> int:
    return axis - sum(other < axis for other in equation.params["dimensions"])


def _cut(equation: Any, axis: int) -> int | None:
    """An axis stays in place where all of it stays; part of it would be other units."""
    sizes = {v.aval.shape[axis] for v in (equation.invars[0], *equation.outvars)}
    return axis if len(sizes) == 1 else None


def _joined(equation: Any, axis: int) -> int | None:
    return None if axis == equation.params["dimension"] else axis


def _stacked(equation: Any, axis: int) -> int:
    return axis + (equation.params["axis"] <= axis)


def _unstacked(equation: Any, axis: int) -> int | None:
    gone = equation.params["axis"]
    return None if axis == gone else axis - (gone < axis)


def _matrix(equation: Any, operands: list[Value], value: Value) -> Value:
    return _product(equation, operands, value)._replace(axes=None)


RULES: dict[str, Callable[[Any, list[Value], Value], Value]] = {
    product_p.name: _matrix,
    "dot_general": _matrix,
    "mul": _product,
    "div": _quotient,
    "select_n": _selection,
    "convert_element_type": _conversion,
    "broadcast_in_dim": _moved(_broadcast),
    "transpose": _moved(_transposed),
    "reshape": _moved(_reshaped),
    "reduce_sum": _moved(_reduced),
    "squeeze": _moved(_squeezed),
    "slice": _moved(_cut),
    "split": _moved(_cut),
    "concatenate": _moved(_joined),
    "stack": _moved(_stacked),
    "unstack": _moved(_unstacked),
}
