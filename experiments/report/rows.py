"""`report --csv FILE`: a line for each seed of each cell, for other programs."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.report import saved
from experiments.training import folder

SETTINGS = ("task", "lag", "task_options", "hidden_size", "layers", "batch_size")
OF_SEEDS = ("steps_to_solve", "updates", "best_loss", "final_loss", "final_metric")


def write(folders: Sequence[Path], out: Path) -> None:
    """Writes the results of the runs, and of all runs of a sweep.

    Raises:
        UsageError: a folder holds no run.
        RunError: a file is damaged.
    """
    lines = list(rows(saved.read(folders)))
    columns = list(dict.fromkeys(column for line in lines for column in line))
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(lines)
    folder.write(out, text.getvalue())


def rows(runs: Sequence[saved.Run]) -> Iterator[dict[str, Any]]:
    """A mapping for each seed; with `metric_at_LAG` where other lags were tested, and nothing where
    there is no such thing."""
    for run in runs:
        what = {"folder": str(run.folder), "status": run.status}
        what |= {key: run.config.get(key) for key in SETTINGS}
        for result in run.results:
            of_cell = {key: result[key] for key in ("cell", "learning_rate", "parameters")}
            for k in range(run.config["seeds"]):
                seed = {"seed": run.config["seed"] + k}
                seed |= {key: result[key][k] for key in OF_SEEDS if key in result}
                tests = result.get("tests", {})
                seed |= {f"metric_at_{lag}": found["metric"][k] for lag, found in tests.items()}
                yield what | of_cell | seed
