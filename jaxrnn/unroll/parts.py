"""What is saved of each step: sums of input and product where a sum is enough, else both; a gated array as one array per gate.

XLA:CPU vectorises an elementwise loop over contiguous arrays [.., H] only, not over the gates of a slice [.., G, H].
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.typing import Array
from jaxrnn.unroll.study import Part, Study, has_gates


class Saved(NamedTuple):
    """The parts of a step, or of many."""

    products: tuple[tuple[Array, ...], ...]  # for each product its gates, or the whole in a tuple of one
    us: tuple[tuple[Array | None, ...], ...]  # the same of each leaf of the projected input; None where a sum stands for it


def save(study: Study, products: list[Array], us: Any, rows: int) -> Saved:
    """Takes the arrays of one step apart, or of all steps at once; `rows` counts the leading axes."""
    left, right = [_gates(p, rows) for p in products], [_gates(u, rows) for u in jax.tree.leaves(us)]
    for product, u in study.sums:
        for g in range(len(left[product.leaf])) if product.gate is None else (product.gate,):
            left[product.leaf][g] = left[product.leaf][g] + right[u.leaf][g]
            right[u.leaf][g] = None
    return Saved(tuple(map(tuple, left)), tuple(map(tuple, right)))


def restore(study: Study, saved: Saved) -> tuple[list[Array], Any]:
    """Products and projected inputs for `step` to run on: where a sum was saved, it is the product, and the input is zero."""
    sums = {u: saved.products[product.leaf] for product, u in study.sums}
    us = []
    for leaf, (given, shape) in enumerate(zip(saved.us, study.us, strict=True)):
        stands: list[Any] = [sums.get(Part(leaf, None), sums.get(Part(leaf, g))) for g in range(len(given))]
        whole = [jnp.zeros_like(stands[g][g]) if u is None else u for g, u in enumerate(given)]
        us.append(_whole(whole, shape, study.rows))
    products = [_whole(p, shape, study.rows) for p, shape in zip(saved.products, study.products, strict=True)]
    return products, jax.tree.unflatten(study.tree, us)


def input_cotangents(study: Study, d_products: list[Array], d_us: Any) -> Any:
    """The cotangents of the projected inputs: those of the products where a sum was saved, else `d_us`, made like `Saved.us`."""
    sums, whole = {u: product for product, u in study.sums}, []
    for leaf, (given, shape) in enumerate(zip(d_us, study.us, strict=True)):
        same = next((p.leaf for u, p in sums.items() if u.leaf == leaf and u.gate is None), None)
        if same is not None:
            whole.append(d_products[same])
        else:
            gate = {u.gate: d_products[p.leaf][..., p.gate, :] for u, p in sums.items() if u.leaf == leaf}
            whole.append(_whole([gate[g] if d is None else d for g, d in enumerate(given)], shape, study.rows))
    return jax.tree.unflatten(study.tree, whole)


def _gates(array: Array, rows: int) -> list[Any]:
    return list(jnp.unstack(array, axis=-2)) if has_gates(array.shape, rows) else [array]


def _whole(parts: Any, shape: tuple[int, ...], rows: int) -> Array:
    return jnp.stack(parts, axis=-2) if has_gates(shape, rows) else parts[0]
