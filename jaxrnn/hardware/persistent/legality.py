"""Which cells the persistent kernel can run, and at which sizes: found from the equations of a
step, never from a cell's name."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.cell import Array
from jaxrnn.hardware.persistent import blocks, kernel, tiles, unit
from jaxrnn.running.fused.reading import Reading, read
from jaxrnn.running.problem import Problem

EXACT = ("highest", "float32", "F32_F32_F32")  # precisions that TF32 does not have


def why_not(problem: Problem) -> str | None:
    """Why no kernel can run a problem: a sentence, or None where one can."""
    return _why_not_inputs(problem) or _why_not_step(problem)


def _why_not_inputs(problem: Problem) -> str | None:
    xs = problem.steps.xs
    if not problem.cell.elementwise:
        return "its hidden units act on each other outside `dot` (elementwise = False)."
    if not all(isinstance(size, int) for size in xs.shape):
        return f"the sizes of xs must be known, got {xs.shape}."
    if xs.dtype.itemsize > 4:
        return f"tensor cores multiply float32 and 16-bit numbers, got xs of {xs.dtype}."
    config: Any = jax.config
    precision = config.jax_default_matmul_precision
    if xs.dtype.itemsize == 4 and precision in EXACT:
        return f"it multiplies in TF32, and jax_default_matmul_precision is {precision!r}."
    if not jax.sharding.get_abstract_mesh().empty:
        return "a kernel runs on one device, and here is a mesh."
    return None


def _why_not_step(problem: Problem) -> str | None:
    if problem.trace.nested:
        return "its step calls `dot` inside a loop, branch or transform of its own."
    if problem.trace.effects:
        return "its step has effects, such as jax.debug.print."
    if jax.tree.leaves(problem.held):
        return "its step leaves a part of the carry as it is."
    reason = _why_not_product(problem)
    if reason is not None:
        return reason
    reading = read(problem.trace, rows=len(problem.batch))
    u = input_shapes(problem)
    return (
        _why_not_shapes(reading, problem, u)
        or _why_not_dtypes(problem, u)
        or _why_not_parameters(reading, problem)
        or _why_not_size(reading, problem.steps.xs)
        or _why_not_one_unit(reading, problem, u)
    )


def _why_not_product(problem: Problem) -> str | None:
    count = len(problem.trace.products) + problem.trace.unmarked
    if count != 1:
        return f"its step has {count} products with a weight, expected one."
    reading = read(problem.trace, rows=len(problem.batch))
    product = problem.trace.products[0] if problem.trace.products else None
    if product is None or not reading.recorded[0] or product.op is not None:
        return (
            "the product of its step must be `dot(v, w)` without `op`, "
            "of a v that the carry decides and a w that it does not."
        )
    vector = product.v.aval.shape[reading.rows :]
    shape = product.out.aval.shape[reading.rows :]
    if len(vector) != 1 or shape[-1:] != vector or len(shape) > 2:
        return (
            f"the product of its step makes {shape} of {vector}, expected (H,) or (G, H) of (H,)."
        )
    return None


def _why_not_shapes(reading: Reading, problem: Problem, u: Any) -> str | None:
    H = reading.products[0][-1]
    batch = problem.batch
    leaves = jax.tree.leaves((problem.first, u))
    if any(a.shape[: len(batch)] != batch or a.shape[len(batch) :][-1:] != (H,) for a in leaves):
        shapes = [a.shape for a in leaves]
        return f"carry and projected input have shapes {shapes}, expected [*batch, ..., {H}]."
    return None


def _why_not_dtypes(problem: Problem, u: Any) -> str | None:
    carries = all(a.dtype == jnp.float32 for a in jax.tree.leaves(problem.first))
    if not carries or any(a.dtype not in (jnp.float32, jnp.bool_) for a in jax.tree.leaves(u)):
        dtypes = [str(a.dtype) for a in jax.tree.leaves((problem.first, u))]
        return (
            f"carry and projected input have dtypes {dtypes}, "
            "expected float32 (or bool, of the input)."
        )
    return None


def _why_not_parameters(reading: Reading, problem: Problem) -> str | None:
    H = reading.products[0][-1]
    acting = zip(jax.tree.leaves(problem.params), reading.acting, strict=True)
    shapes = [p.shape for p, acts in acting if acts and p.ndim and p.shape[-1] != H]
    if shapes:
        return f"a parameter that acts elementwise has shape {shapes[0]}, expected [..., {H}]."
    return None


def _why_not_size(reading: Reading, xs: Array) -> str | None:
    H = reading.products[0][-1]
    batch = math.prod(xs.shape[1 : reading.rows + 1])
    G = math.prod(reading.products[0][reading.rows : -1])
    if xs.size == 0 or blocks.fit(H, batch, G, G, xs.dtype) is not None:  # backward: G operands
        return None
    shape = (G, H, H) if G > 1 else (H, H)
    return (
        f"a weight of shape {shape} in {xs.dtype} and its operands do not fit "
        f"the {blocks.SHARED_MEMORY // 1024} KB on chip."
    )


def _why_not_one_unit(reading: Reading, problem: Problem, u: Any) -> str | None:
    try:
        return _why_not_operations(unit.unit(reading, problem, u))
    except Exception as error:  # whatever a step raises that reads or mixes its units
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        return (
            f"its step does not run on a single hidden unit ({text}); "
            "a cell that mixes them sets elementwise = False."
        )


def _why_not_operations(one: unit.Unit) -> str | None:
    forward = unit.forward(one, save=False, collect=True)
    backward = unit.backward(one, collect=True)
    odd = [*tiles.foreign(forward.jaxpr), *tiles.foreign(backward.jaxpr)]
    if odd:
        return f"its step has the operation {odd[0]}, which the kernel has not."
    shapes = [a.shape for a in forward.outputs(kernel.WRITTEN) if a.shape[-1:] != (1,)]
    if shapes:
        return f"its step puts out {shapes[0]} for one hidden unit, expected (..., 1)."
    return None


def input_shapes(problem: Problem) -> Any:
    """The projected input of one step, as shapes and dtypes."""
    avals = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in problem.trace.u]
    return jax.tree.unflatten(problem.trace.trees.u, avals)
