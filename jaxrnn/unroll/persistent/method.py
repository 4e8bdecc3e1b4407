"""The method: what it refuses, and its forward and backward pass around the kernel."""

import contextlib
import contextvars
import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.extend.backend
import jax.numpy as jnp
import numpy as np

from jaxrnn.typing import Array, Carry, Cell, Params, dot_in
from jaxrnn.unroll import carried, parts, products
from jaxrnn.unroll.backward import Chunk, Given, Plan, backward
from jaxrnn.unroll.carried import Kept
from jaxrnn.unroll.form import Form
from jaxrnn.unroll.persistent import blocks, kernel, legality, unit
from jaxrnn.unroll.persistent.legality import studied
from jaxrnn.unroll.persistent.tiles import Program
from jaxrnn.unroll.scan import Sequence, project, scan
from jaxrnn.unroll.sequence import refusal

OLDEST = (0, 12)  # of the versions of jax whose Mosaic GPU has what the kernel needs
HOPPER = "9.0"  # the compute capability: the tensor core instruction of the kernel (wgmma) is of this generation only
_INTERPRET: contextvars.ContextVar[Any] = contextvars.ContextVar("interpret", default=None)
_FORM = Form(project_inside=False, joined=False, by_gate=False, fold=False, columns=False, chunk=0)  # the whole as one chunk


@contextlib.contextmanager
def interpreted(params: Any) -> Iterator[None]:
    """Within it kernels are interpreted on the CPU, with the `InterpretGPUParams` of Pallas: for tests, very slow."""
    token = _INTERPRET.set(params)
    try:
        yield
    finally:
        _INTERPRET.reset(token)


def persistent(
    cell: Cell,
    params: Params,
    sequence: Sequence,
    carry: Carry,
    first: Carry,
    *,
    reverse: bool,
    remat: str,
    collect: bool = False,
) -> tuple[Carry, Any]:
    """Runs a cell over time; arguments and returns are those of `scan`, and `remat` is "none".

    Raises:
        ValueError: it cannot run this cell at these sizes, or here; the message says why.
    """
    reason = why_not(cell, params, sequence, first)
    if reason is not None:
        raise ValueError(refusal("persistent", cell, reason))
    if sequence.xs.size == 0:
        return scan(cell, params, sequence, carry, first, reverse=reverse, remat="none", collect=collect)
    found, u = studied(cell, params, sequence, first)
    run = functools.partial(cell.step, params, *jax.lax.stop_gradient((first, u)))
    weights = products.weights(run, dot_in(sequence.xs.dtype), found.inside)
    shown, dtype = sequence.mask is None and not collect, sequence.xs.dtype
    shared = tuple(o and shown and leaf.dtype == dtype for o, leaf in zip(found.output, jax.tree.leaves(first), strict=True))
    return _run(Plan(cell, reverse, remat, collect, shared, found), params, weights, first, carry, sequence)


def why_not(cell: Cell, params: Params, sequence: Sequence, first: Carry) -> str | None:
    """What stands against it, as a sentence; None where nothing does. As of all arguments only shapes and dtypes count."""
    return legality.why_not(cell, params, sequence, first) or _why_not_here()


def _why_not_here() -> str | None:
    if jax.__version_info__ < OLDEST:
        return f"it needs jax {'.'.join(map(str, OLDEST))} or newer, and this is {jax.__version__}."
    if _INTERPRET.get() is not None:
        return None
    found = _capabilities()
    if HOPPER not in found:
        here = f"GPUs of compute capability {', '.join(sorted(found))}" if found else "no GPU"
        return f"it is a kernel for NVIDIA GPUs of the Hopper generation (compute capability {HOPPER}), and here is {here}."
    return None


def _capabilities() -> set[str]:
    """The compute capabilities of the GPUs of this process."""
    devices = [d for client in jax.extend.backend.backends().values() for d in client.devices() if d.platform == "gpu"]
    return {str(getattr(d, "compute_capability", "unknown")) for d in devices}


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _run(plan: Plan, *args: Any) -> tuple[Carry, Any]:
    return _forward(plan, False, *args)[0]


def _run_forward(plan: Plan, *args: Any) -> tuple[Any, Any]:
    params, weights, first, carry, sequence = args
    result, (own, saved) = _forward(plan, True, *args)
    kept = Kept(own, result[1] if any(plan.shared) else None, carried.split(plan.shared, carry)[1])
    return result, (params, weights, first, sequence, (kept, saved))


def _run_backward(plan: Plan, residuals: Any, cotangents: tuple[Carry, Any]) -> tuple[Any, ...]:
    params, weights, first, sequence, saved = residuals
    form = _FORM._replace(chunk=sequence.xs.shape[0])
    *gradients, d_xs, d_noise = backward(plan, form, params, weights, first, sequence, saved, cotangents, loop=_adjoints)
    mask, reset = jax.tree.map(lambda a: np.zeros(a.shape, jax.dtypes.float0), (sequence.mask, sequence.reset))
    return *gradients, Sequence(d_xs, mask, reset, d_noise)


_run.defvjp(_run_forward, _run_backward)


def _forward(
    plan: Plan, save: bool, params: Params, weights: list[Array], first: Carry, carry: Carry, sequence: Sequence
) -> tuple[tuple[Carry, Any], Any]:
    """The result, and what the backward pass needs of it: the carries before each step, and products with inputs."""
    rows, us = (sequence.mask, sequence.reset), project(plan.cell, params, sequence)
    one = unit.unit(plan.cell, plan.study, params, first, jax.tree.map(lambda a: a[0], us), sequence)
    program = unit.forward(one, plan.shared, save=save, collect=plan.collect)
    weight = jnp.moveaxis(_square(weights[0]), 0, -1)[:, None]  # [G, 1, H, H]: the sums are over the units before
    carry, (ys, own, saved, afters) = _on_chip(plan, program, sequence, params, first, weight, carry, (us, rows), plan.reverse)
    if save:
        nothing = [jnp.zeros((sequence.xs.shape[0], *shape)) for shape in plan.study.products]
        saved = parts.save(plan.study, nothing, us, plan.study.rows + 1)._replace(products=saved)
    return (carry, (ys, afters) if plan.collect else ys), (own, saved)


def _adjoints(
    plan: Plan, form: Form, given: Given, state: tuple[Carry, Carry], chunk: Chunk
) -> tuple[Any, list[Array], Any, Carry | None]:
    """What `backward._loop` does, as a kernel."""
    _, u = jax.tree.map(lambda a: a[0], parts.restore(plan.study, chunk.saved))
    one = unit.unit(plan.cell, plan.study, given.params, given.first, u, chunk.steps)
    program = unit.backward(one, collect=plan.collect)
    rows, weight = (chunk.steps.mask, chunk.steps.reset), jnp.moveaxis(_square(given.weights[0]), 1, 0)[None]  # [1, G, H, H]
    stream = (chunk.carries, chunk.saved, chunk.d_ys, chunk.d_carries, rows)
    (d_carry, d_first), resets = state, chunk.steps.reset is not None
    start = (d_carry, d_first if resets else None)
    run = functools.partial(_on_chip, plan, program, chunk.steps, given.params, given.first, weight)
    (d_carry, more), (d_product, d_us, d_afters) = run(start, stream, not plan.reverse)
    nothing = functools.partial(np.zeros, dtype=jax.dtypes.float0)
    d_us = jax.tree.map(lambda u, d: nothing(u.shape) if d is None else d, chunk.saved.us, d_us)
    return (d_carry, more if resets else d_first), [d_product], d_us, d_afters


def _on_chip(
    plan: Plan,
    program: Program,
    sequence: Sequence,
    params: Params,
    first: Carry,
    weight: Array,
    state: Any,
    stream: Any,
    reverse: bool,
) -> tuple[Any, Any]:
    """Runs a program of `unit`: the state after the last step, and what is written at each."""
    (T, *batch), (results, operands, H, _) = sequence.xs.shape[: plan.study.rows + 1], weight.shape
    B, dtype = math.prod(batch), sequence.xs.dtype

    def folded(tree: Any, *leading: int) -> list[Array]:
        return [a.reshape(*leading, B, *a.shape[len(leading) + len(batch) :]) for a in jax.tree.leaves(tree)]

    def unfolded(k: int, arrays: list[Array], *leading: int) -> Any:
        whole = [a.reshape(*leading, *batch, *a.shape[len(leading) + 1 :]) for a in arrays]
        return jax.tree.unflatten(program.trees[k], whole)

    acting = [p for p, used in zip(jax.tree.leaves(params), unit.acting(plan.study), strict=True) if used]
    acting = [jnp.broadcast_to(p, (H,)) if p.ndim == 0 else p for p in acting]
    held = [] if sequence.reset is None else folded(first)
    size = blocks.fit(H, B, results * operands, operands, dtype)
    assert size is not None  # or `why_not` would have said so
    arguments, interpret = (acting, held, folded(state), folded(stream, T)), _INTERPRET.get()
    after, written = kernel.run(program, size, weight.astype(dtype), arguments, reverse=reverse, interpret=interpret)
    return unfolded(kernel.AFTER, after), unfolded(kernel.WRITTEN, written, T)


def _square(weight: Array) -> Array:
    """[H, G, H]."""
    return weight if weight.ndim == 3 else weight[:, None]
