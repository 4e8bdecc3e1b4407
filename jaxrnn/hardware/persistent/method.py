"""The method: what it refuses, and its forward and backward pass around the kernel."""

import contextlib
import contextvars
import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any, ClassVar

import jax
import jax.extend.backend
import jax.numpy as jnp
import numpy as np

from jaxrnn.cell import Array
from jaxrnn.hardware.persistent import blocks, kernel, legality, unit
from jaxrnn.hardware.persistent.tiles import Program
from jaxrnn.running.derivative import Differentiable, Gradients
from jaxrnn.running.fused import saved
from jaxrnn.running.fused.adjoint import Adjoint, Chunk, Constants, Found
from jaxrnn.running.fused.backward import backward
from jaxrnn.running.fused.forward import Kept
from jaxrnn.running.fused.layout import all_at_once
from jaxrnn.running.fused.reading import Reading, read
from jaxrnn.running.fused.recorded import flat, weights
from jaxrnn.running.method import Refusal
from jaxrnn.running.problem import Problem

OLDEST = (0, 11)  # of the versions of jax whose Mosaic GPU has what the kernel needs
# The compute capability: the tensor core instruction of the kernel (wgmma) is of this generation
# only.
HOPPER = "9.0"
_INTERPRET: contextvars.ContextVar[Any] = contextvars.ContextVar("interpret", default=None)


@contextlib.contextmanager
def interpreted(params: Any) -> Iterator[None]:
    """Within it kernels are interpreted on the CPU, with the `InterpretGPUParams` of Pallas: for
    tests, very slow."""
    token = _INTERPRET.set(params)
    try:
        yield
    finally:
        _INTERPRET.reset(token)


@dataclasses.dataclass(frozen=True)
class Persistent(Differentiable):
    """One kernel for all steps, on a GPU of the Hopper generation."""

    name: ClassVar[str] = "persistent"

    def plan(self, problem: Problem) -> Reading | Refusal:
        reason = legality.why_not(problem) or _why_not_here()
        if reason is not None:
            return Refusal(reason)
        return read(problem.trace, rows=len(problem.batch))

    def operands(self, plan: Reading, problem: Problem) -> list[Array]:
        return weights(plan, problem)

    def forward(self, plan: Reading, problem: Problem, operands: list[Array], save: bool) -> Any:
        us = problem.project()
        rows = (problem.steps.mask, problem.steps.reset)
        one = unit.unit(plan, problem, legality.input_shapes(problem))
        program = unit.forward(one, save=save, collect=problem.collect)
        weight = jnp.moveaxis(_square(operands[0]), 0, -1)  # [G, H, H]: sums over units before
        weight = weight[:, None]  # [G, 1, H, H]
        chip = OnChip(plan, problem, program, weight)
        carry, (ys, own, step, afters) = chip.run(problem.carry, (us, rows), problem.reverse)
        result = (carry, (ys, afters) if problem.collect else ys)
        if not save:
            return result, None
        nothing = [jnp.zeros((problem.T, *shape)) for shape in plan.products]
        whole = saved.save(plan, nothing, us, plan.rows + 1)
        return result, Kept(jax.tree.leaves(own), whole._replace(products=step))

    def backward(
        self, plan: Reading, problem: Problem, operands: Any, saved: Any, cotangents: Any
    ) -> Gradients:
        layout = all_at_once(problem.T)
        return backward(plan, layout, problem, operands, saved, cotangents, loop=_adjoint)


def _why_not_here() -> str | None:
    if jax.__version_info__ < OLDEST:
        return f"it needs jax {'.'.join(map(str, OLDEST))} or newer, and this is {jax.__version__}."
    if _INTERPRET.get() is not None:
        return None
    found = _capabilities()
    if HOPPER not in found:
        here = f"GPUs of compute capability {', '.join(sorted(found))}" if found else "no GPU"
        return (
            "it is a kernel for NVIDIA GPUs of the Hopper generation "
            f"(compute capability {HOPPER}), and here is {here}."
        )
    return None


def _capabilities() -> set[str]:
    """The compute capabilities of the GPUs of this process."""
    devices = [
        d
        for client in jax.extend.backend.backends().values()
        for d in client.devices()
        if d.platform == "gpu"
    ]
    return {str(getattr(d, "compute_capability", "unknown")) for d in devices}


def _adjoint(adjoint: Adjoint, state: Any, constants: Constants, chunk: Chunk) -> Any:
    """What `Adjoint.run` does, as a kernel."""
    reading = adjoint.reading
    problem = adjoint.problem
    one = unit.unit(reading, problem, legality.input_shapes(problem))
    program = unit.backward(one, collect=problem.collect)
    rows = (chunk.steps.mask, chunk.steps.reset)
    weight = jnp.moveaxis(_square(adjoint.weights[0]), 1, 0)[None]  # [1, G, H, H]
    d_ys, d_carries = chunk.d_out if problem.collect else (chunk.d_out, None)
    step = chunk.kept.step
    d_carry, d_constants = state
    stream = (chunk.kept.carry, step, d_ys, d_carries, rows)
    chip = OnChip(reading, problem, program, weight)
    (d_carry, d_first), written = chip.run(
        (d_carry, d_constants.first), stream, not problem.reverse
    )
    d_product, d_us, d_afters = written
    d_constants = d_constants._replace(first=d_first)
    nothing = functools.partial(np.zeros, dtype=jax.dtypes.float0)
    d_us = jax.tree.map(lambda u, d: nothing(u.shape) if d is None else d, step.us, d_us)
    found = Found([flat(reading, 0, d_product)], d_us, d_afters)
    return (d_carry, d_constants), found


@dataclasses.dataclass(frozen=True)
class OnChip:
    """A program of `unit`, and what it runs with."""

    reading: Reading
    problem: Problem
    program: Program
    weight: Array  # [results, operands, H, H]

    def run(self, state: Any, stream: Any, reverse: bool) -> tuple[Any, Any]:
        """The state after the last step, and what is written at each."""
        problem = self.problem
        T = problem.T
        batch = problem.batch
        B = math.prod(batch)
        dtype = problem.steps.xs.dtype
        results, operands, H, _ = self.weight.shape

        def folded(tree: Any, *leading: int) -> list[Array]:
            axes = len(leading) + len(batch)
            return [a.reshape(*leading, B, *a.shape[axes:]) for a in jax.tree.leaves(tree)]

        def unfolded(k: int, arrays: list[Array], *leading: int) -> Any:
            axes = len(leading) + 1
            whole = [a.reshape(*leading, *batch, *a.shape[axes:]) for a in arrays]
            return jax.tree.unflatten(self.program.trees[k], whole)

        leaves = jax.tree.leaves(problem.params)
        acting = [p for p, acts in zip(leaves, self.reading.acting, strict=True) if acts]
        acting = [jnp.broadcast_to(p, (H,)) if p.ndim == 0 else p for p in acting]
        held = [] if problem.steps.reset is None else folded(problem.first)
        size = blocks.fit(H, B, results * operands, operands, dtype)
        assert size is not None  # or `why_not` would have said so
        after, written = kernel.run(
            self.program,
            size,
            self.weight.astype(dtype),
            (acting, held, folded(state), folded(stream, T)),
            reverse=reverse,
            interpret=_INTERPRET.get(),
        )
        return unfolded(kernel.AFTER, after), unfolded(kernel.WRITTEN, written, T)


def _square(weight: Array) -> Array:
    """[H, G, H]."""
    return weight if weight.ndim == 3 else weight[:, None]
