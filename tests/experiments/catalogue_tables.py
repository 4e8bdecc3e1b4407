"""The tables of experiments/README.md, made from the tasks, the presets and the calibration.

`python tests/experiments/catalogue_tables.py` from the root of the project writes them into the page.
"""

import json
import re
import statistics
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "experiments" / "README.md"
CALIBRATION = ROOT / "experiments" / "results" / "calibration"


def tasks() -> list[str]:
    """A row for each task at its default lag."""
    from experiments.tasks import TASKS

    lines = ["| task | asks for | lag | baseline | solved below | metric |", "|---|---|---|---|---|---|"]
    for name, kind in sorted(TASKS.items()):
        task = kind()
        levels, label = task.levels, task.score.label
        lines.append(f"| `{name}` | {task.description} | {task.lag} | {levels.baseline:.4g} | {levels.solved:.3g} | {label} |")
    return lines


def tier(name: str) -> list[str]:
    """A row for each cell of the presets of a tier: what five seeds did."""
    bars = yaml.safe_load((ROOT / "experiments" / "tiers.yaml").read_text())[name]
    head = "| preset | cell | parameters | solved | updates, median (range) | metric, median (range) | at other lags | held to |"
    lines = [head, "|---|---|---|---|---|---|---|---|"]
    for preset in bars:
        summary = json.loads((CALIBRATION / preset / "summary.json").read_text())
        lines += [f"| `{preset}` {row(result, bars[preset].get(result['cell']))}" for result in summary["results"]]
    return lines


def row(result, bar) -> str:
    steps = [step for step in result["steps_to_solve"] if step]
    solved = f"{len(steps)}/{len(result['steps_to_solve'])}"
    updates = f"{statistics.median(steps):,.0f} ({min(steps):,}-{max(steps):,})" if steps else f"none in {result['steps']:,}"
    others = "; ".join(f"{lag}: {spread(scores['metric'])}" for lag, scores in result.get("tests", {}).items())
    held = "" if bar is None else f"{bar['metric']:g}" if "metric" in bar else "solved"
    held += f" at {bar['lag']}" if bar and "lag" in bar else ""
    metric = spread(result["final_metric"])
    return f"| {result['cell']} | {result['parameters']:,} | {solved} | {updates} | {metric} | {others} | {held} |"


def spread(scores) -> str:
    found = [score for score in scores if score is not None]
    return f"{statistics.median(found):.3f} ({min(found):.3f}-{max(found):.3f})" if found else "-"


def write() -> None:
    """Puts each table between its marks."""
    text = PAGE.read_text()
    for name, lines in {"tasks": tasks(), "fast": tier("fast"), "full": tier("full")}.items():
        mark = f"<!-- {name} -->\n"
        text = re.sub(f"{mark}(\\|.*\n)*", lambda _, m=mark, t=lines: m + "\n".join(t) + "\n", text)
    PAGE.write_text(text)


if __name__ == "__main__":
    write()
