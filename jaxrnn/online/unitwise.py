"""Traces of the size of the parameters: exact where units do not act on each other, and what is
left of that where they do."""

import dataclasses
import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from jaxrnn.cell import Array, Carry, Cell, Dot, Params, dot_in
from jaxrnn.online.learner import Layer, Learner, Product, by_rows, sum_of_rows
from jaxrnn.online.units import (
    Place,
    Reading,
    behind,
    depending,
    read_units,
    split,
    spread,
    whole,
)
from jaxrnn.running.trace import trace_state

Traces = tuple[tuple[Array | None, ...], ...]  # [leaf of the carry][leaf of the parameters]


class Form(NamedTuple):
    """How the leaves of a carry depend on each other and on the parameters."""

    blocks: tuple[tuple[bool, ...], ...]  # [after][before]
    places: tuple[Place, ...]  # of the units in each leaf of the parameters
    traced: tuple[tuple[bool, ...], ...]  # [leaf of the carry][leaf of the parameters]


@dataclasses.dataclass(frozen=True)
class _Unitwise(Learner):
    """For each parameter, how it acts on the one unit that it belongs to."""

    def _cut(self) -> "Cut | None":
        """What a product inside the recurrence is for the derivative; None: itself."""
        return None

    def _begin(self, layer: Layer, x: Array, traces: Any = None) -> tuple[Carry, Traces]:
        form = self._form(layer, x)
        leaves, tree = jax.tree.flatten(layer.params)

        def row(leaves: list[Array], x: Array) -> Traces:
            made, pull = jax.vjp(
                lambda p: jax.tree.leaves(layer.first(tree.unflatten(p), x)), leaves
            )
            direct = [pull(_ones(made, k))[0] for k in range(len(made))]
            return tuple(
                tuple(a if kept else None for a, kept in zip(each, traced, strict=True))
                for each, traced in zip(direct, form.traced, strict=True)
            )

        begun = by_rows(row, x.ndim - 1, fixed=1)(leaves, x)
        return layer.first(layer.begin, x), begun

    def _advance(
        self, layer: Layer, carry: Carry, traces: Traces, x: Array
    ) -> tuple[Carry, Array, Traces]:
        form = self._form(layer, x)
        leaves, tree = jax.tree.flatten(layer.params)
        states, shape = jax.tree.flatten(carry)
        product = self._product(layer, x)

        def row(
            leaves: list[Array], states: list[Array], x: Array, noise: Any, traces: Traces
        ) -> Any:
            def run(leaves: list[Array], states: list[Array]) -> Any:
                own = layer._replace(noise=noise)
                after, y = own.run(tree.unflatten(leaves), shape.unflatten(states), x, product)
                return jax.tree.leaves(after), y

            after, pull, y = jax.vjp(run, leaves, states, has_aux=True)
            moved = []
            for k in range(len(after)):
                # no unit acts on another: the sum of all, differentiated, is that of each
                direct, factors = pull(_ones(after, k))
                moved.append(_moved(form, k, direct, factors, traces))
            return after, y, tuple(moved)

        rows = by_rows(row, x.ndim - 1, fixed=1)
        after, y, moved = rows(leaves, states, x, layer.noise, traces)
        return shape.unflatten(after), y, moved

    def _through(self, layer: Layer, x: Array, traces: Traces, dcarry: Carry) -> Params:
        form = self._form(layer, x)
        leaves, tree = jax.tree.flatten(layer.params)
        shapes = [leaf.shape for leaf in leaves]

        def row(directions: list[Array], traces: Traces) -> list[Any]:
            return [
                _sum(
                    _times(directions[k], trace[p], form.places[p])
                    for k, trace in enumerate(traces)
                    if form.traced[k][p]
                )
                for p in range(len(shapes))
            ]

        if not any(map(any, form.traced)):
            return tree.unflatten([None] * len(shapes))
        return tree.unflatten(sum_of_rows(row, x.shape[:-1], jax.tree.leaves(dcarry), traces))

    def _product(self, layer: Layer, x: Array) -> Product | None:
        cut = self._cut()
        described = _described(layer, x)
        if cut is None or _keeps_apart(layer.cell, *described):
            return None
        inside = _inside(layer.cell, *described)
        return lambda: _Counted(dot_in(x.dtype), cut, inside)

    def _form(self, layer: Layer, x: Array) -> Form:
        try:
            return _form(type(self), layer.cell, *_described(layer, x))
        except _Refused as error:
            raise ValueError(f"{type(self).__name__} does not take {layer.cell}: {error}") from None


class RTRL(_Unitwise):
    """Exact real-time recurrent learning, for cells whose units do not act on each other from
    step to step: minGRU, minLSTM, HGRN, RG-LRU, LRU, S5, IndRNN, SRU, ParaGRU, ParaLSTM, UnICORNN.

    Traces take the memory of the parameters, times the leaves of the carry, times the batch,
    however long the stream. In a `Stack` each layer is exact, given its input; what it does to
    later steps through the carry of a layer above is left out.

    Args:
        cell: the cell, a stack, or a Flax module of ours.

    Raises:
        ValueError: a cell that runs in both directions, or has spatial axes; and, at `init`, one
            whose units act on each other: `SnAp1`, `EProp`, `DenseRTRL` and `UORO` take those.

    Source: Williams & Zipser 1989; for such cells Mozer 1989, and Zucchet et al. 2023,
    arXiv:2305.15947.

    Example:
        >>> import jax, jax.numpy as jnp, jaxrnn
        >>> learner = jaxrnn.online.RTRL(jaxrnn.cells.MinGRUCell(4))
        >>> params = learner.cell.init(jax.random.key(0), input_size=3)
        >>> state = learner.init(params, jnp.ones((2, 3)))
        >>> state, y, moment = learner.step(params, state, jnp.ones((2, 3)))
        >>> learner.gradients(params, moment, dy=2 * y).w_x.shape
        (3, 2, 4)
    """


class SnAp1(_Unitwise):
    """The sparse approximation of real-time recurrent learning of one step: what a parameter does
    to its own unit, and through that unit's own recurrence.

    Of every recurrent product it keeps the diagonal, so that it is `RTRL` where there is none.
    Memory and time are those of `RTRL`.

    Args:
        cell: the cell, a stack, or a Flax module of ours.

    Raises:
        ValueError: as `RTRL`; and, at `init`, a cell whose units act on each other outside its
            products, or by products that go from units to others.

    Source: Menick et al. 2021, arXiv:2006.07232. Differs: where a parameter acts on several units
    within one step (the reset of a GRU before its product), only the first of it is kept.
    """

    def _cut(self) -> "Cut":
        return _diagonal


class EProp(_Unitwise):
    """Eligibility propagation: what a parameter does to its unit and, through the unit's own
    memory, stays; nothing passes through recurrent products.

    The learning signal is `dy`: the derivative of the loss, or what the user puts in its place,
    such as errors times fixed random numbers.

    Args:
        cell: the cell, a stack, or a Flax module of ours.

    Raises:
        ValueError: as `SnAp1`.

    Source: Bellec et al. 2020, Nature Communications 11, 3625. Differs: no spikes, so that no
    pseudo-derivative is needed.
    """

    def _cut(self) -> "Cut":
        return _nothing


Cut = Callable[[Dot, Array, Array, Any], Array]


def _nothing(dot: Dot, v: Array, w: Array, op: Any) -> Array:
    return dot(stop_gradient(v), w, op)


def _diagonal(dot: Dot, v: Array, w: Array, op: Any) -> Array:
    if op is not None or w.shape[0] != w.shape[-1]:
        raise _Refused("a product of its recurrence is no matrix from its units to its units.")
    own = jnp.diagonal(stop_gradient(w), axis1=0, axis2=-1).astype(v.dtype)  # [..., H]
    change = v - stop_gradient(v)  # 0, with the derivative of v
    change = change.reshape(v.shape[:-1] + (1,) * (own.ndim - 1) + v.shape[-1:])
    value = dot(stop_gradient(v), w)
    return value + (change * own).astype(value.dtype)


class _Counted:
    """A `dot` that knows which of its calls are inside the recurrence. It is for one step."""

    def __init__(self, dot: Dot, cut: Cut, inside: frozenset[int]) -> None:
        self.dot = dot
        self.cut = cut
        self.inside = inside
        self.calls = 0

    def __call__(self, v: Array, w: Array, op: Any = None) -> Array:
        number = self.calls
        self.calls += 1
        return self.cut(self.dot, v, w, op) if number in self.inside else self.dot(v, w, op)


class _Refused(ValueError):
    """Why a method does not take a cell."""


class Described(NamedTuple):
    """Arrays as shapes and dtypes, hashable."""

    leaves: tuple[Any, ...]
    tree: Any

    def fill(self, leaves: Sequence[Any]) -> Any:
        return self.tree.unflatten(leaves)

    def like(self) -> Any:
        return self.tree.unflatten(self.leaves)


def _described(layer: Layer, x: Array) -> tuple[Described, Described, Described]:
    """The parameters, and of one row the input and the noise."""
    batch = x.ndim - 1

    def described(tree: Any, lead: int) -> Described:
        leaves, structure = jax.tree.flatten(tree)
        shaped = tuple(jax.ShapeDtypeStruct(a.shape[lead:], a.dtype) for a in leaves)
        return Described(shaped, structure)

    return described(layer.params, 0), described(x, batch), described(layer.noise, batch)


@functools.lru_cache(maxsize=1024)
def _inside(cell: Cell, params: Described, x: Described, noise: Described) -> frozenset[int]:
    """The numbers of the products inside the recurrence: of a vector that depends on the carry
    before the step, and behind the carry after it."""
    first = jax.eval_shape(
        lambda p, x: Layer(cell, p, None, p).first(p, x), params.like(), x.like()
    )
    states, shape = jax.tree.flatten(first)
    plain = dot_in(x.like().dtype)
    others = (params.like(), x.like(), noise.like())

    def run(dot: Dot, states: list[Array], params: Any, x: Array, noise: Any) -> list[Any]:
        layer = Layer(cell, params, noise, params)
        return jax.tree.leaves(layer.run(params, shape.unflatten(states), x, lambda: dot)[0])

    made: list[Any] = []  # the results of all products
    nested: set[int] = set()  # numbers of those in a loop, branch or transform of the step's own

    def vectors(states: list[Array], *others: Any) -> list[Array]:
        here = trace_state()
        seen: list[Array] = []

        def noting(v: Array, w: Array, op: Any = None) -> Array:
            out = plain(v, w, op)
            outside = trace_state() == here
            if not outside:
                nested.add(len(made))
            seen.append(v if outside else jnp.zeros(()))
            made.append(jax.ShapeDtypeStruct(out.shape, out.dtype))
            return out

        run(noting, states, *others)
        return seen

    def marked(marks: list[Array], *others: Any) -> list[Any]:
        rest = iter(marks)
        return run(lambda v, w, op=None: plain(v, w, op) + next(rest), *others)

    of_the_carry = depending(vectors, states, *others)
    numbers = {k for k, depends in enumerate(of_the_carry) if depends} | nested
    return behind(marked, made, states, *others) & numbers


@functools.lru_cache(maxsize=1024)
def _keeps_apart(cell: Cell, params: Described, x: Described, noise: Described) -> bool:
    """Whether no unit acts on another, so that nothing needs to be cut."""
    try:
        _form(RTRL, cell, params, x, noise)
    except _Refused:
        return False
    return True


@functools.lru_cache(maxsize=1024)
def _form(method: type, cell: Cell, params: Described, x: Described, noise: Described) -> Form:
    """How the carry of one row depends on what."""
    learner = method(cell)

    def run(leaves: list[Array], states: list[Array], x: Array, noise: Any) -> list[Any]:
        layer = Layer(cell, params.fill(leaves), noise, None)
        carry = shape.unflatten(states)
        after, _ = layer.run(layer.params, carry, x, learner._product(layer, x))
        return jax.tree.leaves(after)

    def begin(leaves: list[Array], none: list[Array], x: Array) -> list[Any]:
        return jax.tree.leaves(Layer(cell, None, None, None).first(params.fill(leaves), x))

    first = jax.eval_shape(
        lambda p, x: Layer(cell, p, None, None).first(p, x), params.like(), x.like()
    )
    states, shape = jax.tree.flatten(first)
    if not all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in (*states, *params.leaves)):
        raise _Refused("a parameter, or a leaf of its carry, is not floating-point.")
    moved = read_units(run, params.leaves, states, x.like(), noise.like())
    begun = read_units(begin, params.leaves, (), x.like())
    pasts = _pasts(moved, begun)
    learned = [leaf for leaf, past in zip(states, pasts, strict=True) if past]
    if len({(leaf.shape, leaf.dtype) for leaf in learned}) > 1:
        raise _Refused("the leaves of its carry differ in shape or dtype.")
    if not _apart(moved, pasts, states):
        raise _Refused("its units act on each other from step to step.")
    count = range(len(states))
    return Form(
        blocks=tuple(tuple(j in before for j in count) for before in moved.leaves),
        places=_places(params, (moved, begun)),
        traced=tuple(tuple(p in past for p in range(len(params.leaves))) for past in pasts),
    )


def _pasts(moved: Reading, begun: Reading) -> list[set[int]]:
    """For each leaf of the carry the parameters in its past."""
    pasts = [{*a, *b} for a, b in zip(moved.params, begun.params, strict=True)]
    for _ in pasts:
        pasts = [
            past.union(*(pasts[j] for j in before))
            for past, before in zip(pasts, moved.leaves, strict=True)
        ]
    return pasts


def _apart(moved: Reading, pasts: Sequence[set[int]], states: Sequence[Any]) -> bool:
    """Whether no unit acts on another by what depends on parameters."""
    return all(
        place == whole(state.shape)
        for state, before in zip(states, moved.leaves, strict=True)
        for j, place in before.items()
        if pasts[j]
    )


def _places(params: Described, readings: Sequence[Reading]) -> tuple[Place, ...]:
    """The one place of units in each parameter."""
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(params.like())]
    found: list[Place] = [None] * len(names)
    for each in (params for reading in readings for params in reading.params):
        for p, place in each.items():
            if place is None or found[p] not in (None, place):
                raise _Refused(f"its parameter {names[p]} acts on several units.")
            found[p] = place
    return tuple(found)


def _ones(leaves: Sequence[Array], k: int) -> list[Array]:
    """The direction of leaf `k`, in all its units."""
    return [jnp.full_like(leaf, float(j == k)) for j, leaf in enumerate(leaves)]


def _moved(
    form: Form, k: int, direct: list[Array], factors: list[Array], traces: Traces
) -> tuple[Array | None, ...]:
    """The traces of leaf `k` after a step."""
    found: list[Array | None] = []
    for p, place in enumerate(form.places):
        old = [
            _times(factors[j], traces[j][p], place)
            for j, depends in enumerate(form.blocks[k])
            if depends and form.traced[j][p]
        ]
        found.append(_sum([direct[p], *old]) if form.traced[k][p] else None)
    return tuple(found)


def _times(units: Array, trace: Array | None, place: Place) -> Array:
    """A trace of a parameter times a number for each unit."""
    assert trace is not None
    parts = trace.reshape(split(trace.shape, place))
    return (spread(units, trace.shape, place) * parts).reshape(trace.shape)


def _sum(terms: Any) -> Any:
    """The sum of arrays; None of none."""
    terms = list(terms)
    return functools.reduce(operator.add, terms) if terms else None
