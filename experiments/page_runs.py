"""The runs that a page is made of: their saved files, read and checked."""

import collections
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from experiments.cells import CELLS
from experiments.config import UsageError, choose
from experiments.history import History
from experiments.tasks import TASKS

Row = dict[str, Any]
KEYS = {"task", "lag", "seeds", "baseline", "partial", "solved_below", "metric", "seconds", "results"}


class Run(NamedTuple):
    label: str  # names it on the page
    folder: Path
    status: str  # done, interrupted, failed, not ended, not begun
    failure: str  # the reason, of one that failed
    config: Row  # empty where it has not begun
    env: Row
    summary: Row  # of a training run; made of its losses where there is none yet; empty for gradients
    metrics: list[Row]
    gradients: Row | None = None  # gradients.json


def read(folders: Sequence[Path]) -> list[Run]:
    """The runs of the folders; a sweep stands for its runs.

    Raises:
        UsageError: a folder holds no run, or one that cannot be read.
    """
    entries = [entry for folder in folders for entry in _entries(folder)]
    labels = collections.Counter(label for _, label, _ in entries)
    return [load(path, label if labels[label] == 1 else str(path), swept) for path, label, swept in entries]


def _entries(folder: Path) -> list[tuple[Path, str, bool]]:
    """The folder of each run, what tells it from the others, and whether it belongs to a sweep."""
    if (sweep := _json(folder / "sweep.json")) is None:
        return [(folder, folder.resolve().name, False)]
    words = [", ".join(f"{key} {value}" for key, value in run.get("changes", {}).items()) for run in sweep["runs"]]
    return [(folder / run["folder"], text or run["folder"], True) for run, text in zip(sweep["runs"], words, strict=True)]


def _json(path: Path) -> Any:
    """The content of a file; None where there is none."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise UsageError(f"{path} cannot be read: {error}.") from None


def load(folder: Path, label: str, swept: bool = False) -> Run:
    """One run; those of a sweep may not have begun, or have failed without a summary."""
    failure = (folder / "failure.txt").read_text().strip() if (folder / "failure.txt").exists() else ""
    if not (folder / "config.yaml").exists():
        if swept:
            return Run(label, folder, "failed" if failure else "not begun", failure, {}, {}, {}, [])
        raise UsageError(f"{folder} holds no run: it has no config.yaml.")
    try:
        config = yaml.safe_load((folder / "config.yaml").read_text())
    except yaml.YAMLError as error:
        raise UsageError(f"{folder}/config.yaml cannot be read: {' '.join(str(error).split())}.") from None
    if not isinstance(config, dict) or not ("task" in config or "sequences" in config):
        raise UsageError(f"{folder} holds no run that trains or measures gradients.")
    saved = _json(folder / "summary.json") or {}
    env = saved.get("env") or _json(folder / "env.json") or {}
    status = "failed" if failure else saved.get("status", "not ended")
    run = Run(label, folder, status, failure or saved.get("failure", ""), config, env, {}, [])
    if "task" not in config:
        return run._replace(gradients=_json(folder / "gradients.json"))
    choose("task", config["task"], TASKS)
    metrics = read_metrics(folder, config["seeds"])
    summary = saved or so_far(config, metrics)
    if missing := KEYS - set(summary):
        raise UsageError(f"{folder}/summary.json lacks {', '.join(sorted(missing))}.")
    return run._replace(summary=summary, metrics=metrics)


def read_metrics(folder: Path, seeds: int) -> list[Row]:
    """The losses that are there of all seeds; a run that was killed may have left half a line, or some of the seeds."""
    path = folder / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    try:
        rows = [json.loads(line) for line in text.split("\n")[:-1]]
    except ValueError as error:
        raise UsageError(f"{path} cannot be read: {error}.") from None
    places = [(row["cell"], row["learning_rate"], row["step"]) for row in rows]
    count = collections.Counter(places)
    return [row for row, place in zip(rows, places, strict=True) if count[place] == seeds]


def so_far(config: Row, metrics: list[Row]) -> Row:
    """A summary of a run that has none, from its losses: what is not known yet is None, or 0 parameters."""
    task, results = TASKS[config["task"]](config["lag"]), []
    for cell, rate in dict.fromkeys((row["cell"], row["learning_rate"]) for row in metrics):
        choose("cell", cell, CELLS)
        rows = [row for row in metrics if (row["cell"], row["learning_rate"]) == (cell, rate)]
        losses = np.array([row["loss"] for row in rows], dtype=float).reshape(-1, config["seeds"])
        steps, seconds = ([row[key] for row in rows[:: config["seeds"]]] for key in ("step", "seconds"))
        lost = [next((steps[k] for k in np.flatnonzero(~np.isfinite(seed))), 0) for seed in losses.T]
        history = History(cell, rate, losses.tolist(), lost, np.diff(seconds, prepend=0).tolist())
        results.append(history.outcome(task.solved))
    levels = {"baseline": task.baseline, "partial": task.partial, "solved_below": task.solved, "metric": task.metric_label}
    return {key: config[key] for key in ("task", "lag", "seeds")} | levels | {"seconds": None, "results": results}
