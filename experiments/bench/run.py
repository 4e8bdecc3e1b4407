"""A whole benchmark: every job in turn, within the time that is given, saved after each."""

import contextlib
import functools
import gc
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from experiments.bench import measure, memory, rows, schedule
from experiments.bench.config import BenchConfig
from experiments.bench.peers import PEERS, Choice
from experiments.bench.schedule import Done, Size, Took
from experiments.bench.shapes import Job
from experiments.training import folder


def use_device(device: str, cpu_devices: int) -> None:
    """Says which device JAX shall use, and leaves room for torch on a GPU.
    Counts only before JAX is first used.
    """
    jax.config.update("jax_platforms", {"cpu": "cpu", "gpu": "cuda,cpu"}[device])
    jax.config.update("jax_num_cpu_devices", cpu_devices)
    jax.config.update("jax_enable_compilation_cache", False)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.6")


class Bench(NamedTuple):
    """What a whole run shares."""

    config: BenchConfig
    names: list[str]  # of the peers that are installed
    rates: dict[str, float]  # of matrix products, by precision
    end: float  # on the monotonic clock
    results: dict[str, Any]  # what bench.json holds; filled as the run goes


def run(config: BenchConfig, path: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Measures, and writes bench.json into the folder `path` after every job.

    Returns:
        What bench.json holds.
    """
    end = time.monotonic() + config.seconds
    names = [name for name in config.names if PEERS[name].installed]
    rates = {variant: measure.matmul_rate(config.device, variant) for variant in config.precisions}
    bench = Bench(config, names, rates, end, start(config, names, rates, path))
    save = functools.partial(folder.write_json, path / "bench.json", bench.results)
    save()
    try:
        if config.measures_memory:
            memory.measure_memory(config, names, bench.results, say)
        measure_all(bench, save, say)
        bench.results["status"] = "done"
    except KeyboardInterrupt:
        bench.results["status"] = "interrupted"
    save()
    return bench.results


def start(
    config: BenchConfig, names: list[str], rates: dict[str, float], path: Path
) -> dict[str, Any]:
    """What bench.json holds before the first job."""
    return {
        "status": "running",
        "env": {**json.loads((path / "env.json").read_text()), "versions": versions(names)},
        "device": config.device,
        "cpu_devices": config.cpu_devices,
        "load": folder.finite(os.getloadavg()[0], 3),
        "matmul_gflops": {variant: folder.finite(rate / 1e9, 4) for variant, rate in rates.items()},
        "missing": {name: PEERS[name].module for name in config.names if name not in names},
        "memory": config.measures_memory,
        **{
            name: []
            for name in ("rows", "long_rows", "resident_rows", "problems", "left_out", "seconds")
        },
    }


def measure_all(bench: Bench, save: Callable[[], None], say: Callable[[str], None]) -> None:
    """Every job; the rows come in the order of the configuration, whatever is measured first."""
    load(bench.names)
    listed = bench.config.jobs()
    done = Done()
    began = time.monotonic()
    device = bench.config.device
    places = {(job.cell, str(job.shape)): k for k, job in enumerate(listed)}
    jobs = schedule.order(listed, device)
    sizes = [schedule.size(job, choices(bench, job), device) for job in jobs]
    for k, job in enumerate(jobs):
        if time.monotonic() > bench.end:
            bench.results["left_out"].append(f"{job.cell} {job.shape}")
            continue
        done = measure_job(bench, job, sizes[k:], done)
        bench.results["rows"].sort(key=lambda row: places[row["cell"], row["shape"]])
        save()
        clear()
        say(
            f"{k + 1}/{len(jobs)}  {job.cell:<4} {job.shape!s:<32} "
            f"{time.monotonic() - began:6.0f} s"
        )


def choices(bench: Bench, job: Job) -> list[Choice]:
    config = bench.config
    return measure.choices(job, bench.names, config.precisions, config.device, config.halved)


def measure_job(bench: Bench, job: Job, sizes: Sequence[Size], done: Done) -> Done:
    """Prepares and times one job; `sizes` are of it and of all that follow.

    Returns:
        What the jobs so far took, this one among them.
    """
    config = bench.config
    began = time.monotonic()
    prepared = measure.prepare(job, choices(bench, job), config.device, config.seed)
    bench.results["problems"] += prepared.problems
    first = measure.first_times(prepared.candidates)
    compiling = sum(sum(made.compile_seconds.values()) for made in prepared.candidates)
    checking = time.monotonic() - began - compiling
    took = Took(compiling, checking, sum(one.seconds for one in first.values()))
    done = done.after(sizes[0], took)
    count = schedule.count(
        done, took.a_round, sizes[1:], bench.end - time.monotonic(), config.most_rounds
    )
    bench.results["rows"] += rows.time_job(job, first, count, bench.rates, config.seed)
    seconds = {**took._asdict(), "all": time.monotonic() - began}
    where = {"cell": job.cell, "shape": str(job.shape)}
    bench.results["seconds"].append(
        where | {name: folder.finite(value, 4) for name, value in seconds.items()}
    )
    return done


def load(names: list[str]) -> None:
    """Imports the libraries before the clock of the first job runs; what they raise,
    that job tells.
    """
    for name in names:
        with contextlib.suppress(Exception):
            PEERS[name].load()


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
    return {
        module: importlib.metadata.version(packages.get(module, module))
        for module in sorted(modules)
    }
