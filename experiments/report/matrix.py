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
    places = [(run.config["task"], run.config["lag"]) for _, run in trained]
    lines = [
        Line(n, *place, _own(run.label) if places.count(place) > 1 else "", fields(run.results))
        for (n, run), place in zip(trained, places, strict=True)
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


def _own(label: str) -> str:
    """The folder of a run, without the one that it lies in."""
    return label.rpartition("/")[2]


def _field(n: int, row: Row) -> Field:
    steps = row["steps_to_solve"]
    known = [step for step in steps if step is not None]
    middle = statistics.median(known) if known else None
    return Field(n, len(known), len(steps), middle, row["learning_rate"])
