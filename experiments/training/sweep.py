"""Runs over a grid and a list of configurations,
each in a folder of its own below that of the sweep.

What a folder holds says what is left to do, so that a sweep that was killed goes on, several
processes may share one, and points may be added. Lists within a configuration (cells, learning
rates) and seeds are not points: one run trains them together.
"""

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.experimental import multihost_utils

from experiments.arguments import parse
from experiments.config import Config, InUse, Launch, Points, RunError
from experiments.report import prose
from experiments.training import checkpoint, folder

DIGITS = 8  # of the hash at the end of a folder's name
FAILURE = "failure.txt"  # in the folder of a run: what ended it, other than what its summary says
LISTS = [field.name for field in dataclasses.fields(Config) if isinstance(field.default, tuple)]


class Point(NamedTuple):
    changes: dict[str, Any]  # what it is besides the preset
    config: Config
    launch: Launch
    path: Path  # config.out


Stop = Callable[[], bool]
Train = Callable[[Config, Launch, Stop], tuple[dict[str, Any], Path]]


def points(name: str, base: Config, launch: Launch, chosen: Points) -> list[Point]:
    """Every configuration of a sweep.

    Args:
        name: of the preset.
        base: what they have in common; `base.out` is the folder of the sweep.
        launch: how they are started.
        chosen: in what they differ.

    Raises:
        UsageError: a key or value of one of them is wrong; nothing has been run yet.
    """
    shared = {key: values for key, values in chosen.grid.items() if key in LISTS}
    axes = [
        [(key, value) for value in values]
        for key, values in chosen.grid.items()
        if key not in LISTS
    ]
    pairs = itertools.product(chosen.list or ({},), itertools.product(*axes))
    parent = Path(base.out or f"runs/{name}-sweep")
    made = [
        _point(base, {**shared, **entry, **dict(values)}, parent, launch) for entry, values in pairs
    ]
    # each configuration once
    return list({point.path.name[-DIGITS:]: point for point in made}.values())


def _point(base: Config, changes: dict[str, Any], parent: Path, launch: Launch) -> Point:
    values = {**dataclasses.asdict(base), "out": None, **changes}
    config = parse(
        Config,
        [f"--{key}={v if isinstance(v, str) else json.dumps(v)}" for key, v in values.items()],
        "sweep",
    )
    # so that a later version, which has more keys, finds the folder
    usual = dataclasses.asdict(Config())
    unusual = {
        key: value for key, value in dataclasses.asdict(config).items() if value != usual[key]
    }
    digest = hashlib.sha256(json.dumps(unusual).encode()).hexdigest()[:DIGITS]
    changed = "-".join(f"{key}={value}" for key, value in changes.items())
    words = re.sub(r"[^\w=.]+", "-", changed)[:60]
    # there may be one of the same in other words
    out = next(parent.glob(f"*-{digest}"), parent / f"{words}-{digest}")
    config = dataclasses.replace(config, out=str(out))
    return Point(changes, config, dataclasses.replace(launch, resume=True), out)


def run(
    points: Sequence[Point], retry: bool, train: Train, stop: Stop = lambda: False
) -> tuple[str, str]:
    """Runs what is left of a sweep: what is done is never run again, what failed only with `retry`.

    Returns:
        "done"; "failed", of at least one; or "interrupted"; and the table of all points.
    """
    parent = points[0].path.parent
    folder.clear(parent)
    interrupted = False
    for point in points:
        state = status(point.path)["status"]
        if not interrupted and state != "done" and (state != "failed" or retry):
            interrupted = stop() or _run(point, train, stop) == "interrupted"
        write(parent, points)
    # by process 0, whose files the others read now
    multihost_utils.sync_global_devices("the sweep is written")
    return _outcome(points, parent, interrupted)


def _outcome(points: Sequence[Point], parent: Path, interrupted: bool) -> tuple[str, str]:
    """What `run` returns, from what the folders of the points hold."""
    states = [status(point.path)["status"] for point in points]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    words = f"{table(points)}\n\n{len(points)} runs: {counts}; written: {parent}"
    if "failed" in states and not interrupted:
        return "failed", f"{words}\nthe same command with --retry runs again what failed"
    if set(states) != {"done"}:  # or another process is at the others
        return "interrupted", f"{words}\nthe same command goes on"
    return "done", words


def _run(point: Point, train: Train, stop: Stop) -> str:
    """Runs one point; what goes wrong with it is kept in its folder, and the sweep goes on."""
    print(f"\n{point.path.name}", flush=True)
    try:
        if jax.process_index() == 0:
            (point.path / FAILURE).unlink(missing_ok=True)
        return train(point.config, point.launch, stop)[0]["status"]
    except InUse as error:
        print(f"left out: {error}", flush=True)
        return "in use"
    except Exception as error:
        text = f"{type(error).__name__}: {checkpoint.first_line(error)}"
        print(f"failed: {text}", flush=True)
        point.path.mkdir(parents=True, exist_ok=True)
        folder.write(point.path / FAILURE, text + "\n")
        return "failed"


def status(path: Path) -> dict[str, Any]:
    """The summary of a run, or what is known of it: under "status" "done", "failed",
    with the "failure", "begun", ...
    """
    if (path / FAILURE).exists():
        return {"status": "failed", "failure": (path / FAILURE).read_text().strip()}
    try:
        summary = folder.read_json(path / "summary.json", missing={})
    except RunError as error:
        return {"status": "failed", "failure": str(error)}
    return summary or {"status": "begun" if (path / "config.yaml").exists() else "to do"}


def write(parent: Path, points: Sequence[Point]) -> None:
    """Writes sweep.json: every point, its folder and its status."""
    parent.mkdir(parents=True, exist_ok=True)
    runs = [
        {"folder": point.path.name, "changes": point.changes} | status(point.path)
        for point in points
    ]
    kept = ("folder", "changes", "status", "failure")
    folder.write_json(
        parent / "sweep.json",
        {"runs": [{key: run[key] for key in kept if key in run} for run in runs]},
    )


def table(points: Sequence[Point]) -> str:
    """A line for every cell of every point: how many seeds have solved it,
    and after how many updates.
    """
    cells: list[tuple[str, ...]] = [("run", "status", "cell", "lr", "solved", "updates to solve")]
    keys = ("cell", "learning_rate", "solved", "steps_to_solve")
    for point in points:
        found = status(point.path)
        rows = found["results"] if found["status"] in ("done", "interrupted") else []
        name = " ".join(f"{key}={value}" for key, value in point.changes.items())
        lines = [prose.line(row, 1.0, keys) for row in rows] or [
            (found.get("failure", "-"), "", "", "")
        ]
        cells += [(name, found["status"], *line) for line in lines]
    return "\n".join(prose.aligned(cells))
