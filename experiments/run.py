"""A training run: every cell at every learning rate, until its seeds have solved the task or the updates are used up."""

import dataclasses
import itertools
import json
import math
import statistics
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments import figures, folder
from experiments.cells import CELLS
from experiments.config import Config
from experiments.progress import Show
from experiments.tasks import TASKS
from experiments.train import evaluate, evaluate_constant, make_job, train


@dataclasses.dataclass
class History:
    """What is known of one cell at one learning rate."""

    cell: str
    learning_rate: float
    steps: list[int] = dataclasses.field(default_factory=list)
    losses: list[np.ndarray] = dataclasses.field(default_factory=list)  # [seeds] each
    seconds: list[float] = dataclasses.field(default_factory=list)
    parameters: int = 0
    final: tuple[np.ndarray, np.ndarray] | None = None  # loss and metric of the evaluation, [seeds] each


def run(config: Config, path: Path, show: Show) -> dict[str, Any]:
    """Runs `config` and writes metrics, figure and summary into the folder `path`, which `folder.create` has made.

    Ctrl-C ends the run: the summary then holds what was done so far, and its status is "interrupted".

    Returns:
        The summary, as it is written.
    """
    start, histories, status = time.perf_counter(), [], "done"
    try:
        for name, rate in itertools.product(config.cells, config.learning_rates):
            histories.append(History(name, rate))
            follow(config, histories[-1], path, show)
    except KeyboardInterrupt:
        status = "interrupted"
    summary = summarise(config, path, histories, status, time.perf_counter() - start)
    folder.write_json(path / "summary.json", summary)
    folder.write(path / "learning.png", figures.learning_curves(path))
    return summary


def follow(config: Config, history: History, path: Path, show: Show) -> None:
    """Trains one cell and keeps its history, in memory and on disk."""
    task, label = TASKS[config.task](config.lag), f"{history.cell}  lr {history.learning_rate:g}"
    show(label, 0, config.steps, "compiling", False)
    for progress in train(config, history.cell, history.learning_rate):
        history.steps.append(progress.step)
        history.losses.append(progress.losses)
        history.seconds.append(progress.seconds)
        history.parameters = sum(leaf[0].size for leaf in jax.tree.leaves(progress.state.params))
        folder.append(path, rows(config, history))
        done = progress.step == config.steps or ended(history, task.solved)
        ratios = " ".join(f"{loss / task.baseline:.3f}" for loss in progress.losses)
        show(label, progress.step, config.steps, f"loss/baseline {ratios}", done)
        if done:
            loss, metric = evaluate(make_job(config, history.cell).compiled(), progress.state.params)
            history.final = np.asarray(loss), np.asarray(metric)
            return


def rows(config: Config, history: History) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl for the newest losses, one per seed."""
    common = {"step": history.steps[-1], "cell": history.cell, "learning_rate": history.learning_rate}
    seconds = round(sum(history.seconds), 3)
    return [
        {**common, "seed": config.seed + s, "loss": folder.finite(loss), "seconds": seconds}
        for s, loss in enumerate(history.losses[-1])
    ]


def first_step(history: History, seed: int, reached: Any) -> int | None:
    """The first step at which `reached(loss)` is true for a seed."""
    pairs = zip(history.steps, history.losses, strict=True)
    return next((step for step, losses in pairs if reached(losses[seed])), None)


def ended(history: History, solved: float) -> bool:
    """Whether every seed has solved the task at some time, or has no finite loss now."""
    best = np.nanmin(np.where(np.isfinite(history.losses), history.losses, np.inf), axis=0)
    return bool(np.all((best < solved) | ~np.isfinite(history.losses[-1])))


def summarise(config: Config, path: Path, histories: list[History], status: str, seconds: float) -> dict[str, Any]:
    """What is saved as summary.json, from which the table is printed."""
    task = TASKS[config.task](config.lag)
    return {
        "status": status,
        "task": config.task,
        "lag": config.lag,
        "seeds": config.seeds,
        "baseline": task.baseline,
        "evaluation_baseline": folder.finite(evaluate_constant(task)),
        "partial": task.partial,
        "solved_below": task.solved,
        "metric": task.metric_label,
        "seconds": round(seconds, 1),
        "env": json.loads((path / "env.json").read_text()),
        "results": [outcome(history, task.solved) for history in histories if history.steps],
    }


def outcome(history: History, solved: float) -> dict[str, Any]:
    """One row of the results; lists have one entry per seed, null where there is no such thing."""
    seeds = range(len(history.losses[0]))
    final = history.final or (np.full(len(seeds), math.nan),) * 2
    warm = history.seconds[1:]  # the first includes the compilation
    return {
        "cell": history.cell,
        "learning_rate": history.learning_rate,
        "description": CELLS[history.cell].description,
        "parameters": history.parameters,
        "steps": history.steps[-1],
        "finished": history.final is not None,
        "steps_to_solve": [first_step(history, s, lambda loss: loss < solved) for s in seeds],
        "not_finite_at": [first_step(history, s, lambda loss: not math.isfinite(loss)) for s in seeds],
        "final_loss": [folder.finite(loss) for loss in final[0]],
        "final_metric": [folder.finite(metric) for metric in final[1]],
        "ms_per_update": folder.finite(statistics.median(warm) * 1e3 / history.steps[0], 3) if warm else None,
        "seconds": round(sum(history.seconds), 1),
    }
