"""Linear recurrences: `affine_scan` against the loops one would write, each linear cell by each
method that runs it, and cells that Newton's method makes linear.
"""

import functools
import importlib
import importlib.util
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import jaxrnn
from experiments.bench import every_cell, measure, stats
from experiments.bench.candidate import finished
from experiments.bench.config import BenchConfig
from experiments.bench.peers import BOTH, FORWARD
from experiments.bench.shapes import Shape, parse
from experiments.cells import CELLS
from experiments.report.prose import aligned
from experiments.training import folder

# rows, steps, inputs and units of the cells; of the scans alone
SHAPES = ("1x16384x64x64", "8x2048x128x128", "16x512x256x256")
SCANS = (*SHAPES, "1x65536x8x8", "1x1000000x1x1")
METHODS = ("affine", "fused", "scan")
NEWTON = ("newton", "fused", "scan")
BY_NEWTON = ("paragru", "paralstm")
PEER = "memax"
PEERS = "experiments.bench.peers"
OURS = "affine_scan"
DEFAULT = "default"
MODES = (FORWARD, BOTH)
SLOW = 10_000_000  # numbers, beyond which `lax.associative_scan` is left out
TITLES = ("recurrence", "shape", "by", "forward ms", "over it", "both ms", "over it")

Run = Callable[..., Any]


def run(config: BenchConfig, path: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Measures, and writes linear.json into the folder `path` after each.

    Returns:
        What linear.json holds: for each recurrence, shape and way to run it, in both modes, the
        milliseconds, and that time over the time of ours with its interval; of scans also the
        milliseconds of compilation and the bytes of temporary memory, forward and backward.
    """
    env = json.loads((path / "env.json").read_text())
    results: dict[str, Any] = {"env": env, "rows": []}

    def add(rows: list[dict[str, Any]]) -> None:
        results["rows"] += rows
        folder.write_json(path / "linear.json", results)
        say(f"{rows[0]['recurrence']} {rows[0]['shape']}: done")

    for shape in map(parse, config.shapes or SCANS):
        add(scans(shape, config))
    for shape in map(parse, config.shapes or SHAPES):
        for name, cell in linear(shape).items():
            add(methods(name, cell, shape, config, METHODS))
        for name in BY_NEWTON:
            add(methods(name, CELLS[name].make(shape.H, shape.T), shape, config, NEWTON))
    return results


def linear(shape: Shape) -> dict[str, jaxrnn.Cell]:
    """One cell of each class that the affine method runs, under the first of its names; no
    stacks."""
    found = {}
    alone = {n: c for n, c in every_cell.kinds(shape).items() if not isinstance(c, jaxrnn.Stack)}
    for name, cell in alone.items():
        if cell.feature_axes == 1:
            (told, *_) = jaxrnn.explain(cell, (shape.T, shape.B, shape.I))
            if "affine" not in told.refused:
                found[name] = cell
    return found | {"sru_linear": CELLS["sru_linear"].make(shape.H, shape.T)}


def scans(shape: Shape, config: BenchConfig) -> list[dict[str, Any]]:
    """The scan alone: h_t = a_t h_{t-1} + b_t over [T, B, H], a from U(0.9, 0.999)."""
    keys = jax.random.split(jax.random.key(config.seed), 4)
    sizes = (shape.T, shape.B, shape.H)
    a = jax.random.uniform(keys[0], sizes, minval=0.9, maxval=0.999)
    b = jax.random.normal(keys[1], sizes)
    start = jax.random.normal(keys[2], sizes[1:])
    weights = jax.random.normal(keys[3], sizes)
    ways: dict[str, Run] = {OURS: ours, "lax.scan": loop}
    if a.size <= SLOW:
        ways["lax.associative_scan"] = associative
    forward = [jax.jit(way) for way in ways.values()]
    both = [jax.jit(jax.grad(functools.partial(_loss, way), (0, 1, 2))) for way in ways.values()]
    built = [_built(program, (a, b, start, weights)) for program in both]
    found = {
        FORWARD: _timed(forward, (a, b, start), config),
        BOTH: _timed(both, (a, b, start, weights), config),
    }
    rows = _rows("affine scan", shape, list(ways), found)
    return [row | costs for row, costs in zip(rows, built, strict=True)]


def _built(program: Any, arguments: Any) -> dict[str, Any]:
    """Milliseconds of the first compilation, and bytes of temporary memory."""
    lowered = program.lower(*arguments)
    begun = time.perf_counter()
    compiled = lowered.compile()
    seconds = time.perf_counter() - begun
    memory: Any = compiled.memory_analysis()
    return {"compile_ms": folder.finite(1e3 * seconds, 4), "temporary": memory.temp_size_in_bytes}


def methods(
    name: str, cell: jaxrnn.Cell, shape: Shape, config: BenchConfig, ways: Sequence[str]
) -> list[dict[str, Any]]:
    """A cell by default and by each method, gradients of parameters and inputs; and an LRU by
    memax, where that is installed."""
    params, xs, weights = every_cell.drawn(cell, shape, config.seed)
    programs = [every_cell.programs(cell, method) for method in (None, *ways)]
    if name == "lru" and shape.I == shape.H and importlib.util.find_spec(PEER):
        programs.append(every_cell.timed(importlib.import_module(f"{PEERS}.{PEER}").lru))
        ways = (*ways, PEER)
    arguments = {FORWARD: (params, xs), BOTH: (params, xs, weights)}
    found = {
        mode: _timed([jax.jit(one[mode]) for one in programs], arguments[mode], config)
        for mode in MODES
    }
    return _rows(name, shape, [DEFAULT, *ways], found)


def ours(a: jax.Array, b: jax.Array, start: jax.Array) -> jax.Array:
    return jaxrnn.affine_scan(a, b, start)[1]


def loop(a: jax.Array, b: jax.Array, start: jax.Array) -> jax.Array:
    def step(h: jax.Array, inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        a_t, b_t = inputs
        h = a_t * h + b_t
        return h, h

    return lax.scan(step, start, (a, b))[1]


def associative(a: jax.Array, b: jax.Array, start: jax.Array) -> jax.Array:
    def join(first: Any, second: Any) -> tuple[jax.Array, jax.Array]:
        return second[0] * first[0], second[0] * first[1] + second[1]

    return lax.associative_scan(join, (a, b.at[0].add(a[0] * start)))[1]


def _loss(way: Run, a: jax.Array, b: jax.Array, start: jax.Array, weights: jax.Array) -> jax.Array:
    return jnp.vdot(way(a, b, start), weights)


def _timed(programs: Sequence[Any], arguments: Any, config: BenchConfig) -> np.ndarray:
    """Seconds [rounds, programs], in random order in each round, each once untimed just before."""
    compiled = [program.lower(*arguments).compile() for program in programs]
    runs = [functools.partial(finished, program, arguments) for program in compiled]
    calls = [measure.calls(measure.first_time(one)) for one in runs]
    every = (1,) * len(runs)
    return measure.in_turn(runs, calls, every, config.most_rounds, config.seed)


def _rows(
    recurrence: str, shape: Shape, ways: list[str], found: dict[str, np.ndarray]
) -> list[dict[str, Any]]:
    rows = []
    for k, way in enumerate(ways):
        row: dict[str, Any] = {"recurrence": recurrence, "shape": str(shape), "by": way}
        for mode, times in found.items():
            ratio = stats.ratio(times[:, k], times[:, 0])
            row[mode] = {
                "ms": folder.finite(1e3 * float(np.median(times[:, k])), 4),
                "ratio": [folder.finite(r, 4) for r in ratio],
            }
        rows.append(row)
    return rows


def report(results: dict[str, Any]) -> str:
    """The table, and what compiling and memory are of the scans."""
    return "\n".join(
        [
            "Milliseconds, the median over the rounds, and the time over that of the first line of "
            "each, with its 95 % interval: above 1, the first is faster.",
            "",
            *aligned([TITLES, *map(_line, results["rows"])]),
            "",
            "The scans forward and backward: compilation and temporary memory.",
            "",
            *aligned(
                [
                    ("shape", "by", "compile ms", "temporary MB"),
                    *(
                        (
                            row["shape"],
                            row["by"],
                            f"{row['compile_ms']:.0f}",
                            f"{row['temporary'] / 1e6:.1f}",
                        )
                        for row in results["rows"]
                        if "compile_ms" in row
                    ),
                ]
            ),
        ]
    )


def _line(row: dict[str, Any]) -> tuple[str, ...]:
    def told(mode: str) -> tuple[str, str]:
        median, low, high = row[mode]["ratio"]
        first = (low, high) == (1, 1)
        return f"{row[mode]['ms']:.3g}", "" if first else f"{median:.2f} ({low:.2f}-{high:.2f})"

    return (row["recurrence"], row["shape"], row["by"], *told(FORWARD), *told(BOTH))
