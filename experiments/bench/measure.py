"""Making candidates, checking them, and timing them in rounds."""

import gc
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench import candidate, problem, split
from experiments.bench.candidate import Candidate, Inputs
from experiments.bench.peers import MODES, PEERS, Choice
from experiments.bench.peers.program import CannotError
from experiments.bench.shapes import Job

# seconds: a shorter call is timed several times over, so that the clock and a stray interrupt weigh
# little
SAMPLE = 2e-3
MOST_CALLS = 20

Problems = list[dict[str, Any]]


class Prepared(NamedTuple):
    candidates: list[Candidate]
    problems: Problems  # what is not timed, and why


def choices(
    job: Job, names: Sequence[str], variants: Sequence[str], device: str, halved: Sequence[str] = ()
) -> list[Choice]:
    """Every peer in each precision that it has; those of `halved` on two devices too,
    where the batch is large.
    """
    T = job.shape.T
    B = job.shape.B
    able = [
        name for name in names if device in PEERS[name].devices and PEERS[name].least_steps <= T
    ]
    pairs = [(name, v) for name in able for v in variants if v in PEERS[name].variants]
    counts = (1, 2) if device == "cpu" and split.splits(B, 2) else (1,)
    return [Choice(name, v, n) for n in counts for name, v in pairs if n == 1 or name in halved]


def prepare(job: Job, wanted: Sequence[Choice], device: str, seed: int) -> Prepared:
    """Makes every candidate of a job, in random order, and checks it."""
    given = problem.draw(job, seed)
    answers = problem.reference(given)
    checked = problem.masked(given)
    inputs = Inputs(given)
    prepared = Prepared([], [])
    for index in np.random.default_rng(seed).permutation(len(wanted)):
        choice = wanted[index]
        try:
            made = make(choice, given, inputs, device)
            error = problem.error(given, made.answers(checked), answers)
        except Exception as e:  # of any library; it is reported, and the others are measured
            prepared.problems.append(note(job, choice, *told(e)))
            continue
        if error <= candidate.tolerance(choice.variant, device, job.shape.T):
            prepared.candidates.append(made._replace(error=error))
        else:
            prepared.problems.append(
                note(job, choice, "wrong", f"differs from float64 by {error:.2g}")
            )
    return prepared


def make(
    choice: Choice,
    given: problem.Problem,
    inputs: Inputs,
    device: str,
    modes: Sequence[str] = MODES,
) -> Candidate:
    """One candidate, compiled in those of `modes` that its peer has.

    Raises:
        CannotError: the peer has no such thing.
    """
    peer = PEERS[choice.peer]
    check_able(choice.peer, given.job)
    if choice.peer == "torch":
        return candidate.torch_candidate(choice, peer.load()(given, choice.variant, device))
    return candidate.jax_candidate(
        choice, peer.load()(given.job), inputs, [mode for mode in modes if mode in peer.modes]
    )


def check_able(name: str, job: Job) -> None:
    """Raises CannotError where the peer has no such cell."""
    if job.cell not in PEERS[name].cells:
        raise CannotError(f"has no {job.cell} of this form")


def told(error: Exception) -> tuple[str, str]:
    """Whether the peer cannot or failed, and its message in one line."""
    message = " ".join(str(error).split())[:300]
    return (
        ("cannot", message)
        if isinstance(error, CannotError)
        else ("failed", f"{type(error).__name__}: {message}")
    )


def note(job: Job, choice: Choice, status: str, message: str) -> dict[str, Any]:
    return {
        "cell": job.cell,
        "shape": str(job.shape),
        **choice._asdict(),
        "status": status,
        "message": message,
    }


class First(NamedTuple):
    """What a first look at the candidates of a mode says."""

    candidates: list[Candidate]
    calls: list[int]  # that make a sample of each
    every: list[int]  # in which rounds each runs
    seconds: float  # of a round


def first_times(candidates: Sequence[Candidate]) -> dict[str, First]:
    """By mode."""
    return {
        mode: first_look([made for made in candidates if mode in made.run], mode) for mode in MODES
    }


def first_look(candidates: list[Candidate], mode: str) -> First:
    seconds = [first_time(made.run[mode]) for made in candidates]
    counts = [calls(one) for one in seconds]
    every = [made.choice.every for made in candidates]
    parts = (one * (n + 1) / e for one, n, e in zip(seconds, counts, every, strict=True))
    return First(candidates, counts, every, sum(parts))


def first_time(run: Callable[[], Any]) -> float:
    """Seconds of a call: of the first where it is long,
    since a second would cost half a round, else of the second.
    """
    start = time.perf_counter()
    run()
    first = time.perf_counter() - start
    return first if first > 10 * SAMPLE else sample(run, 1)


def calls(seconds: float) -> int:
    """How many calls of so many seconds make a sample."""
    return min(max(math.ceil(SAMPLE / seconds), 1), MOST_CALLS)


def rounds(first: First, mode: str, count: int, seed: int) -> np.ndarray:
    """Times in seconds, [rounds, candidates], as of `in_turn`."""
    runs = [made.run[mode] for made in first.candidates]
    return in_turn(runs, first.calls, first.every, count, seed)


def in_turn(
    runs: Sequence[Callable[[], Any]],
    calls: Sequence[int],
    every: Sequence[int],
    count: int,
    seed: int,
) -> np.ndarray:
    """Times in seconds, [rounds, runs]: each round takes them in an order of its own,
    each once untimed just before.

    Args:
        runs: what is timed.
        calls: that make a sample of each.
        every: in which rounds each runs. One that runs in every third only has NaN in the others.
        count: of rounds.
        seed: of the order.
    """
    rng = np.random.default_rng(seed)
    times = np.full((count, len(runs)), np.nan)
    gc.collect()
    gc.disable()
    try:
        for number, row in enumerate(times):
            for k in rng.permutation(len(runs)):
                if number % every[k] == 0:
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
    size = {"cpu": 2048, "gpu": 8192}[device]
    dtype = jnp.float32 if variant in ("float32", "strict") else jnp.bfloat16
    a, b = (
        jax.random.normal(key, (size, size), dtype) for key in jax.random.split(jax.random.key(0))
    )
    with candidate.precision(variant):
        product = jax.jit(jnp.matmul).lower(a, b).compile()
    return (
        2
        * size**3
        / min(sample(lambda: jax.block_until_ready(product(a, b)), 1) for _ in range(10))
    )
