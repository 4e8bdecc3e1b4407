"""Memory beyond what a compiled program says of itself at the matrix: resident memory in child
processes, and long sequences.
"""

import functools
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import experiments
from experiments.bench import candidate, measure, problem
from experiments.bench.config import BenchConfig
from experiments.bench.peers import OURS, PEERS, Choice
from experiments.bench.peers.program import Program
from experiments.bench.shapes import Job, Shape

RESIDENT = Shape(32, 512, 128, 128)
LONG = Shape(8, 16384, 64, 64)
CELLS = ("lstm", "gru")
LONG_PEERS = (OURS, "jaxrnn_carry", "jaxrnn_sqrt", "flax_nnx")
# The gradient of the first is the same everywhere, so nothing of the size of ys need be kept; that
# of the second is 2 ys.
LOSSES: dict[str, Callable[[Any], Any]] = {
    "ys.sum()": jnp.sum,
    "(ys ** 2).sum()": lambda ys: jnp.sum(ys**2),
}
PATIENCE = 120.0  # seconds for a child; they take 3 to 10


def measure_memory(
    config: BenchConfig, names: Sequence[str], results: dict[str, Any], say: Callable[[str], None]
) -> None:
    """Fills `long_rows` and, on a CPU, `resident_rows` of `results`;
    what fails goes to its `problems`.
    """
    for cell in [cell for cell in CELLS if cell in config.cells]:
        for name in [name for name in LONG_PEERS if name in names or not config.peers]:
            job = Job(cell, LONG)
            choice = Choice(name, "float32")
            attempt(functools.partial(long_rows, job, name), job, choice, results, "long_rows")
        say(f"memory at T = {LONG.T:,}, {cell}")
        job = Job(cell, RESIDENT)
        resident = measure.choices(job, names, ("float32",), "cpu")
        for choice in resident if config.device == "cpu" else ():
            rows = functools.partial(resident_rows, job, choice.peer, config.seed)
            attempt(rows, job, choice, results, "resident_rows")
        say(f"resident memory, {cell}")


def attempt(
    rows: Callable[[], list[Any]], job: Job, choice: Choice, results: dict[str, Any], kind: str
) -> None:
    try:
        results[kind] += rows()
    except Exception as e:  # of any library; it is reported, and the others are measured
        results["problems"].append(measure.note(job, choice, *measure.told(e)))


def long_rows(job: Job, name: str) -> list[dict[str, Any]]:
    """Temporary memory of the gradients of each loss. Compiled only, never run."""
    program = PEERS[name].load()(job)
    arguments = abstract(job, program)

    def temp_bytes(loss: Callable[[Any], Any]) -> int | None:
        def total(params: Any, xs: Any, state: Any) -> Any:
            return loss(program.run(params, xs, state, None).ys)

        return candidate.temporary(candidate.compile_in(jax.grad(total, (0, 1, 2)), arguments)[0])

    where = {"cell": job.cell, "shape": str(job.shape), "peer": name}
    return [
        {**where, "loss": text, "temp_bytes": temp_bytes(loss)} for text, loss in LOSSES.items()
    ]


def abstract(job: Job, program: Program) -> tuple[Any, ...]:
    """Shapes of params, xs and state."""
    B, T, I, *_ = job.shape
    small = problem.draw(Job(job.cell, job.shape._replace(B=1, T=1)), seed=0)
    params = jax.eval_shape(program.layout, small.weights)
    xs = jax.ShapeDtypeStruct((B, T, I) if program.batch_first else (T, B, I), jnp.float32)
    state = tuple(
        jax.ShapeDtypeStruct((s.shape[0], B, s.shape[2]), jnp.float32) for s in small.state
    )
    return params, xs, state


def resident_rows(job: Job, name: str, seed: int) -> list[dict[str, Any]]:
    """What `experiments.bench.child` measures, in a new process."""
    measure.check_able(name, job)
    command = [
        sys.executable,
        "-m",
        "experiments.bench.child",
        name,
        job.cell,
        str(job.shape),
        str(seed),
    ]
    root = Path(experiments.__path__[0]).parent
    done = subprocess.run(
        command, cwd=root, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"its process ended with {done.returncode}: {last}")
    return [
        {
            "cell": job.cell,
            "shape": str(job.shape),
            "peer": name,
            **json.loads(done.stdout.splitlines()[-1]),
        }
    ]
