"""What one step of a cell does with its products, its projected input and its parameters: read from its jaxpr, never run.

A `Part` is one gate of an array with a gate axis, or the whole of another. Four things are found:

- sums: where a part of the input and a part of a product meet in an addition and are used nowhere else, as in
  `gates(u + dot(h, w_h))`, their sum is all that the backward pass needs of both;
- biases: the parameters that are added to a part of a product, both used nowhere else: the gradient is that part's, summed;
- elementwise: the other parameters that act otherwise than as the weight of a product (peepholes, time constants);
- inside: the products that are not one of the step with a weight that is the same for all steps: the weight depends on the carry
  or the input (fast weights), the vector does not (a product of two parameters), or `op` brings arrays of its own. They are
  differentiated as any other operation.
"""

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.extend.core

from jaxrnn.typing import Array, Carry, Cell, Dot, Params

CALLS = ("jit", "pjit", "closed_call", "core_call", "checkpoint", "remat2", "custom_jvp_call")  # read as if written out


class Part(NamedTuple):
    leaf: int  # which product, or which leaf of the projected input
    gate: int | None  # None is the whole array


class NestedProductError(Exception):
    """A step calls `dot` inside a loop, branch or transform of its own, where a product can be neither recorded nor replayed."""


class Study(NamedTuple):
    rows: int  # how many axes of a step's arrays are batch
    products: tuple[tuple[int, ...], ...]  # the shape of each, but for those inside
    us: tuple[tuple[int, ...], ...]  # the shape of each leaf of the projected input
    tree: Any  # its structure
    sums: tuple[tuple[Part, Part], ...]  # (of a product, of the input)
    biases: tuple[tuple[Part, int], ...]  # (of a product, number of a leaf of the parameters)
    elementwise: tuple[bool, ...]  # for each leaf of the parameters
    inside: tuple[bool, ...]  # for each product
    vectors: tuple[tuple[int, ...] | None, ...]  # what each weight is multiplied by, but for those inside; None for an `op`
    output: tuple[bool, ...]  # for each leaf of the carry, whether it is the output too, as h is


MOST_GATES = 8  # an axis of more entries (heads) is not one of gates


def has_gates(shape: tuple[int, ...], rows: int) -> bool:
    """Whether an array with `rows` leading axes has a gate axis."""
    return len(shape) == rows + 2 and shape[-2] <= MOST_GATES


class Equation(NamedTuple):
    name: str
    inputs: tuple[int | None, ...]  # variables are numbers; None is a constant
    outputs: tuple[int, ...]
    axis: int | None  # of "unstack"


def study(cell: Cell, params: Params, carry: Carry, u: Any, dot: Dot, rows: int) -> Study:
    """Studies one step with `rows` batch axes; the other arguments are those of `cell.step`, of which no value counts."""
    trace = _Trace(cell, params, carry, u, dot, ())
    while trace.inside != trace.given:
        trace = _Trace(cell, params, carry, u, dot, trace.inside)
    leaves, tree = jax.tree.flatten(u)
    products = tuple(s.shape for s, inside in zip(trace.slots, trace.inside, strict=True) if not inside)
    us = tuple(leaf.shape for leaf in leaves)
    sums, biases = trace.sums(rows)
    added = {leaf for _, leaf in biases}
    elementwise = [used and k not in added for k, used in enumerate(trace.elementwise)]
    vectors = tuple(shape for shape, inside in zip(trace.vectors, trace.inside, strict=True) if not inside)
    return Study(rows, products, us, tree, sums, biases, tuple(elementwise), trace.inside, vectors, trace.output)


def _products(cell: Cell, params: Params, carry: Carry, u: Any, dot: Dot) -> list[Any]:
    """The shapes of the products of a step.

    Raises:
        NestedProductError: one of them is computed in another trace than the step.
    """
    products: list[Array] = []
    state = functools.partial(jax.extend.core.get_opaque_trace_state, convention="nnx")

    def step(params: Params, carry: Carry, u: Any) -> list[Array]:
        outside = state()

        def record(v: Array, w: Array, op: Any = None) -> Array:
            if state() != outside:
                raise NestedProductError
            products.append(dot(v, w, op))
            return products[-1]

        cell.step(params, carry, u, record)
        return products

    return jax.eval_shape(step, params, carry, u)


class _Trace:
    """The equations of one step, in which the products that are not `inside` are inputs, and their operands outputs."""

    def __init__(self, cell: Cell, params: Params, carry: Carry, u: Any, dot: Dot, given: tuple[bool, ...]) -> None:
        slots = _products(cell, params, carry, u, dot)
        self.slots, self.given = slots, given or (False,) * len(slots)

        def step(params: Params, carry: Carry, u: Any, slots: Any) -> Any:
            weights, vectors, self.bound, self.vectors = [], [], [], []

            def replaying(v: Array, w: Array, op: Any = None) -> Array:
                k = len(weights)
                weights.append(w)
                vectors.append(v)
                self.vectors.append(v.shape if op is None else None)
                self.bound.append(op is not None and bool(jax.closure_convert(op, v, w)[1]))
                return dot(v, w, op) if self.given[k] else slots[k]

            return weights, (cell.step(params, carry, u, replaying), vectors)

        jaxpr = jax.make_jaxpr(step)(params, carry, u, slots)
        self.shapes = [v.aval.shape for v in jaxpr.jaxpr.invars]
        self.inputs, self.outputs, self.equations = _flatten(jaxpr)
        self.counts = tuple(len(jax.tree.leaves(tree)) for tree in (params, carry, u, slots))
        weights, others = self.outputs[: len(slots)], self.outputs[len(slots) :]
        p, rest = self.inputs[: self.counts[0]], set(self.inputs[self.counts[0] :])
        self.needed = self.behind(others)
        self.elementwise = tuple(v in self.needed for v in p)
        vectors = self.outputs[len(self.outputs) - len(slots) :]
        after, y = others[: self.counts[1]], others[self.counts[1] : len(others) - len(slots)]
        self.output = tuple([leaf] == y and leaf is not None for leaf in after)
        known = [
            not bound and not rest & self.behind([w]) and bool(rest & self.behind([v]))
            for bound, v, w in zip(self.bound, vectors, weights, strict=True)
        ]
        # One at a time: the weight of a later product may be made of an earlier one that turns out to be inside.
        first = next((k for k, fine in enumerate(known) if not fine and not self.given[k]), None)
        self.inside = tuple(given or k == first for k, given in enumerate(self.given))

    def behind(self, targets: Iterable[int | None]) -> set[int | None]:
        """The variables on which some of `targets` depends, those themselves included."""
        found = set(targets)
        for equation in reversed(self.equations):
            if found & set(equation.outputs):
                found |= set(equation.inputs)
        return found

    def sums(self, rows: int) -> tuple[Any, Any]:
        """The additions of a product's part with an input's part, and with a parameter, of which neither has another use."""
        kinds = [(kind, k) for kind, n in zip(("param", "carry", "u", "product"), self.counts, strict=True) for k in range(n)]
        parts: dict[Any, Any] = {v: (*k, None) for v, k in zip(self.inputs, kinds, strict=True) if k[0] != "carry"}
        shapes = dict(zip(kinds, self.shapes, strict=True))
        gated = {v for v, k in zip(self.inputs, kinds, strict=True) if k[0] in ("u", "product") and has_gates(shapes[k], rows)}
        uses, added = [], []
        for equation in self.equations:
            of: list[Any] = [parts.get(v) for v in equation.inputs]
            if equation.name == "unstack" and equation.inputs[0] in gated and equation.axis == rows:
                parts |= {v: (*of[0][:2], gate) for gate, v in enumerate(equation.outputs)}
            elif equation.name == "broadcast_in_dim" and of[0] and of[0][0] == "param":
                parts[equation.outputs[0]] = of[0]
            elif self.needed & set(equation.outputs):
                uses += [part for part in of if part]
                if equation.name == "add" and all(of) and (of[0][0] == "product") != (of[1][0] == "product"):
                    added.append(sorted(of, key=lambda part: part[0] != "product"))
        uses += [parts[v] for v in self.outputs if v in parts]
        alone = {part for part in uses if uses.count(part) == 1 and not any(_overlap(part, other) for other in uses)}
        number = [sum(not i for i in self.inside[:k]) for k in range(len(self.inside))]  # among those not inside
        pairs = [(Part(number[a[1]], a[2]), b, shapes[a[:2]][rows:]) for a, b in added if a in alone and b in alone]
        sums = tuple((a, Part(*b[1:])) for a, b, _ in pairs if b[0] == "u" and a.gate == b[2])
        biases = ((a, b[1]) for a, b, s in pairs if b[0] == "param" and shapes[b[:2]] == (s if a.gate is None else s[1:]))
        return sums, tuple(biases)


def _overlap(part: Any, other: Any) -> bool:
    """Whether one is the whole of which the other is a gate."""
    return part[:2] == other[:2] and (part[2] is None) != (other[2] is None)


def _flatten(closed: Any) -> tuple[list[int], list[int | None], list[Equation]]:
    """Inputs, outputs and equations of a jaxpr, with the calls in it written out."""
    numbers: dict[Any, int | None] = {}
    equations: list[Equation] = []
    fresh = iter(range(10**9))

    def read(v: Any) -> int | None:
        return None if hasattr(v, "val") else numbers[v]

    def walk(jaxpr: Any) -> None:
        numbers.update({v: None for v in jaxpr.constvars})
        for e in jaxpr.eqns:
            inner = e.params.get("jaxpr", e.params.get("call_jaxpr")) if e.primitive.name in CALLS else None
            if inner is not None:
                inner = getattr(inner, "jaxpr", inner)
                numbers.update(zip(inner.invars, map(read, e.invars), strict=True))
                walk(inner)
                numbers.update(zip(e.outvars, map(read, inner.outvars), strict=True))
            else:
                numbers.update({v: next(fresh) for v in e.outvars})
                outputs = tuple(n for v in e.outvars if (n := numbers[v]) is not None)
                equations.append(Equation(e.primitive.name, tuple(map(read, e.invars)), outputs, e.params.get("axis")))

    numbers.update({v: next(fresh) for v in closed.jaxpr.invars})
    inputs = [n for v in closed.jaxpr.invars if (n := numbers[v]) is not None]
    walk(closed.jaxpr)
    return inputs, [read(v) for v in closed.jaxpr.outvars], equations
