"""Presets held against what they should show: thresholds of `tiers.yaml`, never exact losses.

Beside each stands what the calibration found, five other seeds of the same preset, whose summaries
are committed.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.arguments import parse
from experiments.config import HERE, PRESETS, TIERS, Bar, Config, Launch
from experiments.report import prose
from experiments.tasks.data import NotOnPyPI
from experiments.training.folder import read_json

Train = Callable[[str, Config, Launch], tuple[dict[str, Any], Path]]
CALIBRATION = HERE / "results" / "calibration"
HEAD = ("preset", "cell", "lr", "what", "seeds", "wanted", "updates", "calibration", "")


def run(tier: str, parent: Path, train: Train) -> tuple[str, str]:
    """Runs the presets of a tier in folders below `parent`, or goes on with them, and compares.
    Those whose data no package of Python holds are left out, with a line, where it is not there.

    Returns:
        "done", when all is as it should be, "failed" or "interrupted"; and the table.
    """
    lines: list[tuple[str, ...]] = [HEAD]
    right = True
    seconds = 0.0
    without: list[str] = []
    for name, wanted in TIERS[tier].items():
        config = parse(
            Config, ["--config", str(PRESETS[name]), "--out", str(parent / name)], f"check {tier}"
        )
        try:
            summary, _ = train(name, config, Launch(resume=True))
        except NotOnPyPI as error:
            without.append(f"not run: {name}, since {error}")
            continue
        if summary["status"] == "interrupted":
            return "interrupted", "interrupted: the same command goes on"
        rows = compare(summary, wanted, read_json(CALIBRATION / name / "summary.json", missing={}))
        right &= all(row[-1] != "WRONG" for row in rows) and summary["status"] == "done"
        seconds += summary["seconds"]
        lines += [(name, *row) for row in rows]
    verdict = f"{'all' if right else 'NOT'} as it should be, {seconds / 60:.0f} minutes of training"
    return "done" if right else "failed", "\n".join(
        ["", *prose.aligned(lines), *without, "", f"{tier}: {verdict}"]
    )


def compare(
    summary: dict[str, Any], wanted: dict[str, Bar], calibration: dict[str, Any] | None
) -> list[tuple[str, ...]]:
    """A line for each cell and learning rate: how many seeds are as they should be,
    and how many were in the calibration.
    """
    # where a cell's rate was chosen, it may be another than in the calibration
    chosen = bool(summary.get("selection"))
    others = {
        (row["cell"], chosen or row["learning_rate"]): row
        for row in (calibration or {}).get("results", [])
    }
    lines: list[tuple[str, ...]] = []
    for row in summary["results"]:
        bar = wanted.get(row["cell"])
        other = others.get((row["cell"], chosen or row["learning_rate"]))
        seeds = _right(row, bar)
        verdict = "" if bar is None else "right" if seeds >= bar["seeds"] else "WRONG"
        found = (
            f"{_right(other, bar)}/{len(other['steps_to_solve'])}, {_updates(other)}"
            if other
            else "-"
        )
        words = (
            _what(bar, summary),
            str(seeds),
            str(bar["seeds"]) if bar else "-",
            _updates(row),
            found,
            verdict,
        )
        lines.append((row["cell"], f"{row['learning_rate']:g}", *words))
    missing = wanted.keys() - {row["cell"] for row in summary["results"]}
    return lines + [
        (name, "-", "-", "-", str(wanted[name]["seeds"]), "-", "-", "WRONG")
        for name in sorted(missing)
    ]


def _right(row: dict[str, Any], bar: Bar | None) -> int:
    """How many seeds of a result reach the bar; without one, or without a threshold,
    how many solved the task.
    """
    if bar is None or "metric" not in bar:
        return sum(step is not None for step in row["steps_to_solve"])
    tests = row.get("tests", {}) | {None: {"metric": row["final_metric"]}}
    # none where a run was cut
    scores = tests.get(str(bar["lag"]) if "lag" in bar else None, {"metric": []})["metric"]
    return sum(score is not None and score >= bar["metric"] for score in scores)


def _updates(row: dict[str, Any]) -> str:
    return prose.entries(row, 1.0)["steps_to_solve"]


def _what(bar: Bar | None, summary: dict[str, Any]) -> str:
    if bar is None or "metric" not in bar:
        return "solved"
    return f"{summary['metric']} >= {bar['metric']:g}" + (
        f" at lag {bar['lag']}" if "lag" in bar else ""
    )
