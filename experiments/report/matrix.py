"""The first thing that a page of many runs shows: tasks down, cells across, and in each field how
many seeds solved the task.
"""

import itertools
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from experiments.cells import CELLS
from experiments.report.saved import Row, Run
from experiments.training.history import merit

LEAST = 3  # runs; two stand side by side
# elsewhere on the page, or of no account
SHOWN = ("description", "task", "lag", "cells", "out", "test_lags", "checkpoint_every")


class Field(NamedTuple):
    """What a cell did on a task, at its best learning rate."""

    row: int  # of the results of the run
    solved: int  # seeds
    seeds: int
    updates: float | None  # the median of the seeds that solved it
    rate: float


class Line(NamedTuple):
    run: int  # of the page
    task: str
    lag: int
    label: str  # what tells it from others of this task and lag; empty where there are none
    fields: dict[str, Field]  # by the cell


class Matrix(NamedTuple):
    cells: list[str]  # in the order of cells.yaml
    lines: list[Line]


def matrix(runs: Sequence[Run]) -> Matrix | None:
    """The matrix of the runs, a line for each that has results; None where they are fewer than
    three.

    Args:
        runs: those of the page.
    """
    trained = [(n, run) for n, run in enumerate(runs) if run.results]
    if len(trained) < LEAST:
        return None
    tasks = list(dict.fromkeys(run.config["task"] for _, run in trained))
    labels = _labels([run for _, run in trained])
    lines = [
        Line(n, run.config["task"], run.config["lag"], label, fields(run.results))
        for (n, run), label in zip(trained, labels, strict=True)
    ]
    lines.sort(key=lambda line: (tasks.index(line.task), line.lag, line.run))
    found = set(itertools.chain(*(line.fields for line in lines)))
    return Matrix([*(cell for cell in CELLS if cell in found), *sorted(found - set(CELLS))], lines)


def fields(rows: Sequence[Row]) -> dict[str, Field]:
    """For each cell of the results of a run what it did at its best learning rate."""
    best: dict[str, int] = {}
    for n, row in enumerate(rows):
        before = best.get(row["cell"])
        if before is None or merit(row) < merit(rows[before]):
            best[row["cell"]] = n
    return {cell: _field(n, rows[n]) for cell, n in best.items()}


def _labels(runs: Sequence[Run]) -> list[str]:
    """For each run what of its configuration is not that of all of its task and lag; its folder
    where that does not tell them apart."""
    places = [(run.config["task"], run.config["lag"]) for run in runs]
    labels = []
    for run, place in zip(runs, places, strict=True):
        beside = [other for other, at in zip(runs, places, strict=True) if at == place]
        labels.append(_own_options(run, beside))
    named = list(zip(places, labels, strict=True))
    return [
        run.label.rpartition("/")[2] if label and named.count((place, label)) > 1 else label
        for run, (place, label) in zip(runs, named, strict=True)
    ]


def _own_options(run: Run, beside: Sequence[Run]) -> str:
    """What of a configuration differs among `beside`, of which `run` is one."""
    if len(beside) == 1:
        return ""
    options = [_flat(other.config) for other in beside]
    own = _flat(run.config)
    names = dict.fromkeys(itertools.chain(*options))
    differ = [key for key in names if any(other.get(key) != own.get(key) for other in options)]
    known = [f"{key} {own[key]}" for key in differ if key in own]
    return ", ".join(known) or run.label.rpartition("/")[2]


def _flat(config: Row) -> Row:
    """The options of a configuration that a line does not show anyway, those of the task too."""
    left = {key: value for key, value in config.items() if key not in SHOWN}
    return left.pop("task_options", {}) | left


def _field(n: int, row: Row) -> Field:
    steps = row["steps_to_solve"]
    known = [step for step in steps if step is not None]
    middle = statistics.median(known) if known else None
    return Field(n, len(known), len(steps), middle, row["learning_rate"])
