"""One step of one unit of one row, forward and backward, as the programs that the persistent kernel runs on tiles.

Every array of a step, [*batch, ..., H], is [..., 1] here.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.typing import Array, Carry, Cell, Params
from jaxrnn.unroll import carried, parts
from jaxrnn.unroll.persistent.tiles import Program, program
from jaxrnn.unroll.scan import Sequence, advance
from jaxrnn.unroll.study import Study

Rows = tuple[Any, Any]  # mask and reset, where there are any


class Unit(NamedTuple):
    """What a step is traced with; the arrays are shapes and dtypes."""

    cell: Cell
    study: Study  # without batch axes
    params: Params
    used: tuple[bool, ...]  # for each leaf of the parameters, whether it acts in a step otherwise than as the weight
    carry: Carry
    u: Any
    rows: Rows
    like: Any  # the input


def unit(cell: Cell, found: Study, params: Params, first: Carry, u: Any, sequence: Sequence) -> Unit:
    """From the study of a whole step, of one product, and what it runs on; `u` is that of one step."""

    def one(shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[found.rows : -1], 1)

    leaves, tree = jax.tree.flatten(params)
    used = acting(found)
    shapes = [(*p.shape[:-1], 1) if acts and p.ndim else p.shape for p, acts in zip(leaves, used, strict=True)]
    small = [jax.ShapeDtypeStruct(shape, p.dtype) for shape, p in zip(shapes, leaves, strict=True)]
    return Unit(
        cell=cell,
        study=found._replace(rows=0, products=tuple(map(one, found.products)), us=tuple(map(one, found.us)), vectors=((1,),)),
        params=jax.tree.unflatten(tree, small),
        used=used,
        carry=jax.tree.map(lambda a: jax.ShapeDtypeStruct(one(a.shape), a.dtype), first),
        u=jax.tree.map(lambda a: jax.ShapeDtypeStruct(one(a.shape), a.dtype), u),
        rows=jax.tree.map(lambda a: jax.ShapeDtypeStruct((), a.dtype), (sequence.mask, sequence.reset)),
        like=jax.ShapeDtypeStruct((1,), sequence.xs.dtype),
    )


def acting(found: Study) -> tuple[bool, ...]:
    """For each leaf of the parameters, whether it acts in a step otherwise than as a weight."""
    added = {leaf for _, leaf in found.biases}
    return tuple(used or k in added for k, used in enumerate(found.elementwise))


def forward(unit: Unit, shared: tuple[bool, ...], *, save: bool, collect: bool) -> Program:
    """`(params, first, carry, (u, rows), product) -> (after, vector, (y, own, saved, afters))`, of which
    `kernel` says what is what. Saved are the products, with the input's parts added where their sum is enough (`parts`)."""

    def run(params: list[Array], first: Carry, carry: Carry, stream: tuple[Any, Rows], product: Array) -> Any:
        u, rows = stream
        after, y, vector = _advance(unit, params, carry, first, u, rows, product)
        own = carried.split(shared, carry)[0] if save else None
        saved = parts.save(unit.study, [product], u, 0).products if save else None
        return after, vector, (y, own, saved, after if collect else None)

    return program(run, _params(unit), _first(unit), unit.carry, (unit.u, unit.rows), _product(unit))


def backward(unit: Unit, *, collect: bool) -> Program:
    """`(params, first, (d_after, d_first), (carry, saved, d_y, d_carries, rows), d_vector) -> ((d_carry, d_first), d_product,
    (d_product, d_us, d_afters))`: the adjoint of the carry through one step, replayed with its recorded product."""

    def run(params: list[Array], first: Carry, state: tuple[Carry, Carry], stream: Any, d_vector: Array) -> Any:
        (d_after, d_first), (carry, saved, d_y, d_carries, rows) = state, stream
        d_after = d_after if d_carries is None else jax.tree.map(jnp.add, d_after, d_carries)
        (product,), _ = parts.restore(unit.study, saved)

        def replay(carry: Carry, first: Carry, us: Any, product: Array) -> Any:
            _, u = parts.restore(unit.study, saved._replace(us=us))
            return _advance(unit, params, carry, first, u, rows, product)

        d_carry, more, d_us, d_product = jax.vjp(replay, carry, first, saved.us, product)[1]((d_after, d_y, d_vector))
        d_us = jax.tree.map(lambda d: None if d.dtype == jax.dtypes.float0 else d, d_us)  # booleans have none
        d_afters = d_after if any(unit.study.elementwise) else None
        return (d_carry, jax.tree.map(jnp.add, d_first, more)), d_product, (d_product, d_us, d_afters)

    product = _product(unit)
    saved = jax.eval_shape(lambda product, u: parts.save(unit.study, [product], u, 0), product, unit.u)
    arguments = (_params(unit), unit.carry, _first(unit), unit.u, unit.rows, product)
    _, y, vector = jax.eval_shape(lambda p, *a: _advance(unit, p, *a), *arguments)
    stream = (unit.carry, saved, y, unit.carry if collect else None, unit.rows)
    return program(run, _params(unit), _first(unit), (unit.carry, _first(unit)), stream, vector)


def _advance(unit: Unit, params: list[Array], carry: Carry, first: Carry, u: Any, rows: Rows, product: Array) -> Any:
    """The carry after a step, its output, and the vector of its product."""
    vectors, acting, (leaves, tree) = [], iter(params), jax.tree.flatten(unit.params)
    whole = [next(acting) if used else jnp.zeros(p.shape, p.dtype) for p, used in zip(leaves, unit.used, strict=True)]

    def dot(v: Array, w: Array, op: Any = None) -> Array:
        vectors.append(v)
        return product

    step = Sequence(jnp.zeros(unit.like.shape, unit.like.dtype), *rows, None)
    after, y = advance(unit.cell, jax.tree.unflatten(tree, whole), carry, first, u, step, dot)
    return after, y, vectors[0]


def _params(unit: Unit) -> list[Array]:
    return [p for p, used in zip(jax.tree.leaves(unit.params), unit.used, strict=True) if used]


def _first(unit: Unit) -> Carry:
    """The carry after a reset, where there are any."""
    return None if unit.rows[1] is None else unit.carry


def _product(unit: Unit) -> Any:
    return jax.ShapeDtypeStruct(unit.study.products[0], jnp.float32)
