"""What runs have saved, read from their folders."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from experiments.config import UsageError, choose
from experiments.tasks import TASKS, make
from experiments.training.folder import read_json
from experiments.training.history import History

Row = dict[str, Any]


class Run(NamedTuple):
    label: str  # names it on the page
    folder: Path
    status: str  # done, interrupted, failed, with the reason, not ended, not begun
    config: Row  # empty where it has not begun
    env: Row
    summary: Row  # of a run that has not ended, what `so_far` gives; empty without losses
    results: list[Row]  # of the summary
    metrics: list[Row]
    gradients: Row  # gradients.json; empty for a run that trains


def read(folders: Sequence[Path]) -> list[Run]:
    """The runs of the folders; a sweep stands for its runs.

    Raises:
        UsageError: a folder holds no run.
        RunError: a file is damaged.
    """
    return [load(*entry) for folder in folders for entry in _entries(folder)]


def _entries(folder: Path) -> list[tuple[Path, str, bool]]:
    """The folder of each run, what it is called, and whether it belongs to a sweep."""
    if not (folder / "sweep.json").exists():
        return [(folder, "/".join(folder.resolve().parts[-2:]), False)]
    runs = read_json(folder / "sweep.json")["runs"]
    words = [", ".join(f"{key} {value}" for key, value in run["changes"].items()) for run in runs]
    return [
        (folder / run["folder"], text or run["folder"], True)
        for run, text in zip(runs, words, strict=True)
    ]


def load(folder: Path, label: str, swept: bool) -> Run:
    """One run; those of a sweep may not have begun, or have failed without a summary."""
    config = _config(folder, swept)
    summary = read_json(folder / "summary.json", missing={})
    env = summary.get("env") or read_json(folder / "env.json", missing={})
    metrics = read_json(folder / "metrics.jsonl", whole, [])
    gradients = read_json(folder / "gradients.json", missing={})
    status = summary.get("status", "not ended" if config else "not begun")
    summary = summary or (so_far(config, metrics) if metrics else {})
    if failure := read_json(folder / "failure.txt", str.strip, summary.get("failure", "")):
        status = f"failed: {failure}"
    return Run(
        label, folder, status, config, env, summary, summary.get("results", []), metrics, gradients
    )


def _config(folder: Path, swept: bool) -> Row:
    """The configuration of a run; empty where it is of a sweep, and has not begun."""
    config = read_json(folder / "config.yaml", yaml.safe_load, {})
    if not config and not swept:
        raise UsageError(f"{folder} holds no run: it has no config.yaml.")
    if config and not {"task", "sequences"} & set(config):
        raise UsageError(f"{folder} holds no run that trains or measures gradients.")
    if "task" in config:
        choose("task", config["task"], TASKS)
    return config


def so_far(config: Row, metrics: list[Row]) -> Row:
    """What the losses of a run say that has written no summary yet, which has a "status"."""
    task = make(config["task"], config["lag"], config.get("task_options", {}))
    summary = {
        "baseline": task.levels.baseline,
        "solved_below": task.levels.solved,
        "metric": task.score.label,
        "seeds": config["seeds"],
        "results": [],
    }
    metrics = [row for row in metrics if not row.get("selection")]
    for cell, rate in dict.fromkeys((row["cell"], row["learning_rate"]) for row in metrics):
        rows = [row for row in metrics if (row["cell"], row["learning_rate"]) == (cell, rate)]
        keys = ("loss", "held_out_loss", "held_out_metric", "gradient_norm")
        losses, *held_out, norms = (by_step(rows, key)[1] for key in keys)
        seconds = list(dict((row["step"], row["seconds"]) for row in rows).values())
        history = History(
            cell,
            rate,
            losses.tolist(),
            np.stack(held_out, axis=1).tolist(),
            norms.tolist(),
            [0] * losses.shape[1],
            np.diff(seconds, prepend=0).tolist(),
        )
        outcome = history.outcome(config["lag"], task.levels.solved, config["checks"])
        summary["results"].append(outcome | {"parameters": None})
    return summary


def by_step(rows: list[Row], key: str = "loss") -> tuple[list[int], np.ndarray]:
    """The steps of one training, and a value of each step and seed, [steps, seeds]: infinite where
    it was not finite, and NaN from where a seed has ended."""
    steps = sorted({row["step"] for row in rows})
    seeds = sorted({row["seed"] for row in rows})
    table = np.full((len(steps), len(seeds)), np.nan)
    for row in rows:
        place = (steps.index(row["step"]), seeds.index(row["seed"]))
        table[place] = np.inf if row[key] is None else row[key]
    return steps, table


def whole(text: str) -> list[Row]:
    """The lines that are whole: a run that was killed may have left half of one, and then some of
    the seeds of its step."""
    *lines, torn = text.split("\n")
    rows = [json.loads(line) for line in lines]
    if not torn or not rows:
        return rows
    keys = ("cell", "learning_rate", "step")
    last = [rows[-1][key] for key in keys]
    return [row for row in rows if [row[key] for key in keys] != last]
