"""What the seeds of a run show: which cells are ahead, and where a grid was too small."""

import itertools
import math
from typing import Any

from experiments.report.statistics import holm, rank_test
from experiments.training.history import merit

LEVEL = 0.05  # of the tests


def ahead(rows: list[dict[str, Any]]) -> list[str]:
    """Which cells, each at its best learning rate, these seeds show ahead of which in updates: a
    sentence, where there are several and some seed has solved the task."""
    cells = dict.fromkeys(row["cell"] for row in rows if row["finished"])
    updates = {}
    for cell in cells:
        best = min((row for row in rows if row["cell"] == cell), key=merit)
        updates[cell] = [step or math.inf for step in best["steps_to_solve"]]
    pairs = itertools.combinations(updates, 2)
    found = holm({pair: rank_test(*(updates[cell] for cell in pair)) for pair in pairs})
    if not found or all(step == math.inf for steps in updates.values() for step in steps):
        return []
    test = f"exact rank test of the updates, corrected for {len(found)} comparisons"
    if len(rows) > len(updates):
        test += "; the learning rates were chosen on the same seeds, which flatters each"
    shown = {pair: p for pair, p in found.items() if p < LEVEL}
    if not shown:
        least = min(found.values())
        return [f"These seeds show no cell ahead of another: {test}, least p = {least:.2g}."]
    words = []
    for (a, b), p in shown.items():
        wins = sum((x < y) - (x > y) for x, y in itertools.product(updates[a], updates[b]))
        sooner, later = (a, b) if wins > 0 else (b, a)
        words.append(f"{sooner} before {later} (p = {p:.2g})")
    return [f"{'; '.join(words)}: {test}."]


def edges(rows: list[dict[str, Any]]) -> list[str]:
    """A sentence for each cell whose best learning rate is the largest or smallest of several."""
    lines = []
    for cell in dict.fromkeys(row["cell"] for row in rows):
        mine = [row for row in rows if row["cell"] == cell and row["finished"]]
        rates = sorted({row["learning_rate"] for row in mine})
        best = min(mine, key=merit)["learning_rate"] if len(rates) > 1 else None
        if best is not None and best in (rates[0], rates[-1]):
            which = "smallest" if best == rates[0] else "largest"
            lines.append(
                f"{cell}: the best learning rate, {best:g}, is the {which} that was tried."
            )
    return lines
