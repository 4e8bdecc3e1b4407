"""The numbers of a job: a flat row for each candidate and mode."""

from typing import Any

import numpy as np

from experiments.bench import measure
from experiments.bench.candidate import Candidate
from experiments.bench.measure import First
from experiments.bench.peers import BOTH, OURS, Choice
from experiments.bench.shapes import Job, flops
from experiments.bench.stats import ratio
from experiments.training import folder

# which of our variants a peer's is held against, where ours does not have it
BASE = {"float16": "bfloat16"}


def time_job(
    job: Job, first: dict[str, First], count: int, rates: dict[str, float], seed: int
) -> list[dict[str, Any]]:
    """Times every candidate of a job for `count` rounds in each mode."""
    rows = []
    for mode, one in first.items():
        times = measure.rounds(one, mode, count, seed)
        columns = {made.choice: times[:, k] for k, made in enumerate(one.candidates)}
        rows += [
            row(job, mode, made, columns, rates[made.choice.variant]) for made in one.candidates
        ]
    return rows


def row(
    job: Job, mode: str, made: Candidate, columns: dict[Choice, np.ndarray], rate: float
) -> dict[str, Any]:
    """Numbers of one candidate: `ratio` is to jaxrnn on one device, `split_ratio` to that on two;
    None where it was not timed.
    """
    mine = columns[made.choice]
    variant = BASE.get(made.choice.variant, made.choice.variant)
    median = float(np.nanmedian(mine))
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
        "rounds": int(np.sum(np.isfinite(mine))),
        "error": folder.finite(made.error, 3),
        "compile_seconds": made.compile_seconds.get(mode)
        and folder.finite(made.compile_seconds[mode], 3),
        "temp_bytes": made.temp_bytes if mode == BOTH else None,
    }


def compared(prefix: str, mine: np.ndarray, ours: np.ndarray | None) -> dict[str, Any]:
    """The ratio and its interval, over the rounds that both ran in."""
    both = np.isfinite(mine) & np.isfinite(np.nan if ours is None else ours)
    if ours is None or not np.any(both):
        return {f"{prefix}ratio": None, f"{prefix}interval": None}
    found = ratio(mine[both], ours[both])
    interval = [folder.finite(found.low, 4), folder.finite(found.high, 4)]
    return {f"{prefix}ratio": folder.finite(found.median, 4), f"{prefix}interval": interval}
