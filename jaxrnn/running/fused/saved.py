"""What is saved of each step for the backward pass: the activations that stand for what is behind
them (`activations`), sums of input and product where a sum is enough, else both, and nothing that
is not needed; a gated array as one array per gate.

XLA:CPU vectorises an elementwise loop over contiguous arrays [.., H] only, not over the gates of a
slice [.., G, H]: 1.1 to 1.3 times the time of a forward and backward pass without.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.cell import Array, Carry
from jaxrnn.running.fused.reading import Part, Piece, Reading, has_gates, parts


class Saved(NamedTuple):
    """Of one step, or of many."""

    # For each its gates, or the whole in a tuple of one; None where it is not needed.
    products: tuple[tuple[Any, ...], ...]
    # Of each leaf of the input alike; None where a sum stands too.
    us: tuple[tuple[Array | None, ...], ...]
    # Those of the reading; None where the outputs of the run show one.
    activations: tuple[Array | None, ...] = ()


def save(
    reading: Reading,
    products: list[Array],
    u: Any,
    rows: int,
    activations: Sequence[Array] = (),
) -> Saved:
    """Takes the arrays of one step apart, or of many; `rows` counts the leading axes.

    They may be other than those of `reading` (one more for time, none in columns), by which
    `restore` goes: both find the same gates.
    """
    left = [_gates(p, rows) for p in products]
    right = [_gates(a, rows) for a in jax.tree.leaves(u)]
    # The product stands for the sum, and `restore` gives zero for the input: their sum is right
    # again. `input_cotangents` knows that the cotangent of one is that of the other.
    for product, part in _by_gate(reading, left):
        p = product.gate or 0
        u = part.gate or 0
        left[product.leaf][p] = left[product.leaf][p] + right[part.leaf][u]
        right[part.leaf][u] = None
    of = {"product": left, "u": right}
    for kind, part in reading.needless:
        of[kind][part.leaf][part.gate or 0] = None
    return Saved(tuple(map(tuple, left)), tuple(map(tuple, right)), tuple(activations))


def complete(reading: Reading, saved: Saved, carry: Carry) -> Saved:
    """With zeros for what was not saved, since nothing needs its value; its cotangent exists.

    Args:
        reading: of the step.
        saved: of one step.
        carry: before it.
    """
    rows = reading.rows
    zero = _zero((carry, saved))
    dtypes = iter(reading.dtypes)

    def filled(kind: str, arrays: Any, shapes: tuple[tuple[int, ...], ...]) -> Any:
        found = []
        for leaf, (given, shape) in enumerate(zip(arrays, shapes, strict=True)):
            one = shape[:rows] + shape[rows + 1 :] if has_gates(shape, rows) else shape
            zeros = jnp.broadcast_to(zero.astype(next(dtypes)), one)
            pairs = zip(given, parts(leaf, shape, rows), strict=True)
            found.append(
                tuple(zeros if Piece(kind, part) in reading.needless else a for a, part in pairs)
            )
        return tuple(found)

    products = filled("product", saved.products, reading.products)
    return saved._replace(products=products, us=filled("u", saved.us, reading.us))


def _zero(arrays: Any) -> Array:
    """A zero that has the axes of the arrays under vmap and shard_map.

    Of a product without them the cotangents of all rows would be summed.
    """
    return sum((0 * jnp.sum(a != a) for a in jax.tree.leaves(arrays)[:1]), jnp.zeros((), int))


def restore(reading: Reading, saved: Saved) -> tuple[list[Array], list[Array]]:
    """Products and leaves of the input for a step to run on, of what is `complete`.

    Where a sum was saved, it is the product, and the input is zero.
    """
    products = [
        _whole(p, shape, reading.rows)
        for p, shape in zip(saved.products, reading.products, strict=True)
    ]
    like = {u: saved.products[p.leaf][p.gate or 0] for p, u in _by_gate(reading, saved.products)}
    us = []
    for leaf, (given, shape) in enumerate(zip(saved.us, reading.us, strict=True)):
        whole = list(given)
        for g, part in enumerate(given):
            if part is None:
                whole[g] = jnp.zeros_like(like[Part(leaf, g)])
        us.append(_whole(whole, shape, reading.rows))
    return products, us


def _by_gate(reading: Reading, products: Any) -> list[tuple[Part, Part]]:
    """The sums, a sum of two whole arrays as one of each gate; a whole that has none is gate 0.

    Args:
        reading: of the step.
        products: like `Saved.products`.
    """
    found = []
    for product, u in reading.sums:
        if product.gate is None and u.gate is None:
            gates = range(len(products[product.leaf]))
            found += [(Part(product.leaf, g), Part(u.leaf, g)) for g in gates]
        else:
            found.append((product, Part(u.leaf, u.gate or 0)))
    return found


def input_cotangents(reading: Reading, d_products: list[Array], d_us: Any) -> list[Array]:
    """The cotangents of the leaves of the input: those of the products where a sum was saved.

    Args:
        reading: of the step.
        d_products: [..., *shape], as in `Reading.products`.
        d_us: like `Saved.us`.
    """
    stands = {u: product for product, u in reading.sums}
    found = []
    for leaf, (given, shape) in enumerate(zip(d_us, reading.us, strict=True)):
        whole = stands.get(Part(leaf, None))
        if whole is not None and whole.gate is None:
            found.append(d_products[whole.leaf])
            continue
        parts = list(given)
        for g, part in enumerate(given):
            if part is None:
                product = stands.get(Part(leaf, g)) or stands[Part(leaf, None)]
                d = d_products[product.leaf]
                parts[g] = d if product.gate is None else d[..., product.gate, :]
        found.append(_whole(parts, shape, reading.rows))
    return found


def _gates(array: Array, rows: int) -> list[Any]:
    return list(jnp.unstack(array, axis=-2)) if has_gates(array.shape, rows) else [array]


def _whole(parts: Any, shape: tuple[int, ...], rows: int) -> Array:
    return jnp.stack(parts, axis=-2) if has_gates(shape, rows) else parts[0]
