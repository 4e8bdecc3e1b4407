"""Making candidates, checking them, and timing them in rounds."""

import gc
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench import candidate, problem
from experiments.bench.candidate import Candidate, Inputs
from experiments.bench.peers import PEERS
from experiments.bench.peers.program import CannotError
from experiments.bench.shapes import Job

LEAST_ROUNDS = 5
SAMPLE = 2e-3  # seconds: a shorter call is timed several times over, so that the clock and a stray interrupt weigh little
MOST_CALLS = 20

Problems = list[dict[str, Any]]


class Prepared(NamedTuple):
    candidates: list[Candidate]
    errors: dict[tuple[str, str], float]  # by peer and variant
    problems: Problems  # what is not timed, and why


def prepare(job: Job, names: Sequence[str], variants: Sequence[str], device: str, seed: int) -> Prepared:
    """Makes every candidate of a job, in random order, and checks it."""
    given = problem.draw(job, seed)
    wanted, checked, inputs = problem.reference(given), problem.masked(given), Inputs(given)
    prepared = Prepared([], {}, [])
    pairs = [(name, v) for name in names for v in variants if v in PEERS[name].variants and device in PEERS[name].devices]
    for index in np.random.default_rng(seed).permutation(len(pairs)):
        name, variant = pairs[index]
        try:
            made = make(name, given, inputs, variant, device)
            error = problem.error(given, made.answers(checked), wanted)
        except Exception as e:  # of any library; it is reported, and the others are measured
            status = "cannot" if isinstance(e, CannotError) else "failed"
            message = (
                " ".join(f"{e}".split())[:300] if status == "cannot" else f"{type(e).__name__}: {' '.join(str(e).split())[:300]}"
            )
            prepared.problems.append(note(job, name, variant, status, message))
            continue
        if not error <= candidate.tolerance(variant, device):
            prepared.problems.append(note(job, name, variant, "wrong", f"differs from float64 by {error:.2g}"))
            continue
        prepared.candidates.append(made)
        prepared.errors[name, variant] = error
    return prepared


def make(name: str, given: problem.Problem, inputs: Inputs, variant: str, device: str) -> Candidate:
    """One candidate, compiled.

    Raises:
        CannotError: the peer has no such thing.
    """
    peer = PEERS[name]
    if given.job.cell not in peer.cells:
        raise CannotError(f"has no {given.job.cell} of this form")
    if name == "torch":
        return candidate.torch_candidate(name, peer.load()(given, variant, device), variant)
    return candidate.jax_candidate(name, peer.load()(given.job), inputs, variant)


def note(job: Job, name: str, variant: str, status: str, message: str) -> dict[str, Any]:
    return {
        "cell": job.cell,
        "shape": str(job.shape),
        "peer": name,
        "variant": variant,
        "status": status,
        "message": message,
    }


def rounds(runs: Sequence[Callable[[], Any]], seconds: float, most: int, seed: int) -> np.ndarray:
    """Times in seconds, [rounds, candidates]: each round runs all, in an order of its own, each once untimed just before.

    Args:
        runs: the candidates.
        seconds: how long this may take; at least 5 rounds are made whatever it says, where `most` allows them.
        most: rounds.
        seed: of the orders.
    """
    rng = np.random.default_rng(seed)
    first = np.array([sample(run, 1) for run in runs])
    calls = np.clip(np.ceil(SAMPLE / first), 1, MOST_CALLS).astype(int)
    affordable = int(seconds / np.sum(first * (calls + 1)))
    times = np.empty((min(most, max(affordable, LEAST_ROUNDS)), len(runs)))
    gc.collect()
    gc.disable()
    try:
        for row in times:
            for k in rng.permutation(len(runs)):
                row[k] = sample(runs[k], calls[k])
    finally:
        gc.enable()
    return times


def sample(run: Callable[[], Any], calls: int) -> float:
    """Seconds per call, after an untimed one."""
    run()
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


def matmul_rate(device: str, variant: str) -> float:
    """Floating-point operations per second of a large square product, the best of ten."""
    size, dtype = {"cpu": 2048, "gpu": 8192}[device], jnp.float32 if variant in ("float32", "strict") else jnp.bfloat16
    a, b = (jax.random.normal(key, (size, size), dtype) for key in jax.random.split(jax.random.key(0)))
    with candidate.precision(variant):
        product = jax.jit(jnp.matmul).lower(a, b).compile()
    return 2 * size**3 / min(sample(lambda: jax.block_until_ready(product(a, b)), 1) for _ in range(10))
