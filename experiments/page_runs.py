"""The runs that a page is made of: their saved files, read."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from experiments.config import UsageError, choose
from experiments.report import Row
from experiments.tasks import TASKS


class Run(NamedTuple):
    label: str  # names it on the page
    folder: Path
    status: str  # done, interrupted, failed, with the reason, not ended, not begun
    config: Row  # empty where it has not begun
    env: Row
    summary: Row  # empty where it has not ended
    results: list[Row]  # of the summary
    metrics: list[Row]
    gradients: Row  # gradients.json; empty for a run that trains


def read(folders: Sequence[Path]) -> list[Run]:
    """The runs of the folders; a sweep stands for its runs.

    Raises:
        UsageError: a folder holds no run, or one that cannot be read.
    """
    return [load(*entry) for folder in folders for entry in _entries(folder)]


def _entries(folder: Path) -> list[tuple[Path, str, bool]]:
    """The folder of each run, what it is called, and whether it belongs to a sweep."""
    if not (folder / "sweep.json").exists():
        return [(folder, "/".join(folder.resolve().parts[-2:]), False)]
    runs = parsed(folder / "sweep.json", json.loads, {})["runs"]
    words = [", ".join(f"{key} {value}" for key, value in run["changes"].items()) for run in runs]
    return [(folder / run["folder"], text or run["folder"], True) for run, text in zip(runs, words, strict=True)]


def parsed(path: Path, parse: Callable[[str], Any], missing: Any) -> Any:
    """What a file holds, or `missing` where there is none."""
    try:
        return parse(path.read_text()) if path.exists() else missing
    except (ValueError, yaml.YAMLError) as error:
        raise UsageError(f"{path} cannot be read: {' '.join(str(error).split())}.") from None


def load(folder: Path, label: str, swept: bool) -> Run:
    """One run; those of a sweep may not have begun, or have failed without a summary."""
    config = parsed(folder / "config.yaml", yaml.safe_load, {})
    if not config and not swept:
        raise UsageError(f"{folder} holds no run: it has no config.yaml.")
    if config and not {"task", "sequences"} & set(config):
        raise UsageError(f"{folder} holds no run that trains or measures gradients.")
    if "task" in config:
        choose("task", config["task"], TASKS)
    summary = parsed(folder / "summary.json", json.loads, {})
    env = summary.get("env") or parsed(folder / "env.json", json.loads, {})
    metrics = parsed(folder / "metrics.jsonl", lambda text: whole(text, config["seeds"]), [])
    gradients = parsed(folder / "gradients.json", json.loads, {})
    status = summary.get("status", "not ended" if config else "not begun")
    if failure := parsed(folder / "failure.txt", str.strip, summary.get("failure", "")):
        status = f"failed: {failure}"
    return Run(label, folder, status, config, env, summary, summary.get("results", []), metrics, gradients)


def whole(text: str, seeds: int) -> list[Row]:
    """The losses that are there of all seeds: a run that was killed may have left half a line, or some of the seeds."""
    rows = [json.loads(line) for line in text.split("\n")[:-1]]
    return rows[: len(rows) // seeds * seeds]


def names(run: Run) -> list[str]:
    """A name for each row of the results: the cell, with its learning rate where there are several."""
    several = len(run.config.get("learning_rates", [])) > 1
    return [f"{row['cell']} at {row['learning_rate']:g}" if several else row["cell"] for row in run.results]
