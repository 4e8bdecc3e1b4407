"""Gradients against the lag, on sequences of the adding task,
before and after a short training of every cell.
"""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.config import CHUNK, GradientConfig
from experiments.report import figures
from experiments.report.prose import aligned, number
from experiments.tasks import Batch
from experiments.training import folder, programs, progress, train
from experiments.training.model import ModelParams
from jaxrnn.diagnostics import (
    carry_gradient_norms,
    carry_jacobian_norms,
    largest_lyapunov_exponent,
)

Curves = dict[str, list[float | None]]  # of each measure


def run(config: GradientConfig, path: Path, show: progress.Show) -> dict[str, Any]:
    """Measures every cell, and writes gradients.json,
    the figure and summary.json into the folder `path`.

    Returns:
        The summary: log10 of both measures at three lags.
    """
    curves = {}
    saved = {"steps": config.steps, "lag": config.lag, "curves": curves, "exponents": {}}
    for name in config.cells:
        programs.make_room()
        curves[name], saved["exponents"][name] = measure_cell(config, name, show)
        folder.write_json(path / "gradients.json", saved)
    folder.write(path / "gradients.png", figures.save(figures.gradient_figure(path)))
    lags = [config.lag // 10, config.lag // 2, config.lag - 1]
    pairs = [
        (phase, measure) for phase in next(iter(curves.values())) for measure in figures.MEASURES
    ]
    table = {
        name: {f"{m} {phase}": [cell[phase][m][lag] for lag in lags] for phase, m in pairs}
        for name, cell in curves.items()
    }
    summary = {
        "status": "done",
        "lags": lags,
        "log10": table,
        "env": folder.read_json(path / "env.json"),
    }
    folder.write_json(path / "summary.json", summary)
    return summary


def measure_cell(
    config: GradientConfig, name: str, show: progress.Show
) -> tuple[dict[str, Curves], dict[str, float | None]]:
    """The curves of one cell: {"before", "after"} -> {"loss", "jacobian"} -> log10 by lag; and its
    largest Lyapunov exponents."""
    training = config.training()
    job = train.make_job(training, name)
    rows = train.rows(training)
    show(name, 0, config.steps, "measuring", False)
    state = train.start(job, rows)
    curves = {"before": measure(job, state.params, config.sequences)}
    exponents = {"before": exponent(job, state.params, config.sequences)}
    for step in range(0, config.steps, CHUNK):
        state, losses, *_ = train.advance(job, state, rows, np.full(config.seeds, True), step)
        show(
            name,
            step + CHUNK,
            config.steps,
            f"loss {np.median(losses):.4f}",
            step + CHUNK == config.steps,
        )
    if config.steps:
        curves["after"] = measure(job, state.params, config.sequences)
        exponents["after"] = exponent(job, state.params, config.sequences)
    return curves, exponents


def measure(job: train.Job, params: ModelParams, sequences: int) -> Curves:
    """Medians over seeds and sequences of log10 of both measures, by lag from 0 to T."""
    return {
        name: [folder.finite(float(v), 4) for v in np.median(np.asarray(values), axis=(0, 1))]
        for name, values in zip(
            figures.MEASURES, curves(job.compiled(), params, sequences), strict=True
        )
    }


def exponent(job: train.Job, params: ModelParams, sequences: int) -> float | None:
    """The median over seeds and sequences of the largest Lyapunov exponent along the second half of
    a sequence, in nats a step."""
    return folder.finite(float(np.median(exponents(job.compiled(), params, sequences))), 4)


@functools.partial(jax.jit, static_argnums=(0, 2))
def exponents(job: train.Job, params: ModelParams, sequences: int) -> jax.Array:
    """The largest Lyapunov exponents, [seeds, sequences], of the sequences of `curves`."""
    xs = _sequences(job, sequences).inputs

    def one(params: ModelParams, xs: jax.Array) -> jax.Array:
        cell = job.model.cell
        return largest_lyapunov_exponent(cell, params.cell, xs, washout=len(xs) // 2)

    return jax.vmap(jax.vmap(one, (None, 1)), (0, None))(params, xs)


def _sequences(job: train.Job, count: int) -> Batch:
    """The same for every cell and seed."""
    return job.task.sample(jax.random.key(2**31 - 2), count)


@functools.partial(jax.jit, static_argnums=(0, 2))
def curves(job: train.Job, params: ModelParams, sequences: int) -> tuple[jax.Array, jax.Array]:
    """log10 of the two measures, [seeds, sequences, T + 1] each;
    every seed sees the same sequences.

    The gradient of the loss is divided by that at lag 0, so that the error of the sequence drops
    out.
    """
    batch = _sequences(job, sequences)

    def one_seed(params: ModelParams) -> tuple[jax.Array, jax.Array]:
        def loss(carry: Any, ys: jax.Array) -> jax.Array:
            return job.task.score.loss(job.model.readout(params, carry), batch)

        norms = carry_gradient_norms(job.model.cell, params.cell, batch.inputs, loss).whole[::-1]
        jacobian = functools.partial(carry_jacobian_norms, job.model.cell, params.cell)
        return (jnp.log10(norms) - jnp.log10(norms[0])).T, jax.vmap(jacobian, in_axes=1)(
            batch.inputs
        )

    return jax.vmap(one_seed)(params)


def report(summary: dict[str, Any]) -> str:
    """The summary as a table."""
    lines: list[tuple[str, ...]] = [("cell", *next(iter(summary["log10"].values())))]
    for name, columns in summary["log10"].items():
        lines.append(
            (name, *(" / ".join(number(v, ".1f") for v in values) for values in columns.values()))
        )
    return "\n".join(
        [
            f"log10 of the median norm at lags {', '.join(map(str, summary['lags']))}",
            "",
            *aligned(lines),
        ]
    )
