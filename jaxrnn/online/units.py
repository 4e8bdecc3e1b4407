"""Where the units of a carry stand in each parameter: read backward from the equations of the
derivative of a step.

Nothing is run, and what is not known to keep units apart is taken for something that mixes them.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from jaxrnn.cell import Array
from jaxrnn.running.trace import called, is_literal

Shape = tuple[int, ...]


class Segment(NamedTuple):
    """Part of the units along part of an axis: where the axis is [outer, size, inner]."""

    axis: int
    size: int
    inner: int


# The units of a carry in their order, row by row, as parts of the axes of an array. None: they do
# not stand in it, or an entry of it acts on several.
Place = tuple[Segment, ...] | None


class Reading(NamedTuple):
    """For each leaf of a carry what it depends on, and where its units stand there."""

    leaves: tuple[dict[int, Place], ...]  # [after]: of each leaf before that it depends on
    params: tuple[dict[int, Place], ...]  # [after]: of each parameter that it depends on


def read_units(
    run: Callable[..., list[Any]], params: Sequence[Any], carry: Sequence[Any], *others: Any
) -> Reading:
    """Reads the derivative of a step in its parameters and in the carry before.

    Args:
        run: (params, carry, *others) -> the leaves of the carry after.
        params: leaves, of which shapes and dtypes count.
        carry: leaves, all of one shape; nothing for a carry that begins.
        others: what else the step takes.
    """

    def push(directions: Any, at: Any, others: Any) -> list[Any]:
        return jax.jvp(lambda p, c: run(p, c, *others), at, directions)[1]

    at = (list(params), list(carry))
    jaxpr = jax.make_jaxpr(push)(at, at, others).jaxpr
    directions = jaxpr.invars[: len(params)]
    before = jaxpr.invars[len(params) : len(params) + len(carry)]
    leaves = []
    places = []
    for target in jaxpr.outvars:
        found = {} if is_literal(target) else _walk(jaxpr, {target: whole(target.aval.shape)})
        leaves.append({k: found[v] for k, v in enumerate(before) if v in found})
        places.append({k: found[v] for k, v in enumerate(directions) if v in found})
    return Reading(tuple(leaves), tuple(places))


def whole(shape: Shape) -> Place:
    """That of the units in a leaf itself."""
    return tuple(Segment(axis, size, 1) for axis, size in enumerate(shape) if size > 1)


def spread(units: Array, shape: Shape, place: Place) -> Array:
    """`units` [*features] along their place in a parameter: what broadcasts to `split(shape)`."""
    assert place is not None
    sizes = [segment.size for segment in place]
    order = sorted(range(len(place)), key=lambda k: (place[k].axis, -place[k].inner))
    units = units.reshape(sizes).transpose(order)
    return units.reshape([size if stands else 1 for stands, size in _parts(shape, place)])


def split(shape: Shape, place: Place) -> Shape:
    """The shape of a parameter whose axes are cut where units begin and end."""
    return tuple(size for _, size in _parts(shape, place))


def _parts(shape: Shape, place: Place) -> list[tuple[bool, int]]:
    """Of each axis its parts from outside inward: (whether units stand there, size)."""
    assert place is not None
    parts: list[tuple[bool, int]] = []
    for axis, size in enumerate(shape):
        rest = size
        for segment in sorted((s for s in place if s.axis == axis), key=lambda s: -s.inner):
            parts.append((False, rest // (segment.size * segment.inner)))
            parts.append((True, segment.size))
            rest = segment.inner
        parts.append((False, rest))
    return parts


def _walk(jaxpr: Any, wanted: dict[Any, Place]) -> dict[Any, Place]:
    """For each variable behind the targets the place of their units in it."""
    found = dict(wanted)

    def demand(atom: Any, place: Place) -> None:
        if not is_literal(atom):
            found[atom] = place if found.get(atom, place) == place else None

    for equation in reversed(jaxpr.eqns):
        asked = [(k, found[v]) for k, v in enumerate(equation.outvars) if v in found]
        for k, place in asked:
            for atom, stands in _behind(equation, k, place):
                demand(atom, stands)
    return found


def _behind(equation: Any, k: int, place: Place) -> list[tuple[Any, Place]]:
    """Where the units of result `k` stand in the operands that it depends on."""
    inner = called(equation)
    if inner is not None:
        target = inner.outvars[k]
        found = {} if is_literal(target) else _walk(inner, {target: place})
        pairs = zip(equation.invars, inner.invars, strict=True)
        return [(atom, found[variable]) for atom, variable in pairs if variable in found]
    rule = RULES.get(equation.primitive.name)
    if place is None or rule is None:
        return [(atom, None) for atom in equation.invars]
    shapes = [atom.aval.shape for atom in equation.invars]
    places = rule(equation, shapes, equation.outvars[k].aval.shape, place)
    return list(zip(equation.invars, places, strict=True))


def _same(equation: Any, shapes: list[Shape], out: Shape, place: Place) -> list[Place]:
    assert place is not None
    return [
        place
        if len(shape) == len(out) and all(shape[s.axis] == out[s.axis] for s in place)
        else None  # one number for all units
        for shape in shapes
    ]


def _axes(move: Callable[[Any, int, Shape, Shape], int | None]) -> Callable[..., list[Place]]:
    """The rule of what moves axes: where an axis of the result is in the operand."""

    def rule(equation: Any, shapes: list[Shape], out: Shape, place: Place) -> list[Place]:
        return [
            _moved(place, lambda axis, s=shape: move(equation, axis, s, out)) for shape in shapes
        ]

    return rule


def _moved(place: Place, move: Callable[[int], int | None]) -> Place:
    assert place is not None
    found: list[Segment] = []
    for segment in place:
        axis = move(segment.axis)
        if axis is None:
            return None
        found.append(segment._replace(axis=axis))
    return tuple(found)


def _broadcast(equation: Any, axis: int, shape: Shape, out: Shape) -> int | None:
    dims = equation.params["broadcast_dimensions"]
    if axis not in dims:
        return None
    inside = dims.index(axis)
    return inside if shape[inside] == out[axis] else None


def _transposed(equation: Any, axis: int, shape: Shape, out: Shape) -> int:
    return equation.params["permutation"][axis]


def _reduced(equation: Any, axis: int, shape: Shape, out: Shape) -> int:
    gone = equation.params["axes"]
    return [k for k in range(len(shape)) if k not in gone][axis]


def _squeezed(equation: Any, axis: int, shape: Shape, out: Shape) -> int:
    gone = equation.params["dimensions"]
    return [k for k in range(len(shape)) if k not in gone][axis]


def _cut(equation: Any, axis: int, shape: Shape, out: Shape) -> int | None:
    """Part of the units would be others."""
    return axis if shape[axis] == out[axis] else None


def _stacked(equation: Any, axis: int, shape: Shape, out: Shape) -> int | None:
    new = equation.params["axis"]
    return None if axis == new else axis - (axis > new)


def _unstacked(equation: Any, axis: int, shape: Shape, out: Shape) -> int:
    return axis + (axis >= equation.params["axis"])


def _reshaped(equation: Any, shapes: list[Shape], out: Shape, place: Place) -> list[Place]:
    if equation.params.get("dimensions") is not None:
        return [None]
    return [_in_shape(place, out, shapes[0])]


def _in_shape(place: Place, out: Shape, shape: Shape) -> Place:
    """The same entries in an array of another shape, cut where its axes begin."""
    assert place is not None
    strides = [math.prod(shape[k + 1 :]) for k in range(len(shape))]
    found: list[Segment] = []
    for segment in place:
        inner = segment.inner * math.prod(out[segment.axis + 1 :])
        end = inner * segment.size
        cuts = sorted({inner, end, *(s for s in strides if inner < s < end)}, reverse=True)
        for high, low in itertools.pairwise(cuts):
            axes = [
                k
                for k, size in enumerate(shape)
                if strides[k] <= low and high <= strides[k] * size and size > 1
            ]
            if len(axes) != 1 or high % low or low % strides[axes[0]]:
                return None
            found.append(Segment(axes[0], high // low, low // strides[axes[0]]))
    return _joined(found)


def _joined(segments: Sequence[Segment]) -> Place:
    """Neighbours on one axis as one."""
    found: list[Segment] = []
    for segment in segments:
        last = found[-1] if found else None
        if last and last.axis == segment.axis and last.inner == segment.size * segment.inner:
            found[-1] = Segment(segment.axis, last.size * segment.size, segment.inner)
        else:
            found.append(segment)
    return tuple(found)


def _matrix(equation: Any, shapes: list[Shape], out: Shape, place: Place) -> list[Place]:
    (left, right), (left_batch, right_batch) = equation.params["dimension_numbers"]
    free = [
        [k for k in range(len(shape)) if k not in (*used, *batch)]
        for shape, used, batch in zip(shapes, (left, right), (left_batch, right_batch), strict=True)
    ]
    stands: list[dict[int, int]] = [dict(enumerate(left_batch)), dict(enumerate(right_batch))]
    count = len(left_batch)
    stands[0] |= {count + k: axis for k, axis in enumerate(free[0])}
    stands[1] |= {count + len(free[0]) + k: axis for k, axis in enumerate(free[1])}
    return [_moved(place, each.get) for each in stands]


SAME = ("add", "sub", "mul", "div", "neg", "add_any", "convert_element_type", "select_n", "copy")
SAME += ("reduce_precision", "optimization_barrier", "pvary")
RULES: dict[str, Callable[..., list[Place]]] = {
    **dict.fromkeys(SAME, _same),
    "reshape": _reshaped,
    "dot_general": _matrix,
    "broadcast_in_dim": _axes(_broadcast),
    "transpose": _axes(_transposed),
    "reduce_sum": _axes(_reduced),
    "squeeze": _axes(_squeezed),
    "slice": _axes(_cut),
    "split": _axes(_cut),
    "concatenate": _axes(_cut),
    "stack": _axes(_stacked),
    "unstack": _axes(_unstacked),
}


def behind(run: Callable[..., list[Any]], marks: Sequence[Any], *others: Any) -> frozenset[int]:
    """Of the arrays `marks` the numbers of those that some result of `run(marks, *others)`
    depends on."""
    jaxpr = jax.make_jaxpr(run)(list(marks), *others).jaxpr
    return frozenset().union(*_marks_behind(jaxpr, len(marks)))


def depending(run: Callable[..., list[Any]], marks: Sequence[Any], *others: Any) -> list[bool]:
    """For each result of `run(marks, *others)`, whether it depends on some of the arrays
    `marks`."""
    jaxpr = jax.make_jaxpr(run)(list(marks), *others).jaxpr
    return [bool(found) for found in _marks_behind(jaxpr, len(marks))]


def _marks_behind(jaxpr: Any, count: int) -> list[set[int]]:
    """For each result the numbers of the first `count` inputs that it depends on."""
    found = [set() if is_literal(v) else _walk(jaxpr, {v: None}).keys() for v in jaxpr.outvars]
    return [{k for k, v in enumerate(jaxpr.invars[:count]) if v in each} for each in found]
