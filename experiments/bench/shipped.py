"""One step of a shipped cell: its C header and its ONNX model beside `jax.jit`, one sequence at a
time, as audio and control have it."""

import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from experiments.bench.config import BenchConfig
from experiments.bench.shapes import parse
from experiments.report.prose import aligned
from experiments.training import folder
from jaxrnn.cells import LEMCell
from jaxrnn.interop import to_c, to_onnx

SHAPES = ("1x1000x1x32",)
KINDS = {"gru": jaxrnn.GRUCell, "lstm": jaxrnn.LSTMCell, "lem": LEMCell}
ROUNDS = 7
MAIN = """
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "model.h"

int main(int count, char **words) {
    const int steps = count > 1 ? atoi(words[1]) : 0;
    float *x = malloc(sizeof(float) * steps * MODEL_INPUT_SIZE);
    float *y = malloc(sizeof(float) * steps * MODEL_OUTPUT_SIZE);
    model_state state;
    struct timespec began, ended;
    if (fread(x, sizeof(float) * MODEL_INPUT_SIZE, steps, stdin) != (size_t)steps) return 1;
    model_reset(&state);
    clock_gettime(CLOCK_MONOTONIC, &began);
    for (int t = 0; t < steps; t++)
        model_step(&state, x + t * MODEL_INPUT_SIZE, y + t * MODEL_OUTPUT_SIZE);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    const double nanoseconds = ended.tv_nsec - began.tv_nsec;
    fprintf(stderr, "%.9f", (ended.tv_sec - began.tv_sec) + 1e-9 * nanoseconds);
    fwrite(y, sizeof(float) * MODEL_OUTPUT_SIZE, steps, stdout);
    return 0;
}
"""
Timed = Callable[[], tuple[float, np.ndarray]]  # seconds of all steps, and the outputs


def run(config: BenchConfig, path: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Times each, and writes shipped.json into the folder `path`.

    Returns:
        What shipped.json holds: for each cell and way the microseconds of a step, the bytes of the
        file, and the largest difference of all steps from `unroll`.
    """
    env = json.loads((path / "env.json").read_text())
    results: dict[str, Any] = {"env": env, "rows": []}
    for shape in map(parse, config.shapes or SHAPES):
        for name, kind in KINDS.items():
            results["rows"] += race(name, kind(shape.H), (shape.T, shape.I), config)
            folder.write_json(path / "shipped.json", results)
            say(f"{name}: done")
    return results


def race(
    name: str, cell: jaxrnn.Cell, sizes: tuple[int, int], config: BenchConfig
) -> list[dict[str, Any]]:
    """All ways in random order in each round; the first of each is not timed."""
    T, inputs = sizes
    rng = np.random.default_rng(config.seed)
    params = cell.init(jax.random.key(config.seed), inputs)
    params = jax.tree.map(lambda a: a + 0.1 * rng.normal(size=a.shape).astype(a.dtype), params)
    xs = rng.normal(size=(T, inputs)).astype(np.float32)
    want = np.asarray(jaxrnn.unroll(cell, params, jnp.asarray(xs))[1])
    with tempfile.TemporaryDirectory() as place:
        header = to_c(cell, params)
        model = to_onnx(cell, params, step=True)
        ways: dict[str, tuple[Timed, int | None]] = {
            "C": (_in_c(header, Path(place), xs), len(header)),
            "onnxruntime": (_in_onnxruntime(model, xs), len(model)),
            "jax.jit": (_in_jax(cell, params, xs), None),
        }
        times: dict[str, list[float]] = {way: [] for way in ways}
        outputs = {way: run()[1] for way, (run, _) in ways.items()}
        for _ in range(min(config.most_rounds, ROUNDS)):
            for way in rng.permutation(list(ways)):
                times[way].append(ways[way][0]()[0])
    return [
        {
            "cell": name,
            "way": way,
            "us": folder.finite(1e6 * float(np.median(times[way])) / T, 3),
            "bytes": size,
            "difference": folder.finite(float(np.abs(outputs[way].reshape(T, -1) - want).max()), 2),
        }
        for way, (_, size) in ways.items()
    ]


def _in_c(header: str, place: Path, xs: np.ndarray) -> Timed:
    (place / "model.h").write_text(header)
    (place / "main.c").write_text(MAIN)
    command = ["cc", "-O3", "-march=native", "-ffast-math", "-o", "model", "main.c", "-lm"]
    subprocess.run(command, cwd=place, check=True)

    def timed() -> tuple[float, np.ndarray]:
        ran = subprocess.run(
            [place / "model", f"{len(xs)}"], input=xs.tobytes(), capture_output=True, check=True
        )
        return float(ran.stderr), np.frombuffer(ran.stdout, np.float32)

    return timed


def _in_onnxruntime(model: bytes, xs: np.ndarray) -> Timed:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    first, *states = session.get_inputs()

    def timed() -> tuple[float, np.ndarray]:
        given = {s.name: np.zeros((1, *s.shape[1:]), np.float32) for s in states}
        rows: list[Any] = []
        began = time.perf_counter()
        for x in xs:
            y, *after = session.run(None, {first.name: x[None]} | given)
            given = dict(zip(given, after, strict=True))
            rows.append(y)
        return time.perf_counter() - began, np.concatenate(rows)

    return timed


def _in_jax(cell: jaxrnn.Cell, params: Any, xs: np.ndarray) -> Timed:
    one = jax.jit(cell)
    first = jaxrnn.initial_carry(cell, params, (1,))

    def timed() -> tuple[float, np.ndarray]:
        carry = first
        rows = []
        began = time.perf_counter()
        for x in xs:
            carry, y = one(params, carry, x[None])
            rows.append(np.asarray(y))
        return time.perf_counter() - began, np.concatenate(rows)

    return timed


def report(results: dict[str, Any]) -> str:
    """The table."""
    head = ("cell", "way", "us a step", "bytes", "from unroll")
    rows = [
        (
            row["cell"],
            row["way"],
            f"{row['us']:g}",
            "" if row["bytes"] is None else f"{row['bytes']:,}",
            f"{row['difference']:.0e}",
        )
        for row in results["rows"]
    ]
    return "\n".join(aligned([head, *rows]))
