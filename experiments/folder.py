"""The folder of a run: config.yaml, env.json, metrics.jsonl, a figure, and summary.json, whose presence means that it ended."""

import dataclasses
import importlib.metadata
import itertools
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import yaml

from experiments.bench.config import BenchConfig
from experiments.config import Config, GradientConfig, UsageError


def create(name: str, config: Config | GradientConfig | BenchConfig) -> Path:
    """Makes the folder of a new run, and writes into it what is to be run and where.

    Raises:
        UsageError: `config.out` already holds a run.
    """
    folder = _new("runs", name) if config.out is None else Path(config.out)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with open(folder / "config.yaml", "x") as file:
            file.write(to_yaml(config))
    except FileExistsError:
        raise UsageError(f"{folder} already holds a run; name another folder, or none for a new one.") from None
    write(folder / "env.json", json.dumps(environment(), indent=2) + "\n")
    return folder


def _new(parent: str, name: str) -> Path:
    """Makes runs/name, runs/name-2, ...: the first that does not exist."""
    Path(parent).mkdir(exist_ok=True)
    for n in itertools.count(1):
        folder = Path(parent) / (name if n == 1 else f"{name}-{n}")
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            continue
    raise AssertionError


def to_yaml(config: Config | GradientConfig | BenchConfig) -> str:
    """The configuration without `out`, so that it can be run again as it is."""
    values = {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(config).items() if name != "out"}
    return yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=120)


def environment() -> dict[str, Any]:
    """Versions, devices, commit and arguments."""
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "optax", "numpy")},
        "platform": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        "devices": jax.local_device_count(),  # batches are split over them, which decides the last digits
        "cpus": os.cpu_count(),
        "commit": git.stdout.strip() or None,
        "argv": ["python", "-m", "experiments", *sys.argv[1:]],
    }


def append(folder: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Appends flat rows to metrics.jsonl; they are on disk when this returns."""
    with open(folder / "metrics.jsonl", "a") as file:
        file.writelines(json.dumps(row, allow_nan=False) + "\n" for row in rows)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def write(path: Path, text: str | Callable[[Path], None]) -> None:
    """Writes a whole file or nothing: `text`, or what the function writes to the path it is given."""
    temporary = path.with_name(f".{path.name}.tmp{path.suffix}")
    try:
        temporary.write_text(text) if isinstance(text, str) else text(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, data: Any) -> None:
    write(path, json.dumps(data, indent=1, allow_nan=False) + "\n")


def finite(x: float, digits: int = 6) -> float | None:
    """`x` rounded, or None where it is NaN or infinite, which JSON has no word for."""
    return float(f"{x:.{digits}g}") if math.isfinite(x) else None
