"""What the call of a module costs beside Flax's own: eager, under plain jit and under nnx.jit."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from flax import nnx

import jaxrnn.linen
import jaxrnn.nnx
from experiments.bench import measure, stats
from experiments.bench.config import BenchConfig
from experiments.bench.shapes import Shape, parse
from experiments.report.prose import aligned
from experiments.training import folder

# so little to compute that the call is what is measured
SHAPES = ("1x4x8x8", "4x16x16x32")
OURS = "jaxrnn"
FLAX = "flax"

Calls = dict[str, dict[str, Callable[[], Any]]]


def run(config: BenchConfig, path: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Times one call of an LSTM in each way, and writes calls.json into the folder `path`.

    Returns:
        What calls.json holds: for each shape and way the microseconds of a call, and the time of
        Flax over ours with its interval; null where Flax compiles anew at each call.
    """
    env = json.loads((path / "env.json").read_text())
    results: dict[str, Any] = {"env": env, "rows": []}
    for shape in map(parse, config.shapes or SHAPES):
        results["rows"] += race(shape, made(shape), config)
        folder.write_json(path / "calls.json", results)
        say(f"{shape}: done")
    return results


def race(shape: Shape, ways: Calls, config: BenchConfig) -> list[dict[str, Any]]:
    """All ways in random order in each round, each once untimed just before."""
    names = [(way, library) for way, libraries in ways.items() for library in libraries]
    runs = [functools.partial(_finished, ways[way][library]) for way, library in names]
    counts = [measure.calls(measure.first_time(run)) for run in runs]
    every = [1] * len(runs)
    times = measure.in_turn(runs, counts, every, config.most_rounds, config.seed)
    columns = dict(zip(names, times.T, strict=True))
    rows = []
    for way, libraries in ways.items():
        ours = columns[way, OURS]
        row: dict[str, Any] = {"shape": str(shape), "way": way, "us": _us(ours)}
        row |= {"flax_us": None, "ratio": None}
        if FLAX in libraries:
            theirs = columns[way, FLAX]
            row["flax_us"] = _us(theirs)
            row["ratio"] = [folder.finite(r, 4) for r in stats.ratio(theirs, ours)]
        rows.append(row)
    return rows


def made(shape: Shape) -> Calls:
    """Calls without arguments, by way and library. Flax's loops compile anew in an eager call."""
    rng = np.random.default_rng(0)
    xs = jax.numpy.asarray(rng.normal(size=(shape.B, shape.T, shape.I)).astype(np.float32))
    ours = jaxrnn.nnx.LSTM(shape.I, shape.H, batch_first=True, rngs=nnx.Rngs(0))
    cell = nnx.OptimizedLSTMCell(shape.I, shape.H, rngs=nnx.Rngs(0))
    flax = nnx.RNN(cell, return_carry=True, rngs=nnx.Rngs(0))
    linen = jaxrnn.linen.LSTM(shape.I, shape.H, batch_first=True)
    variables = linen.init(jax.random.key(0), xs)
    theirs = nn.RNN(nn.OptimizedLSTMCell(shape.H), return_carry=True)
    flax_variables = theirs.init(jax.random.key(0), xs)
    core = jax.jit(lambda params, xs: jaxrnn.unroll(ours.cell, params, xs))
    params = ours.params
    steps = jax.numpy.moveaxis(xs, 1, 0)
    call = nnx.jit(lambda module, xs: module(xs))
    plain = jax.jit(lambda module, xs: module(xs))
    apply = jax.jit(linen.apply)
    flax_apply = jax.jit(theirs.apply)
    return {
        "unroll, jax.jit": {OURS: lambda: core(params, steps)},
        "nnx, eager": {OURS: lambda: ours(xs)},
        "nnx, nnx.jit": {OURS: lambda: call(ours, xs), FLAX: lambda: call(flax, xs)},
        "nnx, jax.jit": {OURS: lambda: plain(ours, xs), FLAX: lambda: plain(flax, xs)},
        "linen, eager": {OURS: lambda: linen.apply(variables, xs)},
        "linen, jax.jit": {
            OURS: lambda: apply(variables, xs),
            FLAX: lambda: flax_apply(flax_variables, xs),
        },
    }


def report(results: dict[str, Any]) -> str:
    """The table."""
    head = ("shape", "way", "us", "flax us", "flax / jaxrnn")
    return "\n".join(
        [
            "A call of an LSTM: microseconds, the median over the rounds, and the time of Flax's "
            "OptimizedLSTMCell in its RNN over it, with its 95 % interval.",
            "",
            *aligned([head, *map(line, results["rows"])]),
        ]
    )


def line(row: dict[str, Any]) -> tuple[str, ...]:
    if row["ratio"] is None:
        return (row["shape"], row["way"], f"{row['us']:.0f}", "", "")
    median, low, high = row["ratio"]
    ratio = f"{median:.2f} ({low:.2f}-{high:.2f})"
    return (row["shape"], row["way"], f"{row['us']:.0f}", f"{row['flax_us']:.0f}", ratio)


def _us(times: np.ndarray) -> float | None:
    return folder.finite(1e6 * float(np.median(times)), 4)


def _finished(call: Callable[[], Any]) -> Any:
    return jax.block_until_ready(call())
