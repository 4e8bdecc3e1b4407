"""Every cell of the library, and four of strangers: `unroll` as it runs by default against plain
`lax.scan`, forward and backward, and forward alone.
"""

import functools
import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from experiments.bench import measure, stats
from experiments.bench.candidate import finished
from experiments.bench.config import BenchConfig
from experiments.bench.peers import BOTH, FORWARD
from experiments.bench.shapes import Shape, parse
from experiments.bench.strangers import strangers
from experiments.cells import CELLS
from experiments.report.prose import aligned
from experiments.training import folder

# few sequences, many, and one: what a step costs beside its products weighs most in the last
SHAPES = ("16x128x64x64", "64x64x32x128", "1x300x32x64")
# of convolutional cells, with an eighth of the steps and a quarter of the features
PICTURE = (8, 8)
METHODS = (None, "scan")
MODES = (BOTH, FORWARD)
# what the last lines count: a loss of less than 3 % is none
BELOW = 0.97
TITLES = ("scan ms", "scan / default")
ITSELF = "the scan itself"

Row = dict[str, Any]


def run(config: BenchConfig, path: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Measures each kind of cell once a shape, and writes cells.json into the folder `path` after
    each.

    Returns:
        What cells.json holds: for each shape and cell, and each mode, the milliseconds of both, and
        scan / default with its interval, which is null where the default is the scan itself.
    """
    env = json.loads((path / "env.json").read_text())
    results: dict[str, Any] = {"env": env, "load": folder.finite(os.getloadavg()[0], 3), "rows": []}
    for shape in map(parse, config.shapes or SHAPES):
        for name, cell in (kinds(shape) | strangers(shape.H)).items():
            results["rows"].append({"cell": name, "shape": str(shape), **race(cell, shape, config)})
            folder.write_json(path / "cells.json", results)
            say(told(results["rows"][-1]))
    return results


def kinds(shape: Shape) -> dict[str, jaxrnn.Cell]:
    """One cell of each class of the library, under the first of its names; one around another is
    a kind of its own."""
    cells: dict[tuple[type, ...], tuple[str, jaxrnn.Cell]] = {}
    for name, named in CELLS.items():
        cell = named.make(shape.H, shape.T)
        if cell.feature_axes > 1:
            cell = named.make(shape.H // 4, shape.T)
        kind = (type(cell), type(getattr(cell, "cell", None)))
        cells.setdefault(kind, (name, cell))
    return dict(cells.values())


def race(cell: jaxrnn.Cell, shape: Shape, config: BenchConfig) -> dict[str, Row]:
    """Both methods in each mode: gradients of parameters and inputs, and outputs alone."""
    params, xs, weights = drawn(cell, shape, config.seed)
    ours, scan = (programs(cell, method) for method in METHODS)
    arguments = {BOTH: (params, xs, weights), FORWARD: (params, xs)}
    return {mode: compared((ours[mode], scan[mode]), arguments[mode], config) for mode in MODES}


def drawn(cell: jaxrnn.Cell, shape: Shape, seed: int) -> tuple[Any, jax.Array, jax.Array]:
    """Parameters, inputs, and the weights of the sequences in the loss."""
    keys = jax.random.split(jax.random.key(seed), 3)
    T, I = (shape.T, shape.I) if cell.feature_axes == 1 else (shape.T // 8, shape.I // 4)
    xs = jax.random.normal(keys[0], (T, shape.B, *(PICTURE if cell.feature_axes > 1 else ()), I))
    return cell.init(keys[1], I), xs, jax.random.normal(keys[2], (shape.B,))


def programs(cell: jaxrnn.Cell, method: str | None) -> dict[str, Callable[..., Any]]:
    """What is timed of a cell, by mode."""

    def forward(params: Any, xs: jax.Array) -> Any:
        return jaxrnn.unroll(cell, params, xs, method=method)

    return timed(forward)


def timed(forward: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """By mode, what is timed of a function that gives a carry and outputs."""

    def loss(params: Any, xs: jax.Array, weights: jax.Array) -> jax.Array:
        ys = forward(params, xs)[1]
        return jnp.einsum("tb...,b->", ys**2, weights)

    return {BOTH: jax.grad(loss, argnums=(0, 1)), FORWARD: forward}


def compared(
    functions: Sequence[Callable[..., Any]], arguments: tuple[Any, ...], config: BenchConfig
) -> Row:
    """The default and the scan in random order in each round, each once untimed just before;
    where both are one program, it is timed alone.
    """
    ours, scan = (jax.jit(function).lower(*arguments) for function in functions)
    one = ours.as_text() == scan.as_text()
    compiled = [program.compile() for program in ((ours,) if one else (ours, scan))]
    runs = [functools.partial(finished, program, arguments) for program in compiled]
    calls = [measure.calls(measure.first_time(run)) for run in runs]
    times = measure.in_turn(runs, calls, (1,) * len(runs), config.most_rounds, config.seed)
    ms = [folder.finite(1e3 * float(middle), 4) for middle in np.median(times, axis=0)]
    found = {"ms": ms[0], "scan_ms": ms[-1]}
    if one:
        return {**found, "ratio": None, "note": ITSELF}
    ratio = stats.ratio(times[:, 1], times[:, 0])
    return {**found, "ratio": [folder.finite(r, 4) for r in ratio]}


def told(row: Row) -> str:
    """A row, while the others are measured."""
    words = (f"{mode} {row[mode].get('note', scan_over_default(row[mode]))}" for mode in MODES)
    return f"{row['cell']:<20} {row['shape']:<14} scan / default: {', '.join(words)}"


def report(results: dict[str, Any]) -> str:
    """The table, first what runs slower by default than as the scan, and the means."""
    rows = sorted(results["rows"], key=slowest)
    slower = sum(slowest(row) < math.inf for row in rows)
    head = ("cell", "shape", *(title for mode in MODES for title in (f"{mode} ms", *TITLES)))
    return "\n".join(
        [
            "scan / default: time of plain lax.scan / time of the default, the median over the "
            "rounds and its 95 % interval;",
            "above 1, the default is faster; =: the default is the scan itself.",
            f"The first {slower} of {len(rows)} rows are slower by default: the upper end of an "
            "interval is below 1.",
            "",
            *aligned([head, *map(line, rows)]),
            "",
            *(mean(rows, mode) for mode in MODES),
        ]
    )


def slowest(row: Row) -> float:
    """The lowest of the ratios whose interval ends below 1; infinite where none does."""
    ratios = [row[mode]["ratio"] for mode in MODES if row[mode]["ratio"]]
    return min((median for median, _, high in ratios if high < 1), default=math.inf)


def line(row: Row) -> tuple[str, ...]:
    """A row of the table."""
    modes = (row[mode] for mode in MODES)
    columns = ((ms(one["ms"]), ms(one["scan_ms"]), scan_over_default(one)) for one in modes)
    return (row["cell"], row["shape"], *(text for texts in columns for text in texts))


def ms(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def scan_over_default(one: Row) -> str:
    if one["ratio"] is None:
        return "="
    median, low, high = one["ratio"]
    return f"{median:.2f} ({low:.2f}-{high:.2f})"


def mean(rows: Sequence[Row], mode: str) -> str:
    """The geometric mean of a mode, in which the scan itself counts as 1."""
    ratios = [row[mode]["ratio"] or (1.0, 1.0, 1.0) for row in rows]
    itself = sum(row[mode]["ratio"] is None for row in rows)
    below = sum(high < BELOW for _, _, high in ratios)
    return (
        f"{mode}: scan / default {stats.geometric_mean([median for median, _, _ in ratios]):.2f}, "
        f"the geometric mean of {len(rows)} rows, {itself} of them the scan itself (1); "
        f"{below} below {BELOW} by the upper end of their interval"
    )
