"""A peer made ready for one job and precision: compiled, with its inputs on the device."""

import contextlib
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench import split
from experiments.bench.peers import BOTH, FORWARD, MODES, Choice
from experiments.bench.peers.program import Program
from experiments.bench.problem import Answers, Outputs, Problem

# Of right ones: 0.07-0.13 in bfloat16 where a library keeps the state in it (512-1024 steps), 0.001
# in float16; two gates swapped differ by about 1.
TOLERANCE = {"bfloat16": 0.2, "float16": 0.05}
TF32 = 2e-2  # where products have 10 bits of mantissa; right ones were seen to differ by 5e-4
# In float32 the rounding errors of T steps add up like a random walk, in the states as in the
# gradients: with sqrt(T), as seen of hand_scan's LSTM (4e-7 at T = 64, 2.2e-6 at 2048). At 8 units
# of rounding (1.2e-7 each) per step right ones reach a tenth of the tolerance on a CPU (2.8e-6 at
# T = 2048, 2.3e-6 at 512), half of it on a GPU (1.0e-5 at 512), whose sums go in another order;
# TF32 differs by 5e-4.
ROUNDING = 1e-6
SHORT = 100  # below it the first steps' errors, which the square root leaves out, count too


class Candidate(NamedTuple):
    choice: Choice
    run: dict[str, Callable[[], Any]]  # by mode; returns when the results are there
    answers: Callable[[Outputs], Answers]  # from cotangents, in our layout
    compile_seconds: dict[str, float]  # by mode; tracing, lowering and compilation
    # of forward and backward, beyond arguments and results, on all its devices together
    temp_bytes: int | None
    error: float = float("nan")  # against float64, once it is checked


class Inputs:
    """The arrays of a problem on the device, made once for each layout and dtype,
    and shared by the candidates.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.made: dict[Any, Any] = {}

    def get(self, dtype: Any, batch_first: bool, devices: int = 1) -> tuple[Any, Any, Any, Outputs]:
        """xs, state, lengths, cotangents."""
        key = (jnp.dtype(dtype), batch_first, devices)
        if key not in self.made:
            p = self.problem
            xs, state = cast((p.xs, p.state), dtype)
            lengths = None if p.lengths is None else jnp.asarray(p.lengths)
            _, *layouts, _ = split.layouts(batch_first)
            arrays = zip((turn(xs, batch_first), state, lengths), layouts, strict=True)
            given = [spread(array, layout, devices) for array, layout in arrays]
            self.made[key] = (*given, self.cotangents(p.cotangents, dtype, batch_first, devices))
        return self.made[key]

    def cotangents(
        self, outputs: Outputs, dtype: Any, batch_first: bool, devices: int = 1
    ) -> Outputs:
        outputs = cast(outputs, dtype)
        return spread(
            outputs._replace(ys=turn(outputs.ys, batch_first)),
            split.layouts(batch_first)[-1],
            devices,
        )


def cast(tree: Any, dtype: Any) -> Any:
    return jax.tree.map(lambda a: jnp.asarray(a, dtype), tree)


def spread(tree: Any, layout: Any, devices: int) -> Any:
    """Over the devices where there are several."""
    return tree if devices == 1 else split.place(tree, layout, devices)


def turn(a: Any, batch_first: bool) -> Any:
    """Between time first and batch first."""
    return a.swapaxes(0, 1) if batch_first else a


def jax_candidate(
    choice: Choice, program: Program, inputs: Inputs, modes: Sequence[str] = MODES
) -> Candidate:
    """Compiles a program in each mode; the one with the backward pass must be among them.

    Raises:
        Exception: whatever the library raises.
    """
    dtype = jnp.bfloat16 if choice.variant == "bfloat16" else jnp.float32
    devices = choice.devices
    params = spread(
        cast(program.layout(inputs.problem.weights), dtype), split.layouts(False)[0], devices
    )
    *given, cotangents = inputs.get(dtype, program.batch_first, devices)
    arguments: dict[str, tuple[Any, ...]] = {
        FORWARD: (params, *given),
        BOTH: (params, *given, cotangents),
    }
    functions = {FORWARD: program.run, BOTH: functools.partial(pulled, program)}
    functions = functions if devices == 1 else split.split(program, functions, devices)
    compiled = {}
    seconds = {}
    for mode in modes:
        with precision(choice.variant):
            compiled[mode], seconds[mode] = compile_in(functions[mode], arguments[mode])

    def answers(cotangents: Outputs) -> Answers:
        cotangents = inputs.cotangents(cotangents, dtype, program.batch_first, devices)
        return in_our_layout(inputs.problem, program, compiled[BOTH](params, *given, cotangents))

    run = {mode: functools.partial(finished, compiled[mode], arguments[mode]) for mode in modes}
    return Candidate(choice, run, answers, seconds, temporary(compiled[BOTH], devices))


def compile_in(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, float]:
    """The compiled program and the seconds that it took."""
    start = time.perf_counter()
    compiled = jax.jit(function).lower(*arguments).compile()
    return compiled, time.perf_counter() - start


def temporary(compiled: Any, devices: int = 1) -> int | None:
    """Bytes beyond arguments and results, by the program's own analysis,
    which speaks of one device.
    """
    memory = compiled.memory_analysis()
    return None if memory is None else devices * memory.temp_size_in_bytes


def finished(compiled: Any, arguments: tuple[Any, ...]) -> Any:
    return jax.block_until_ready(compiled(*arguments))


def pulled(
    program: Program, params: Any, xs: Any, state: Any, lengths: Any, cotangents: Outputs
) -> tuple[Outputs, Any]:
    """Outputs, and the gradients of parameters, inputs and initial state."""
    outputs, pull = jax.vjp(
        lambda params, xs, state: program.run(params, xs, state, lengths), params, xs, state
    )
    return outputs, pull(jax.tree.map(lambda c, o: c.astype(o.dtype), cotangents, outputs))


def in_our_layout(problem: Problem, program: Program, results: tuple[Outputs, Any]) -> Answers:
    """What a program computed, in float32, time first, with gradients of our weights:
    those of `layout` transposed.
    """
    outputs, (params, xs, state) = jax.tree.map(lambda a: np.asarray(a, np.float32), results)

    @jax.jit  # one compilation instead of one for each small operation
    def transposed(weights: Any, params: Any) -> Any:
        return jax.vjp(program.layout, weights)[1](params)[0]

    weights = transposed(cast(problem.weights, jnp.float32), params)
    outputs = outputs._replace(ys=turn(outputs.ys, program.batch_first))
    return Answers(
        outputs, jax.tree.map(np.asarray, weights), turn(xs, program.batch_first), tuple(state)
    )


def precision(variant: str) -> contextlib.AbstractContextManager[Any]:
    """Products in float32 throughout where the variant is strict;
    else what the library does by default.
    """
    return (
        jax.default_matmul_precision("highest") if variant == "strict" else contextlib.nullcontext()
    )


def torch_candidate(choice: Choice, made: Any) -> Candidate:
    """Wraps `peers.torch.TorchRun`; nothing is compiled."""
    return Candidate(
        choice, {FORWARD: made.forward, BOTH: made.both}, made.answers, {}, made.memory()
    )


def tolerance(variant: str, device: str, T: int) -> float:
    """The largest error of a candidate that is timed."""
    if device == "gpu" and variant == "float32":
        return TF32
    return TOLERANCE.get(variant, ROUNDING * max(T, SHORT) ** 0.5)
