"""The numbers of a job: a flat row for each candidate and mode."""

from typing import Any

from experiments import folder
from experiments.bench import measure
from experiments.bench.candidate import Candidate
from experiments.bench.measure import First
from experiments.bench.peers import BOTH, OURS, Choice
from experiments.bench.shapes import Job, flops
from experiments.bench.stats import ratio

BASE = {"float16": "bfloat16"}  # which of our variants a peer's is held against, where ours does not have it


def time_job(job: Job, first: dict[str, First], count: int, rates: dict[str, float], seed: int) -> list[dict[str, Any]]:
    """Times every candidate of a job for `count` rounds in each mode."""
    rows = []
    for mode, (candidates, calls, _) in first.items():
        times = measure.rounds([made.run[mode] for made in candidates], calls, count, seed)
        columns = {made.choice: times[:, k].tolist() for k, made in enumerate(candidates)}
        rows += [row(job, mode, made, columns, rates[made.choice.variant]) for made in candidates]
    return rows


def row(job: Job, mode: str, made: Candidate, columns: dict[Choice, list[float]], rate: float) -> dict[str, Any]:
    """Numbers of one candidate: `ratio` is to jaxrnn on one device, `split_ratio` to that on two; None where it was not timed."""
    mine, variant = columns[made.choice], BASE.get(made.choice.variant, made.choice.variant)
    median = sorted(mine)[len(mine) // 2]
    return {
        "cell": job.cell,
        "shape": str(job.shape),
        "mode": mode,
        **made.choice._asdict(),
        "ms": folder.finite(1e3 * median),
        "us_per_step": folder.finite(1e6 * median / job.shape.T, 4),
        "of_limit": folder.finite(flops(job, mode == BOTH) / rate / median, 3),
        **compared("", mine, columns.get(Choice(OURS, variant))),
        **compared("split_", mine, columns.get(Choice(OURS, variant, 2))),
        "rounds": len(mine),
        "error": folder.finite(made.error, 3),
        "compile_seconds": made.compile_seconds.get(mode) and folder.finite(made.compile_seconds[mode], 3),
        "temp_bytes": made.temp_bytes if mode == BOTH else None,
    }


def compared(prefix: str, mine: list[float], ours: list[float] | None) -> dict[str, Any]:
    """The ratio and its interval."""
    if ours is None:
        return {f"{prefix}ratio": None, f"{prefix}interval": None}
    found = ratio(mine, ours)
    interval = [folder.finite(found.low, 4), folder.finite(found.high, 4)]
    return {f"{prefix}ratio": folder.finite(found.median, 4), f"{prefix}interval": interval}
