"""Every cell of the library: `unroll` as it runs by default against plain `lax.scan`,
forward and backward.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from experiments import folder
from experiments.bench import measure, stats
from experiments.bench.config import BenchConfig
from experiments.bench.shapes import Shape, parse
from experiments.cells import CELLS

SHAPE = "16x128x64x64"
# of convolutional cells, with an eighth of the steps and a quarter of the features
PICTURE = (8, 8)
METHODS = (None, "scan")


def run(config: BenchConfig, path: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Measures each kind of cell once, and writes cells.json into the folder `path` after each.

    Returns:
        What cells.json holds: for each shape and cell the milliseconds of both, and scan / default
        with its interval.
    """
    env = json.loads((path / "env.json").read_text())
    results: dict[str, Any] = {"env": env, "load": folder.finite(os.getloadavg()[0], 3), "rows": []}
    for shape in map(parse, config.shapes or (SHAPE,)):
        for name, cell in kinds(shape).items():
            results["rows"].append({"cell": name, "shape": str(shape), **race(cell, shape, config)})
            folder.write_json(path / "cells.json", results)
            say(row(results["rows"][-1]))
    return results


def kinds(shape: Shape) -> dict[str, jaxrnn.Cell]:
    """One cell of each class, under the first of its names."""
    cells: dict[type, tuple[str, jaxrnn.Cell]] = {}
    for name, named in CELLS.items():
        cell = named.make(shape.H, shape.T)
        if cell.feature_axes > 1:
            cell = named.make(shape.H // 4, shape.T)
        cells.setdefault(type(cell), (name, cell))
    return dict(cells.values())


def race(cell: jaxrnn.Cell, shape: Shape, config: BenchConfig) -> dict[str, Any]:
    """Both methods in random order in each round, each once untimed just before;
    gradients of parameters and inputs.
    """
    keys = jax.random.split(jax.random.key(config.seed), 3)
    T, I = (shape.T, shape.I) if cell.feature_axes == 1 else (shape.T // 8, shape.I // 4)
    xs = jax.random.normal(keys[0], (T, shape.B, *(PICTURE if cell.feature_axes > 1 else ()), I))
    params = cell.init(keys[1], I)
    weights = jax.random.normal(keys[2], (shape.B,))

    def program(method: str | None) -> Callable[[], Any]:
        def loss(params: Any, xs: jax.Array) -> jax.Array:
            ys = jaxrnn.unroll(cell, params, xs, method=method)[1]
            return jnp.einsum("tb...,b->", ys**2, weights)

        compiled = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(params, xs).compile()
        return lambda: jax.block_until_ready(compiled(params, xs))

    runs = [program(method) for method in METHODS]
    rng = np.random.default_rng(config.seed)
    times = np.empty((config.most_rounds, len(runs)))
    for line in times:
        for k in rng.permutation(len(runs)):
            line[k] = measure.sample(runs[k], 1)
    ratio = stats.ratio(times[:, 1], times[:, 0])
    default, scan = (folder.finite(1e3 * float(ms), 4) for ms in np.median(times, axis=0))
    return {"ms": default, "scan_ms": scan, "ratio": [folder.finite(r, 4) for r in ratio]}


def row(one: dict[str, Any]) -> str:
    median, low, high = one["ratio"]
    return (
        f"{one['cell']:<20} {one['shape']:<14} {one['ms']:8.2f} ms   scan / ours {median:5.2f} "
        f"({low:.2f}-{high:.2f})"
    )


def report(results: dict[str, Any]) -> str:
    mean = stats.geometric_mean([one["ratio"][0] for one in results["rows"]])
    return f"scan / ours, geometric mean of {len(results['rows'])} cells: {mean:.2f}"
