"""One step of one unit of one row, forward and backward, as the programs that the persistent kernel
runs on tiles.

Every array of a step, [*batch, ..., H], is [..., 1] here.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.cell import Array, Carry, Cell, Params
from jaxrnn.hardware.persistent.tiles import Program, program
from jaxrnn.running.fused import saved
from jaxrnn.running.fused.reading import Reading
from jaxrnn.running.problem import Problem, Steps

Rows = tuple[Any, Any]  # mask and reset, where there are any


class Unit(NamedTuple):
    """What a step is traced with; the arrays are shapes and dtypes."""

    cell: Cell
    reading: Reading  # without batch axes
    params: Params
    carry: Carry
    u: Any
    rows: Rows
    like: Any  # the input


def unit(reading: Reading, problem: Problem, u: Any) -> Unit:
    """From the reading of a whole step, of one product; `u` is the projected input of one step."""

    def one(shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[reading.rows : -1], 1)

    def small(tree: Any) -> Any:
        return jax.tree.map(lambda a: jax.ShapeDtypeStruct(one(a.shape), a.dtype), tree)

    leaves, tree = jax.tree.flatten(problem.params)
    params = [
        jax.ShapeDtypeStruct((*p.shape[:-1], 1) if acts and p.ndim else p.shape, p.dtype)
        for p, acts in zip(leaves, reading.acting, strict=True)
    ]
    rows = (problem.steps.mask, problem.steps.reset)
    return Unit(
        cell=problem.cell,
        reading=reading._replace(
            rows=0,
            products=tuple(map(one, reading.products)),
            us=tuple(map(one, reading.us)),
        ),
        params=jax.tree.unflatten(tree, params),
        carry=small(problem.first),
        u=small(u),
        rows=jax.tree.map(lambda a: jax.ShapeDtypeStruct((), a.dtype), rows),
        like=jax.ShapeDtypeStruct((1,), problem.steps.xs.dtype),
    )


def forward(unit: Unit, *, save: bool, collect: bool) -> Program:
    """`(params, first, carry, (u, rows), product) -> (after, vector, (y, own, saved, afters))`, of
    which `kernel` says what is what.

    Saved are the products, with the input's parts added where their sum is enough.
    """

    def run(
        params: list[Array], first: Carry, carry: Carry, stream: tuple[Any, Rows], product: Array
    ) -> Any:
        u, rows = stream
        after, y, vector = _advance(unit, params, carry, first, u, rows, product)
        own = carry if save else None
        step = saved.save(unit.reading, [product], u, 0).products if save else None
        return after, vector, (y, own, step, after if collect else None)

    return program(
        run, _params(unit), _first(unit), unit.carry, (unit.u, unit.rows), _product(unit)
    )


def backward(unit: Unit, *, collect: bool) -> Program:
    """`(params, first, (d_after, d_first), (carry, saved, d_y, d_carries, rows), d_vector) ->
    ((d_carry, d_first), d_product, (d_product, d_us, d_afters))`: the adjoint of the carry through
    one step, replayed with its recorded product."""

    def run(
        params: list[Array], first: Carry, state: tuple[Carry, Carry], stream: Any, d_vector: Array
    ) -> Any:
        d_after, d_first = state
        carry, step, d_y, d_carries, rows = stream
        if d_carries is not None:
            d_after = jax.tree.map(jnp.add, d_after, d_carries)
        (product,), _ = saved.restore(unit.reading, step)

        def replay(carry: Carry, first: Carry, us: Any, product: Array) -> Any:
            _, leaves = saved.restore(unit.reading, step._replace(us=us))
            u = jax.tree.unflatten(jax.tree.structure(unit.u), leaves)
            return _advance(unit, params, carry, first, u, rows, product)

        _, pull = jax.vjp(replay, carry, first, step.us, product)
        d_carry, more, d_us, d_product = pull((d_after, d_y, d_vector))
        d_us = jax.tree.map(lambda d: None if d.dtype == jax.dtypes.float0 else d, d_us)
        d_afters = d_after if any(unit.reading.acting) else None
        d_first = jax.tree.map(jnp.add, d_first, more)
        return (d_carry, d_first), d_product, (d_product, d_us, d_afters)

    product = _product(unit)
    step = jax.eval_shape(
        lambda product, u: saved.save(unit.reading, [product], u, 0), product, unit.u
    )
    arguments = (_params(unit), unit.carry, _first(unit), unit.u, unit.rows, product)
    _, y, vector = jax.eval_shape(lambda p, *a: _advance(unit, p, *a), *arguments)
    stream = (unit.carry, step, y, unit.carry if collect else None, unit.rows)
    state = (unit.carry, _first(unit))
    return program(run, _params(unit), _first(unit), state, stream, vector)


def _advance(
    unit: Unit, params: list[Array], carry: Carry, first: Carry, u: Any, rows: Rows, product: Array
) -> Any:
    """The carry after a step, its output, and the vector of its product."""
    vectors = []
    acting = iter(params)
    leaves, tree = jax.tree.flatten(unit.params)
    pairs = zip(leaves, unit.reading.acting, strict=True)
    # Zeros stand for parameters that only make the weight: `dot` below does not look at it.
    whole = [next(acting) if acts else jnp.zeros(p.shape, p.dtype) for p, acts in pairs]

    def dot(v: Array, w: Array, op: Any = None) -> Array:
        vectors.append(v)
        return product

    now = Steps(jnp.zeros(unit.like.shape, unit.like.dtype), *rows)
    problem = Problem(
        params=jax.tree.unflatten(tree, whole),
        steps=now,
        carry=carry,
        held=jax.tree.map(lambda a: None, carry),
        first=carry if first is None else first,
        consts=[],
        cell=unit.cell,
        trace=None,
    )
    after, y = problem.advance(carry, u, now, dot)
    return after, y, vectors[0]


def _params(unit: Unit) -> list[Array]:
    pairs = zip(jax.tree.leaves(unit.params), unit.reading.acting, strict=True)
    return [p for p, acts in pairs if acts]


def _first(unit: Unit) -> Carry:
    """The carry after a reset, where there are any."""
    return None if unit.rows[1] is None else unit.carry


def _product(unit: Unit) -> Any:
    return jax.ShapeDtypeStruct(unit.reading.products[0], jnp.float32)
