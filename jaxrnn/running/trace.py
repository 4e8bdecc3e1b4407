"""The one trace of a step: its equations, in which each product with a weight is an equation too.

Everything that a method needs to know of a step is read from here, and a step can be run from
here again, whole or in part, with other products: `evaluate`.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.extend.core

from jaxrnn.cell import Array, Carry, Params
from jaxrnn.running.problem import Problem

# A call of `dot` in a traced step. It is only ever read, or evaluated by `Trace.evaluate`.
product_p = jax.extend.core.Primitive("product")
product_p.def_abstract_eval(lambda v, w, *, number, aval: aval)

Var = Any  # of a jaxpr, or a literal
Multiply = Callable[[int, Array, Array], Array]  # (number of the product, v, w) -> its value
Replaced = dict[Var, Callable[..., Array]]  # for a variable what gives its value, of the operands


class Product(NamedTuple):
    """One call of `dot` in a step."""

    v: Var
    w: Var
    out: Var
    op: Callable[[Array, Array], Array] | None


class Trace:
    """One step of a cell as equations. It holds no arrays: `consts` are handed in where it runs."""

    def __init__(self, jaxpr: Any, trees: "Trees", ops: Sequence[Any], notes: "Notes") -> None:
        self.equations = jaxpr.eqns
        self.effects = jaxpr.effects
        self.constants = list(jaxpr.constvars)
        counts = [trees.params.num_leaves, trees.carry.num_leaves, trees.u.num_leaves]
        inputs = iter(jaxpr.invars)
        self.params, self.carry, self.u = [[next(inputs) for _ in range(n)] for n in counts]
        self.after = jaxpr.outvars[: counts[1]]
        self.y = jaxpr.outvars[counts[1] :]
        self.trees = trees
        self.nested = notes.nested
        self.unmarked = notes.unmarked
        # `make_jaxpr` keeps products of which nothing is made, so that the number of a call is its
        # place here: `Graph` and `Reading` go by either.
        calls = [e for e in self.equations if e.primitive is product_p]
        self.products = [
            Product(v=e.invars[0], w=e.invars[1], out=e.outvars[0], op=ops[e.params["number"]])
            for e in calls
        ]

    def known(self, consts: Any = (), params: Params = None, carry: Carry = None, u: Any = None):
        """What is known of the variables: the arguments of `evaluate`."""
        pairs = ((self.params, params), (self.carry, carry), (self.u, u))
        values = dict(zip(self.constants, consts, strict=True))
        for variables, tree in pairs:
            if tree is not None:
                values.update(zip(variables, jax.tree.leaves(tree), strict=True))
        return values

    def evaluate(
        self,
        known: dict[Var, Any],
        targets: Sequence[Var],
        multiply: Multiply | None = None,
        weights: Sequence[Any] = (),
        *,
        effects: bool = False,
        replaced: Replaced | None = None,
    ) -> list[Any]:
        """The values of `targets`, of which only those equations are run that they depend on.

        Args:
            known: the values of variables, at which it stops asking.
            targets: the variables wanted.
            multiply: what gives a product; None where all that are needed are known.
            weights: for each product its weight from elsewhere; None or nothing where the
                equations of the step say what it is.
            effects: whether equations with effects (`jax.debug.print`) run too.
            replaced: what runs in place of the equations that give these variables.
        """
        values = dict(known)
        # Numbers are those of the order in which `dot` was called: `Reading.recorded` and the lists
        # of weights and products have that order too.
        given = {p.out: w for p, w in zip(self.products, weights, strict=False) if w is not None}
        numbers = {product.out: k for k, product in enumerate(self.products)}
        for equation in self._needed(set(known), targets, set(given), effects):
            if equation.primitive is product_p:
                assert multiply is not None
                (out,) = equation.outvars
                v, w = equation.invars
                w = given[out] if out in given else _read(values, w)
                values[out] = multiply(numbers[out], _read(values, v), w)
                continue
            operands = [_read(values, atom) for atom in equation.invars]
            if replaced and equation.outvars[0] in replaced:
                values[equation.outvars[0]] = replaced[equation.outvars[0]](*operands)
                continue
            values.update(zip(equation.outvars, _bind(equation, operands), strict=True))
        return [_read(values, target) for target in targets]

    def step(
        self,
        known: dict[Var, Any],
        multiply: Multiply,
        weights: Sequence[Any] = (),
        *,
        also: Sequence[Var] = (),
        effects: bool = False,
        replaced: Replaced | None = None,
    ) -> tuple[Carry, Any, list[Any]]:
        """The whole step, `(carry, y, values of also)`; arguments as those of `evaluate`."""
        targets = [*self.after, *self.y, *also]
        found = iter(
            self.evaluate(known, targets, multiply, weights, effects=effects, replaced=replaced)
        )
        after = jax.tree.unflatten(self.trees.carry, [next(found) for _ in self.after])
        y = jax.tree.unflatten(self.trees.y, [next(found) for _ in self.y])
        return after, y, list(found)

    def _needed(
        self, known: set[Var], targets: Iterable[Var], given: set[Var], effects: bool
    ) -> list[Any]:
        """The equations behind the targets; of a product in `given` not those of its weight."""
        wanted = {v for v in targets if not is_literal(v)} - known
        found = []
        # From the last to the first: what an equation needs is wanted before those behind it are
        # seen. What is known cuts off everything behind it.
        for equation in reversed(self.equations):
            if wanted & set(equation.outvars) or (effects and equation.effects):
                found.append(equation)
                without_weight = bool(given & set(equation.outvars))
                asked = equation.invars[:1] if without_weight else equation.invars
                wanted |= {v for v in asked if not is_literal(v)} - known
        return found[::-1]

    @functools.cached_property
    def graph(self) -> "Graph":
        return Graph(self)


class Notes(NamedTuple):
    """What was seen while a step was traced."""

    nested: bool  # whether `dot` is called inside a loop, branch or transform of the step's own
    unmarked: (
        int  # products that are no equation here: nested ones, and those whose `op` has arrays
    )


class Trees(NamedTuple):
    """The structures of what goes into a step and comes out."""

    params: Any
    carry: Any
    u: Any
    y: Any


def _bind(equation: Any, operands: list[Any]) -> list[Any]:
    options = equation.primitive.get_bind_params(equation.params)
    with equation.ctx.manager:
        found = equation.primitive.bind(*operands, **options)
    return found if equation.primitive.multiple_results else [found]


def is_literal(atom: Var) -> bool:
    return isinstance(atom, jax.extend.core.Literal)


def _read(values: dict[Var, Any], atom: Var) -> Any:
    return atom.val if is_literal(atom) else values[atom]


def trace(problem: Problem) -> tuple[Trace, list[Array]]:
    """Traces one step of a problem, once; only shapes, dtypes and shardings of it count.

    Returns:
        The trace, and the constants of its equations.
    """
    u = jax.eval_shape(lambda: problem.project(jax.tree.map(lambda a: a[0], problem.steps)))
    ops: list[Any] = []
    nested: list[bool] = []  # for each product that is not marked
    here: list[Any] = []
    trees: list[Any] = []

    def marking(v: Array, w: Array, op: Any = None) -> Array:
        # Inside a loop, branch or transform of the step's own its operands are of another trace:
        # as an equation it could not be taken out of there. As it stands it is right all the same.
        if trace_state() != here[0]:
            nested.append(True)
            return problem.dot(v, w, op)
        program = jax.make_jaxpr(lambda v, w: problem.dot(v, w, op))(v, w)
        if any(isinstance(c, jax.core.Tracer) for c in program.consts):
            # `op` brings arrays of its own, of which `weights` knows nothing.
            nested.append(False)
            return problem.dot(v, w, op)
        ops.append(op)
        return product_p.bind(v, w, number=len(ops) - 1, aval=program.out_avals[0])

    def step(params: Params, carry: Carry, u: Any) -> Any:
        here.append(trace_state())
        after, y = problem.cell.step(params, carry, u, marking)
        trees.append(jax.tree.structure(y))
        return after, y

    arguments = (problem.params, problem.first, u)
    closed = jax.make_jaxpr(step)(*arguments)
    structures = map(jax.tree.structure, arguments)
    notes = Notes(nested=any(nested), unmarked=len(nested))
    return Trace(closed.jaxpr, Trees(*structures, *trees), ops, notes), closed.consts


def trace_state() -> Any:
    """What differs inside a loop, branch or transform from what is around it."""
    return jax.extend.core.get_opaque_trace_state(convention="nnx")


class Equation(NamedTuple):
    """An equation with variables as numbers, of which None is a constant."""

    name: str
    inputs: tuple[int | None, ...]
    outputs: tuple[int | None, ...]
    axis: int | None  # of "unstack"
    number: int | None  # of "product"


CALLS = (  # read as if what they call were written out
    "jit",
    "pjit",
    "closed_call",
    "core_call",
    "checkpoint",
    "remat2",
    "custom_jvp_call",
)


class Graph:
    """A trace with its calls written out and its variables as numbers: for reading only."""

    def __init__(self, trace: Trace) -> None:
        self.numbers: dict[Any, int | None] = {v: None for v in trace.constants}
        self.equations: list[Equation] = []
        self._fresh = iter(range(10**9))
        for v in (*trace.params, *trace.carry, *trace.u):
            self.numbers[v] = next(self._fresh)
        # A call passes numbers through: a variable that it returns as it came is the same number,
        # by which `unchanged` finds it.
        self._walk(trace.equations)
        self.params = self.of(trace.params)
        self.carry = self.of(trace.carry)
        self.u = self.of(trace.u)
        self.after = self.of(trace.after)
        self.y = self.of(trace.y)
        self.products = [(self.read(p.v), self.read(p.w), self.read(p.out)) for p in trace.products]

    def of(self, variables: Iterable[Var]) -> list[int | None]:
        return [self.read(v) for v in variables]

    def read(self, atom: Var) -> int | None:
        return None if is_literal(atom) else self.numbers[atom]

    def behind(self, targets: Iterable[int | None], recorded: Sequence[bool] = ()) -> set[Any]:
        """The variables on which some target depends, those themselves included.

        What a product that is `recorded` makes of its weight is not looked behind.
        """
        found = set(targets)
        for equation in reversed(self.equations):
            if found & set(equation.outputs):
                number = equation.number
                cut = number is not None and number < len(recorded) and recorded[number]
                found |= set(equation.inputs[:1] if cut else equation.inputs)
        return found - {None}

    def depending_on(self, sources: Iterable[int | None]) -> set[Any]:
        """The variables that depend on some of `sources`, those themselves included."""
        found = {v for v in sources if v is not None}
        for equation in self.equations:
            if found & set(equation.inputs):
                found |= set(equation.outputs)
        return found

    def _walk(self, equations: Iterable[Any]) -> None:
        for e in equations:
            inner = called(e)
            if inner is None:
                self.numbers.update({v: next(self._fresh) for v in e.outvars})
                inputs = tuple(map(self.read, e.invars))
                outputs = tuple(self.of(e.outvars))
                axis = e.params.get("axis")
                number = e.params.get("number") if e.primitive is product_p else None
                self.equations.append(Equation(e.primitive.name, inputs, outputs, axis, number))
            else:
                self.numbers.update({v: None for v in inner.constvars})
                self.numbers.update(zip(inner.invars, self.of(e.invars), strict=True))
                self._walk(inner.eqns)
                if e.primitive.name == "custom_jvp_call":
                    self._join(e, self.of(inner.outvars))
                else:
                    self.numbers.update(zip(e.outvars, self.of(inner.outvars), strict=True))

    def _join(self, call: Any, results: list[int | None]) -> None:
        """What a call with a derivative of its own returns depends on all that goes into it,
        whatever its value is made of, and is nothing that went in."""
        self.numbers.update({v: next(self._fresh) for v in call.outvars})
        inputs = (*self.of(call.invars), *results)
        outputs = tuple(self.of(call.outvars))
        self.equations.append(Equation(call.primitive.name, inputs, outputs, None, None))


def called(equation: Any) -> Any:
    """The equations that a call stands for; None where it is no call."""
    if equation.primitive.name not in CALLS:
        return None
    inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
    return getattr(inner, "jaxpr", inner)


def unchanged(trace: Trace) -> tuple[bool, ...]:
    """For each leaf of the carry, whether a step returns it as it got it."""
    graph = trace.graph
    pairs = zip(graph.carry, graph.after, strict=True)
    return tuple(before == after for before, after in pairs)
