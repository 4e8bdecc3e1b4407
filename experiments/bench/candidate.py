"""A peer made ready for one job and precision: compiled, with its inputs on the device."""

import contextlib
import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench.peers.program import Program
from experiments.bench.problem import Answers, Outputs, Problem

FORWARD, BOTH = MODES = ("forward", "forward+backward")
# Right ones were seen to differ by 2e-6 in float32, and by 0.07 in bfloat16 where a library keeps the state in it (512 steps;
# it grows with the steps); two gates swapped differ by about 1.
TOLERANCE = {"float32": 1e-5, "strict": 1e-5, "bfloat16": 0.2, "float16": 0.05}
TF32 = 2e-2  # instead of the first, where products have 10 bits of mantissa


class Candidate(NamedTuple):
    peer: str
    variant: str
    run: dict[str, Callable[[], Any]]  # by mode; returns when the results are there
    answers: Callable[[Outputs], Answers]  # from cotangents, in our layout
    compile_seconds: dict[str, float]  # by mode; tracing, lowering and compilation
    temp_bytes: int | None  # of forward and backward, beyond arguments and results


class Inputs:
    """The arrays of a problem on the device, made once for each layout and dtype, and shared by the candidates."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.made: dict[Any, Any] = {}

    def get(self, dtype: Any, batch_first: bool) -> tuple[Any, Any, Any, Outputs]:
        """xs, state, lengths, cotangents."""
        key = (jnp.dtype(dtype), batch_first)
        if key not in self.made:
            p = self.problem
            xs, state = place((p.xs, p.state), dtype)
            lengths = None if p.lengths is None else jnp.asarray(p.lengths)
            self.made[key] = (turn(xs, batch_first), state, lengths, self.cotangents(p.cotangents, dtype, batch_first))
        return self.made[key]

    def cotangents(self, outputs: Outputs, dtype: Any, batch_first: bool) -> Outputs:
        outputs = place(outputs, dtype)
        return outputs._replace(ys=turn(outputs.ys, batch_first))


def place(tree: Any, dtype: Any) -> Any:
    return jax.tree.map(lambda a: jnp.asarray(a, dtype), tree)


def turn(a: Any, batch_first: bool) -> Any:
    """Between time first and batch first."""
    return jnp.swapaxes(a, 0, 1) if batch_first else a


def jax_candidate(name: str, program: Program, inputs: Inputs, variant: str) -> Candidate:
    """Compiles a program, forward and with its backward pass.

    Raises:
        Exception: whatever the library raises.
    """
    dtype = jnp.bfloat16 if variant == "bfloat16" else jnp.float32
    params = place(program.layout(inputs.problem.weights), dtype)
    xs, state, lengths, cotangents = inputs.get(dtype, program.batch_first)
    arguments: dict[str, tuple[Any, ...]] = {
        FORWARD: (params, xs, state, lengths),
        BOTH: (params, xs, state, lengths, cotangents),
    }
    functions = {FORWARD: program.run, BOTH: lambda *args: pulled(program, *args)}
    seconds, compiled = {}, {}
    for mode in MODES:
        start = time.perf_counter()
        with precision(variant):
            compiled[mode] = jax.jit(functions[mode]).lower(*arguments[mode]).compile()
        seconds[mode] = time.perf_counter() - start
    run = {mode: functools.partial(finished, compiled[mode], arguments[mode]) for mode in MODES}

    def answers(cotangents: Outputs) -> Answers:
        given = inputs.cotangents(cotangents, dtype, program.batch_first)
        return in_our_layout(inputs.problem, program, compiled[BOTH](params, xs, state, lengths, given))

    memory = compiled[BOTH].memory_analysis()
    return Candidate(name, variant, run, answers, seconds, None if memory is None else memory.temp_size_in_bytes)


def finished(compiled: Any, arguments: tuple[Any, ...]) -> Any:
    return jax.block_until_ready(compiled(*arguments))


def pulled(program: Program, params: Any, xs: Any, state: Any, lengths: Any, cotangents: Outputs) -> tuple[Outputs, Any]:
    """Outputs, and the gradients of parameters, inputs and initial state."""
    outputs, pull = jax.vjp(lambda params, xs, state: program.run(params, xs, state, lengths), params, xs, state)
    return outputs, pull(jax.tree.map(lambda c, o: c.astype(o.dtype), cotangents, outputs))


def in_our_layout(problem: Problem, program: Program, results: tuple[Outputs, Any]) -> Answers:
    """What a program computed, in float32, time first, with gradients of our weights: those of `layout` transposed."""
    outputs, (params, xs, state) = jax.tree.map(lambda a: a.astype(jnp.float32), results)
    _, pull = jax.vjp(program.layout, place(problem.weights, jnp.float32))
    (weights,) = pull(params)
    outputs = outputs._replace(ys=turn(outputs.ys, program.batch_first))
    return jax.tree.map(np.asarray, Answers(outputs, weights, turn(xs, program.batch_first), tuple(state)))


def precision(variant: str) -> contextlib.AbstractContextManager[Any]:
    """Products in float32 throughout where the variant is strict; else what the library does by default."""
    return jax.default_matmul_precision("highest") if variant == "strict" else contextlib.nullcontext()


def torch_candidate(name: str, made: Any, variant: str) -> Candidate:
    """Wraps `peers.torch.TorchRun`; nothing is compiled."""
    return Candidate(name, variant, {FORWARD: made.forward, BOTH: made.both}, made.answers, {}, made.memory())


def tolerance(variant: str, device: str) -> float:
    return TF32 if device == "gpu" and variant == "float32" else TOLERANCE[variant]
