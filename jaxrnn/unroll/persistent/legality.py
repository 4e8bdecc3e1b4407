"""Which cells the persistent kernel can run, and at which sizes: found from the study of a step, never from a cell's name."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.typing import Array, Carry, Cell, Params, dot_in
from jaxrnn.unroll.persistent import blocks, kernel, tiles, unit
from jaxrnn.unroll.scan import Sequence, project
from jaxrnn.unroll.study import NestedProductError, Study, study

EXACT = ("highest", "float32", "F32_F32_F32")  # precisions that TF32 does not have


def why_not(cell: Cell, params: Params, sequence: Sequence, first: Carry) -> str | None:
    """Why no kernel can run a cell: a sentence, or None where one can.

    Args:
        cell: the cell.
        params: its prepared parameters, in the carry dtype.
        sequence: what it would run over.
        first: its initial carry. As of all arguments only shapes and dtypes count, so that they may be traced.
    """
    xs = sequence.xs
    if not cell.elementwise:
        return "its hidden units act on each other outside `dot` (elementwise = False)."
    if not all(isinstance(size, int) for size in xs.shape):
        return f"the sizes of xs must be known, got {xs.shape}."
    if xs.dtype.itemsize > 4:
        return f"tensor cores multiply float32 and 16-bit numbers, got xs of {xs.dtype}."
    config: Any = jax.config
    if xs.dtype.itemsize == 4 and config.jax_default_matmul_precision in EXACT:
        return f"it multiplies in TF32, and jax_default_matmul_precision is {config.jax_default_matmul_precision!r}."
    if not jax.sharding.get_abstract_mesh().empty:
        return "a kernel runs on one device, and here is a mesh."
    if xs.size == 0:
        return None
    try:
        found, u = studied(cell, params, sequence, first)
    except NestedProductError:
        return "its step calls `dot` inside a loop, branch or transform of its own."
    return (
        _why_not_product(found)
        or _why_not_arrays(found, params, first, u)
        or _why_not_size(found, xs)
        or _why_not_one_unit(unit.unit(cell, found, params, first, u, sequence))
    )


def _why_not_product(found: Study) -> str | None:
    if len(found.inside) != 1:
        return f"its step has {len(found.inside)} products with a weight, expected one."
    if found.inside[0] or found.vectors[0] is None:
        return "the product of its step must be `dot(v, w)` without `op`, of a v that the carry decides and a w that it does not."
    vector, product = found.vectors[0][found.rows :], found.products[0][found.rows :]
    if len(vector) != 1 or product[-1:] != vector or len(product) > 2:
        return f"the product of its step makes {product} of {vector}, expected (H,) or (G, H) of (H,)."
    return None


def _why_not_arrays(found: Study, params: Params, first: Carry, u: Any) -> str | None:
    H, rows, leaves = found.products[0][-1], found.rows, jax.tree.leaves((first, u))
    if any(a.ndim <= rows or a.shape[-1] != H or a.shape[:rows] != found.products[0][:rows] for a in leaves):
        return f"carry and projected input have shapes {[a.shape for a in leaves]}, expected [*batch, ..., {H}]."
    if any(a.dtype not in (jnp.float32, jnp.bool_)[: 1 + k] for k, tree in enumerate((first, u)) for a in jax.tree.leaves(tree)):
        return (
            f"carry and projected input have dtypes {[str(a.dtype) for a in leaves]}, expected float32 (or bool, of the input)."
        )
    acting = zip(jax.tree.leaves(params), unit.acting(found), strict=True)
    shapes = [p.shape for p, acts in acting if acts and p.ndim and p.shape[-1] != H]
    return f"a parameter that acts elementwise has shape {shapes[0]}, expected [..., {H}]." if shapes else None


def _why_not_size(found: Study, xs: Array) -> str | None:
    (*_, H), batch = found.products[0], math.prod(xs.shape[1 : found.rows + 1])
    G = math.prod(found.products[0][found.rows : -1])
    if blocks.fit(H, batch, G, G, xs.dtype) is not None:  # the backward pass, which has G operands
        return None
    shape = (G, H, H) if G > 1 else (H, H)
    return f"a weight of shape {shape} in {xs.dtype} and its operands do not fit the {blocks.SHARED_MEMORY // 1024} KB on chip."


def _why_not_one_unit(one: unit.Unit) -> str | None:
    try:
        return _why_not_operations(one)
    except Exception as error:  # whatever a step raises that reads or mixes its units
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        return f"its step does not run on a single hidden unit ({text}); a cell that mixes them sets elementwise = False."


def _why_not_operations(one: unit.Unit) -> str | None:
    forward, backward = unit.forward(one, (), save=False, collect=True), unit.backward(one, collect=True)
    odd = [*tiles.foreign(forward.jaxpr), *tiles.foreign(backward.jaxpr)]
    if odd:
        return f"its step has the operation {odd[0]}, which the kernel has not."
    shapes = [a.shape for a in forward.outputs(kernel.WRITTEN) if a.shape[-1:] != (1,)]
    return f"its step puts out {shapes[0]} for one hidden unit, expected (..., 1)." if shapes else None


def studied(cell: Cell, params: Params, sequence: Sequence, first: Carry) -> tuple[Study, Any]:
    """The study of a step, and its projected input."""
    u = project(cell, params, jax.tree.map(lambda a: a[0], sequence))
    found = study(cell, params, first, u, dot_in(sequence.xs.dtype), rows=sequence.xs.ndim - 1 - cell.feature_axes)
    return found, u
