"""Which values of a step the backward pass needs, and which activations are saved for it.

The derivative of tanh needs tanh alone, not what it was taken of. Where an activation takes the
place of the sum behind it, as in `sigmoid(u + dot(h, w_h))`, it is saved instead: no more memory,
and the backward loop has nothing to compute again. On jax 0.12, forward and backward, the time of
`flax.nnx` over ours at (1024,1,32,32): LSTM 0.97 -> 1.25, GRU 0.75 -> 1.03, RNN 1.14 -> 1.23
(`bench --peers flax_nnx --shapes 1x1024x32x32 --memory false --rounds 31`).
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax

from jaxrnn.cell import Array
from jaxrnn.running.fused.reading import Activation, Part, Piece, Reading, parts, pieces
from jaxrnn.running.trace import Equation, Trace

# The derivative of each, given the cotangent and the value; the formulas are those of `jax.lax`.
RULES: dict[str, Callable[[Array, Array], Array]] = {
    "exp": lambda d, out: d * out,
    "logistic": lambda d, out: d * out * (1 - out),
    "tanh": lambda d, out: (d + d * out) * (1 - out),
}

LINEAR = (  # their derivatives need the value of no operand
    "add",
    "add_any",
    "broadcast_in_dim",
    "concatenate",
    "convert_element_type",
    "copy",
    "neg",
    "reduce_sum",
    "reshape",
    "slice",
    "squeeze",
    "stack",
    "sub",
    "transpose",
    "unstack",
)


def with_activations(reading: Reading, trace: Trace, columns: bool = False) -> Reading:
    """The reading with the activations that are saved, and what nothing needs then.

    None in columns, where the step itself is run, and none under a mesh with explicit axes, where
    what is left out would have to be put in with its sharding.
    """
    if columns or jax.sharding.get_abstract_mesh().explicit_axes:
        return reading
    values = _Values(reading, trace)
    chosen = _candidates(trace)
    # The last first: tanh of an LSTM's cell state stands for no sum, and is left out.
    for candidate in reversed(chosen):
        others = [c for c in chosen if c != candidate]
        if values.size(others) < values.size(chosen):
            chosen = others
    if values.size(chosen) > values.size([]):
        chosen = []
    return reading._replace(activations=tuple(chosen), needless=values.needless(chosen))


def replay(name: str, value: Any, operand: Array) -> Array:
    """`value`, with the derivative of the activation in `operand`, whose value does not count."""
    return _replayed(name, value, operand)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _replayed(name: str, value: Array, operand: Array) -> Array:
    return value


_replayed.defvjp(
    lambda name, value, operand: (value, value),
    lambda name, value, d: (d, RULES[name](d, value)),
)


def _candidates(trace: Trace) -> list[Activation]:
    """The activations of what depends on the step that are an equation of their own."""
    graph = trace.graph
    varying = graph.depending_on([*graph.carry, *graph.u])
    live = graph.behind([*graph.after, *graph.y])
    of = {e.outputs[0]: e for e in graph.equations if e.name in RULES}
    found = []
    for place, equation in enumerate(trace.equations):
        out = graph.read(equation.outvars[0]) if len(equation.outvars) == 1 else None
        # `jax.nn.sigmoid` is a call of one equation: alike are what goes in and what comes out.
        alone = out in of and tuple(graph.of(equation.invars)) == of[out].inputs
        if alone and out in varying & live:
            found.append(Activation(place, of[out].name))
    return found


class _Values:
    """What the backward pass needs of a step, as numbers of the graph."""

    def __init__(self, reading: Reading, trace: Trace) -> None:
        self._reading = reading
        self._trace = trace
        self._shapes = {"product": reading.products, "u": reading.us}
        graph = trace.graph
        self._pieces = pieces(graph, reading.recorded, self._shapes, reading.rows)
        self._live = graph.behind([*graph.after, *graph.y], reading.recorded)
        self._alive = graph.depending_on([*graph.carry, *graph.u, *graph.params])

    def needless(self, activations: list[Activation]) -> frozenset[Piece]:
        """The pieces that nothing needs, a gate being one; the others are saved."""
        wanted = {self._pieces[v] for v in self._wanted(activations) if v in self._pieces}
        return frozenset(p for p in self._all() if not {p, _whole(p)} & wanted)

    def size(self, activations: list[Activation]) -> int:
        """How many numbers are saved of one row."""
        needless = self.needless(activations)
        total = sum(self._entries(piece) for piece in self._all() if piece not in needless)
        outs = [self._trace.equations[a.place].outvars[0].aval.shape for a in activations]
        return total + sum(math.prod(shape[self._reading.rows :]) for shape in outs)

    def _all(self) -> list[Piece]:
        """Every gate of what has gates, and every other array whole; of a sum the product."""
        in_sums = {Piece("u", u) for _, u in self._reading.sums}
        found = [
            Piece(kind, part)
            for kind, shapes in self._shapes.items()
            for leaf, shape in enumerate(shapes)
            for part in parts(leaf, shape, self._reading.rows)
        ]
        return [piece for piece in found if not {piece, _whole(piece)} & in_sums]

    def _entries(self, piece: Piece) -> int:
        shape = self._shapes[piece.kind][piece.part.leaf][self._reading.rows :]
        return math.prod(shape if piece.part.gate is None else shape[1:])

    def _wanted(self, activations: list[Activation]) -> set[Any]:
        """The values that derivatives need, and those that they are computed from."""
        graph = self._trace.graph
        known = {graph.read(self._trace.equations[a.place].outvars[0]) for a in activations}
        wanted: set[Any] = set()
        # From the last to the first: what needs a value is seen before what computes it.
        for equation in reversed(graph.equations):
            outputs = set(equation.outputs)
            if outputs & self._live and not outputs & known:
                wanted |= self._operands(equation, bool(outputs & wanted))
        return wanted - {None}

    def _operands(self, equation: Equation, computed: bool) -> set[Any]:
        """The operands of an equation whose values are needed, for its derivative or, where it is
        `computed`, for its value."""
        number = equation.number
        if number is not None and self._reading.recorded[number]:
            return set(equation.inputs[:1])  # for the gradient of the weight; the value is recorded
        if equation.name == "unstack" and set(equation.outputs) & set(self._pieces):
            return set()  # gates are saved as they are
        if computed or equation.name not in (*LINEAR, "mul"):
            return set(equation.inputs)
        if equation.name == "mul":
            left, right = equation.inputs
            pairs = ((left, right), (right, left))
            return {one for one, other in pairs if other in self._alive}
        return set()


def _whole(piece: Piece) -> Piece:
    """The array of which a piece is a gate."""
    return Piece(piece.kind, Part(piece.part.leaf, None))
