"""What the fused method reads from the trace of a step, pass by pass.

A `Part` is one gate of an array with a gate axis, or the whole of another. Read are:

- recorded: the products that are one of the step with a weight that is the same for all steps.
  Others (a weight that depends on the carry, a product of two parameters) are differentiated as
  any other operation;
- acting: the parameters that act otherwise than as the weight of a recorded product (peepholes);
- sums: where a part of the input and a part of a product meet in an addition and are used nowhere
  else, as in `gates(u + dot(h, w_h))`. Their sum is all that the backward pass needs of both.
"""

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax

from jaxrnn.running.trace import Graph, Product, Trace

DENSE = 2**16  # entries of a matrix
MOST_GATES = 8  # an axis of more entries (heads) is not one of gates


class Part(NamedTuple):
    leaf: int  # which product, or which leaf of the projected input
    gate: int | None  # None is the whole array


class Piece(NamedTuple):
    """A part, and of what."""

    kind: str  # "product" or "u"
    part: Part


class Activation(NamedTuple):
    place: int  # of its equation in the trace
    name: str


class Reading(NamedTuple):
    rows: int  # how many axes of a step's arrays are batch
    recorded: tuple[bool, ...]  # for each product
    acting: tuple[bool, ...]  # for each leaf of the parameters
    sums: tuple[tuple[Part, Part], ...]  # (of a recorded product, of the input)
    products: tuple[tuple[int, ...], ...]  # the shapes of those recorded
    us: tuple[tuple[int, ...], ...]  # the shapes of the leaves of the projected input
    dense: tuple[bool, ...]  # for each product, whether its `op` is written out as one matrix
    dtypes: tuple[Any, ...]  # of the products recorded, and then of the leaves of the input
    activations: tuple[Activation, ...] = ()  # those that are saved, in place of sums
    needless: frozenset[Piece] = frozenset()  # what is not saved, since nothing needs its value


def has_gates(shape: tuple[int, ...], rows: int) -> bool:
    """Whether an array with `rows` leading axes has a gate axis.

    That of one gate (an RNN's) counts, and up to 8 heads or pixels cannot be told from gates: only
    layout and speed may depend on it.
    """
    return len(shape) == rows + 2 and shape[-2] <= MOST_GATES


def parts(leaf: int, shape: tuple[int, ...], rows: int) -> list[Part]:
    """The gates of an array, or the whole of one that has none."""
    gates = range(shape[-2]) if has_gates(shape, rows) else [None]
    return [Part(leaf, gate) for gate in gates]


def read(trace: Trace, rows: int) -> Reading:
    """Reads a step whose arrays have `rows` batch axes."""
    graph = trace.graph
    recorded = recorded_products(graph)
    outs = [p.out.aval for p, yes in zip(trace.products, recorded, strict=True) if yes]
    shapes = [out.shape for out in outs]
    us = tuple(v.aval.shape for v in trace.u)
    return Reading(
        rows=rows,
        recorded=recorded,
        acting=acting_params(graph, recorded),
        sums=sums(graph, recorded, tuple(shapes), us, rows),
        products=tuple(shapes),
        us=us,
        dense=tuple(
            yes and _is_dense(product, rows)
            for product, yes in zip(trace.products, recorded, strict=True)
        ),
        dtypes=tuple(aval.dtype for aval in (*outs, *(v.aval for v in trace.u))),
    )


def _is_dense(product: Product, rows: int) -> bool:
    """Whether the operation of a product is faster as one matrix, `op(identity, w)`.

    With gates XLA:CPU moves the blocks of a block-diagonal kernel about: an LSTM of 4 heads was
    3.7 times as fast forward at H = 64 as one matrix, in which the zeros are multiplied too, and
    1.5 times with the backward pass; 2 and 1.6 times at H = 128, 0.9 and 0.8 at H = 256. Without
    gates 0.8 to 1.0. With 8 blocks, of which a matrix has 8 times the entries, 1.4 and 1.3 times at
    16 rows and H = 64, 0.9 forward at H = 128, and 0.6 and 0.4 with one row.
    """
    if product.op is None or product.v.aval.ndim != rows + 1:
        return False
    size = product.v.aval.shape[-1]
    shape = product.out.aval.shape[rows:]
    gates = has_gates(product.out.aval.shape, rows) and shape[0] > 1
    entries = size * math.prod(shape)
    alone = math.prod(product.v.aval.shape[:rows]) == 1
    few = entries <= 4 * product.w.aval.size or (entries <= DENSE // 4 and not alone)
    if not gates or not few or entries > DENSE:
        return False
    identity = jax.ShapeDtypeStruct((size, size), product.v.aval.dtype)
    weight = jax.ShapeDtypeStruct(product.w.aval.shape, product.w.aval.dtype)
    try:
        found = jax.eval_shape(product.op, identity, weight)
    except (TypeError, ValueError):  # an operation for the rows that it was given, and no others
        return False
    return found.shape == (size, *shape)


def recorded_products(graph: Graph) -> tuple[bool, ...]:
    """The products of a vector that depends on the step with a weight that does not, and of which
    something is made."""
    varying = graph.depending_on([*graph.carry, *graph.u])
    needed = graph.behind([*graph.after, *graph.y])
    return tuple(
        v in varying and w not in varying and out in needed for v, w, out in graph.products
    )


def acting_params(graph: Graph, recorded: tuple[bool, ...]) -> tuple[bool, ...]:
    """The parameters behind carry and output, but for the weights of recorded products."""
    needed = graph.behind([*graph.after, *graph.y], recorded)
    return tuple(p in needed for p in graph.params)


def sums(
    graph: Graph,
    recorded: tuple[bool, ...],
    products: tuple[tuple[int, ...], ...],
    us: tuple[tuple[int, ...], ...],
    rows: int,
) -> tuple[tuple[Part, Part], ...]:
    """The additions of a product's part and an input's part, of which neither has another use."""
    shapes = {"product": products, "u": us}
    found = pieces(graph, recorded, shapes, rows)
    needed = graph.behind([*graph.after, *graph.y], recorded)
    uses = _uses(graph, found, needed)

    def is_sum(product: Piece, u: Piece) -> bool:
        left, right = (_features(shapes[p.kind][p.part.leaf][rows:], p.part) for p in (product, u))
        whole = product.part.gate is None and u.part.gate is None
        # Of other shapes the addition repeats one of them; of gates only whole arrays are sums. And
        # no part may stand in two sums: the first that is saved takes its place.
        fits = left == right and (whole or len(left) == 1)
        return fits and _uses_of(product, uses) == _uses_of(u, uses) == 1

    pairs = _additions(graph, found, needed)
    return tuple((product.part, u.part) for product, u in pairs if is_sum(product, u))


def _additions(
    graph: Graph, pieces: dict[Any, Piece], needed: set[Any]
) -> Iterator[tuple[Piece, Piece]]:
    """The additions of a part of a product and a part of an input.

    One that nobody needs (but for a `jax.debug.print`) is none of the uses that are counted.
    """
    for equation in graph.equations:
        if equation.name == "add" and needed & set(equation.outputs):
            both = sorted((pieces[v] for v in equation.inputs if v in pieces), key=_kind)
            if list(map(_kind, both)) == ["product", "u"]:
                yield both[0], both[1]


def _kind(piece: Piece) -> str:
    return piece.kind


def _features(shape: tuple[int, ...], part: Part) -> tuple[int, ...]:
    return shape if part.gate is None else shape[1:]


def pieces(
    graph: Graph,
    recorded: tuple[bool, ...],
    shapes: dict[str, tuple[tuple[int, ...], ...]],
    rows: int,
) -> dict[Any, Piece]:
    """The variables that are a recorded product, a leaf of the input, or a gate of one."""
    outs = [out for (_, _, out), yes in zip(graph.products, recorded, strict=True) if yes]
    pieces = {v: Piece("product", Part(k, None)) for k, v in enumerate(outs)}
    pieces.update({v: Piece("u", Part(k, None)) for k, v in enumerate(graph.u)})
    for equation in graph.equations:
        if equation.name != "unstack" or equation.axis != rows:
            continue
        whole = pieces.get(equation.inputs[0])
        if whole is not None and _is_of_gates(whole, shapes, rows):
            parts = [Part(whole.part.leaf, gate) for gate in range(len(equation.outputs))]
            gates = [Piece(whole.kind, part) for part in parts]
            pieces.update(zip(equation.outputs, gates, strict=True))
    return pieces


def _is_of_gates(piece: Piece, shapes: dict[str, tuple[tuple[int, ...], ...]], rows: int) -> bool:
    """Whether a piece is a whole leaf that has a gate axis."""
    return piece.part.gate is None and has_gates(shapes[piece.kind][piece.part.leaf], rows)


def _uses(graph: Graph, pieces: dict[Any, Piece], needed: set[Any]) -> Counter[Piece]:
    """How often each piece is used by what is needed; taking gates apart is no use."""
    uses = Counter(pieces[v] for v in [*graph.after, *graph.y] if v in pieces)
    for equation in graph.equations:
        taken_apart = any(v in pieces for v in equation.outputs) and equation.name == "unstack"
        if not taken_apart and needed & set(equation.outputs):
            uses.update(pieces[v] for v in equation.inputs if v in pieces)
    return uses


def _uses_of(piece: Piece, uses: Counter[Piece]) -> int:
    """The uses of a piece, those of the whole of which it is a gate included, and of its gates."""
    kind, (leaf, gate) = piece
    overlapping = [
        other
        for other in uses
        if other.kind == kind
        and other.part.leaf == leaf
        and (gate is None or other.part.gate in (None, gate))
    ]
    return sum(uses[other] for other in overlapping)
