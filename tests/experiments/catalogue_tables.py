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
RESULTS = ROOT / "experiments" / "results"
CALIBRATION = RESULTS / "calibration"


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


def lags() -> list[str]:
    """How many seeds of each cell solved first_symbol, a row for each lag; first the cells that go least far."""
    runs = json.loads((RESULTS / "first_symbol_lags" / "sweep.json").read_text())["runs"]
    found = {}
    for run in runs:
        summary = json.loads((RESULTS / "first_symbol_lags" / run["folder"] / "summary.json").read_text())
        found[summary["lag"]] = {row["cell"]: sum(map(bool, row["steps_to_solve"])) for row in summary["results"]}
    cells = sorted(found[50], key=lambda cell: (sum(counts[cell] for counts in found.values()), cell))
    lines = [f"| lag | {' | '.join(cells)} |", "|---" * (len(cells) + 1) + "|"]
    return lines + [f"| {lag} | {' | '.join(str(counts[cell]) for cell in cells)} |" for lag, counts in sorted(found.items())]


def adding_1000() -> list[str]:
    """A row for each cell on adding across 1,000 steps, the fastest first."""
    lines = ["| cell | parameters | solved | updates to solve, of each seed |", "|---|---|---|---|"]
    rows = json.loads((RESULTS / "adding_1000" / "summary.json").read_text())["results"]
    for found in sorted(rows, key=lambda found: max(step or 10**9 for step in found["steps_to_solve"])):
        steps = sorted(found["steps_to_solve"], key=lambda step: step or 10**9)
        words = ", ".join(f"{step:,}" if step else f"not in {found['steps']:,}" for step in steps)
        solved = f"{len(steps) - steps.count(None)}/{len(steps)}"
        lines.append(f"| `{found['cell']}` | {found['parameters']:,} | {solved} | {words} |")
    return lines


def write() -> None:
    """Puts each table between its marks."""
    text = PAGE.read_text()
    tables = {"tasks": tasks(), "fast": tier("fast"), "full": tier("full"), "lags": lags(), "adding_1000": adding_1000()}
    for name, lines in tables.items():
        mark = f"<!-- {name} -->\n"
        text = re.sub(f"{mark}(\\|.*\n)*", lambda _, m=mark, t=lines: m + "\n".join(t) + "\n", text)
    PAGE.write_text(text)


if __name__ == "__main__":
    write()
