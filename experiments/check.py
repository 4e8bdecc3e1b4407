"""Presets held against what they should show: thresholds of `tiers.yaml`, never exact losses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments import report
from experiments.arguments import parse
from experiments.config import PRESETS, TIERS, Config, Launch

Train = Callable[[str, Config, Launch], tuple[dict[str, Any], Path]]


def run(tier: str, parent: Path, train: Train) -> tuple[str, str]:
    """Runs the presets of a tier in folders below `parent`, or goes on with them, and compares.

    Returns:
        "done", when all is as it should be, "failed" or "interrupted"; and the table.
    """
    lines: list[tuple[str, ...]] = [("preset", "cell", "lr", "solved", "wanted", "")]
    right = True
    for name, wanted in TIERS[tier].items():
        config = parse(Config, ["--config", str(PRESETS[name]), "--out", str(parent / name)], f"check {tier}")
        summary, _ = train(name, config, Launch(resume=True))
        if summary["status"] == "interrupted":
            return "interrupted", "interrupted: the same command goes on"
        rows = compare(summary, wanted)
        right &= all(row[-1] != "WRONG" for row in rows) and summary["status"] == "done"
        lines += [(name, *row) for row in rows]
    verdict = "all as it should be" if right else "NOT as it should be"
    return "done" if right else "failed", "\n".join(["", *report.aligned(lines), "", f"{tier}: {verdict}"])


def compare(summary: dict[str, Any], wanted: dict[str, int]) -> list[tuple[str, ...]]:
    """A line for each cell and learning rate: how many seeds solved the task, and how many should."""
    lines: list[tuple[str, ...]] = []
    for row in summary["results"]:
        solved, least = sum(step is not None for step in row["steps_to_solve"]), wanted.get(row["cell"])
        verdict = "" if least is None else "right" if solved >= least else "WRONG"
        lines.append((row["cell"], f"{row['learning_rate']:g}", str(solved), "-" if least is None else str(least), verdict))
    missing = wanted.keys() - {row["cell"] for row in summary["results"]}
    return lines + [(name, "-", "-", str(wanted[name]), "WRONG") for name in sorted(missing)]
