"""A whole benchmark: every job in turn, within the time that is given, saved after each."""

import gc
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from experiments import folder
from experiments.bench import measure
from experiments.bench.candidate import BOTH, FORWARD, MODES
from experiments.bench.config import BenchConfig
from experiments.bench.measure import Prepared
from experiments.bench.peers import OURS, PEERS
from experiments.bench.shapes import Job, flops
from experiments.bench.stats import ratio

BASE = {"float16": "bfloat16"}  # which of our variants a peer's is held against, where ours does not have it
SHARE = {FORWARD: 0.3, BOTH: 0.7}  # of a job's time


def use_device(device: str) -> None:
    """Says which device JAX shall use, and leaves room for torch on a GPU. Counts only before JAX is first used."""
    jax.config.update("jax_platforms", {"cpu": "cpu", "gpu": "cuda,cpu"}[device])
    jax.config.update("jax_enable_compilation_cache", False)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.6")


def run(config: BenchConfig, path: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Measures, and writes bench.json into the folder `path` after every job.

    Returns:
        What bench.json holds.
    """
    names = [name for name in config.names if PEERS[name].installed]
    rates = {variant: measure.matmul_rate(config.device, variant) for variant in config.precisions}
    results: dict[str, Any] = {
        "status": "running",
        "env": {**json.loads((path / "env.json").read_text()), "versions": versions(names)},
        "device": config.device,
        "load": folder.finite(os.getloadavg()[0], 3),
        "matmul_gflops": {variant: folder.finite(rate / 1e9, 4) for variant, rate in rates.items()},
        "missing": {name: PEERS[name].module for name in config.names if name not in names},
        "rows": [],
        "problems": [],
        "left_out": [],
    }
    folder.write_json(path / "bench.json", results)
    try:
        measure_all(config, names, rates, results, path, say)
        results["status"] = "done"
    except KeyboardInterrupt:
        results["status"] = "interrupted"
    folder.write_json(path / "bench.json", results)
    return results


def measure_all(config: BenchConfig, names: list[str], rates: Any, results: Any, path: Path, say: Callable[[str], None]) -> None:
    """Fills `results`."""
    jobs, start, preparing = config.jobs(), time.monotonic(), 0.0
    for k, job in enumerate(jobs):
        began = time.monotonic()
        if began - start > config.seconds:
            results["left_out"].append(f"{job.cell} {job.shape}")
            continue
        prepared = measure.prepare(job, names, config.precisions, config.device, config.seed)
        preparing += time.monotonic() - began
        left = config.seconds - (time.monotonic() - start) - preparing / (k + 1) * (len(jobs) - k - 1)
        seconds = left * cost(job, config.device) / sum(cost(other, config.device) for other in jobs[k:])
        results["rows"] += time_job(job, prepared, config, rates, max(seconds, 0.0))
        results["problems"] += prepared.problems
        folder.write_json(path / "bench.json", results)
        del prepared
        clear()
        say(f"{k + 1}/{len(jobs)}  {job.cell:<4} {job.shape!s:<32} {time.monotonic() - start:6.0f} s")


def time_job(job: Job, prepared: Prepared, config: BenchConfig, rates: Any, seconds: float) -> list[dict[str, Any]]:
    """A row for each candidate and mode."""
    rows = []
    for mode in MODES if prepared.candidates else ():
        runs = [made.run[mode] for made in prepared.candidates]
        times = measure.rounds(runs, SHARE[mode] * seconds, config.most_rounds, config.seed)
        columns = {(made.peer, made.variant): times[:, k].tolist() for k, made in enumerate(prepared.candidates)}
        for made in prepared.candidates:
            mine = columns[made.peer, made.variant]
            ours = columns.get((OURS, BASE.get(made.variant, made.variant)))
            rows.append(row(job, mode, made, mine, ours, prepared.errors[made.peer, made.variant], rates[made.variant]))
    return rows


def row(job: Job, mode: str, made: Any, mine: list[float], ours: list[float] | None, error: float, rate: float) -> Any:
    """Numbers of one candidate; `ratio` is None where ours could not be timed."""
    median = sorted(mine)[len(mine) // 2]
    compared = None if ours is None else ratio(mine, ours)
    return {
        "cell": job.cell,
        "shape": str(job.shape),
        "mode": mode,
        "peer": made.peer,
        "variant": made.variant,
        "ms": folder.finite(1e3 * median),
        "us_per_step": folder.finite(1e6 * median / job.shape.T, 4),
        "of_limit": folder.finite(flops(job, mode == BOTH) / rate / median, 3),
        "ratio": None if compared is None else folder.finite(compared.median, 4),
        "interval": None if compared is None else [folder.finite(compared.low, 4), folder.finite(compared.high, 4)],
        "rounds": len(mine),
        "error": folder.finite(error, 3),
        "compile_seconds": made.compile_seconds.get(mode) and folder.finite(made.compile_seconds[mode], 3),
        "temp_bytes": made.temp_bytes if mode == BOTH else None,
    }


def cost(job: Job, device: str) -> float:
    """A rough time of one round, for sharing out what is left: arithmetic, and the overhead of each step."""
    rate, step = {"cpu": (1e11, 5e-6), "gpu": (1e14, 3e-5)}[device]
    return flops(job, True) / rate + job.shape.T * job.shape.layers * job.shape.directions * step


def clear() -> None:
    """Frees what the last job has compiled and allocated."""
    jax.clear_caches()
    gc.collect()
    if "torch" in sys.modules and sys.modules["torch"].cuda.is_available():
        sys.modules["torch"].cuda.empty_cache()


def versions(names: list[str]) -> dict[str, str]:
    """The installed version of every peer's library."""
    packages = {"haiku": "dm-haiku"}
    modules = {PEERS[name].module for name in names} - {"jaxrnn", "jax"}
    return {module: importlib.metadata.version(packages.get(module, module)) for module in sorted(modules)}
