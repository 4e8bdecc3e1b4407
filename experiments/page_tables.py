"""The tables of a page. Each number says where in summary.json it comes from: a run, a row of its results, a key."""

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from experiments import report
from experiments.page_figures import Html, Shares, tag
from experiments.page_runs import Run, names

BOTH = ("solved", "loss_ratio", "steps_to_solve", "parameters", "ms_per_update")  # what is compared


def grid(head: Iterable[str], body: Iterable[Sequence[Html]], label: str) -> Html:
    """A table that scrolls by itself where it is wider than the page."""
    top = tag("tr", *(tag("th", text, scope="col") for text in head))
    whole = tag("table", tag("thead", top), tag("tbody", *(tag("tr", *row) for row in body)))
    return tag("div", whole, class_="scroll", role="region", aria_label=label, tabindex=0)


def entry(k: int, run: Run, n: int, key: str) -> Html:
    """An entry of the n-th row of the results of a run, the k-th of the page."""
    text = report.entries(run.results[n], run.summary["baseline"])[key]
    return tag("td", text, data_run=k, data_row=n, data_key=key)


def results(k: int, run: Run) -> Html:
    metric = f"share correct ({run.summary['metric']})"
    columns = report.COLUMNS | dict(steps="updates made", final_metric=metric, description="what it is")
    return grid(columns.values(), [[entry(k, run, n, key) for key in columns] for n in range(len(run.results))], "Results")


def side_by_side(runs: Sequence[Run]) -> Html:
    """What differs in the configurations and places of two runs, and the results of the cells that both have."""
    labels, places = [run.label for run in runs], [run.config | run.env | {"argv": None, "resumed": None} for run in runs]
    keys = [key for key in places[0] | places[1] if places[0].get(key) != places[1].get(key)]
    body = [[tag("td", key), *(_setting(k, place, key) for k, place in enumerate(places))] for key in keys]
    differences = grid(["what differs", *labels], body, "Differences") if keys else tag("p", "They have the same configuration.")
    rows = [{name: n for n, name in enumerate(names(run))} for run in runs]
    both = [_compared(runs, name, [row[name] for row in rows], key) for name in rows[0] if name in rows[1] for key in BOTH]
    common = grid(["cell", "", *labels, "second / first"], both, "Results of the cells that both have")
    return tag("section", tag("h2", "Side by side"), differences, *([common] if both else []))


def _setting(k: int, place: dict[str, Any], key: str) -> Html:
    return tag("td", str(place.get(key, "-")), data_run=k, data_key=f"config.{key}")


def _compared(runs: Sequence[Run], name: str, rows: list[int], key: str) -> list[Html]:
    """A line for a quantity of a cell that both runs have; with a ratio, where both are numbers."""
    pairs = list(enumerate(zip(runs, rows, strict=True)))
    a, b = (_number(run.results[n].get(key)) for _, (run, n) in pairs)
    ratio = tag("td", f"{b / a:.2f}" if a and b else "-", data_cell=name, data_key=f"ratio.{key}")
    return [tag("td", name), tag("td", report.COLUMNS[key]), *(entry(k, run, n, key) for k, (run, n) in pairs), ratio]


def _number(value: Any) -> float | None:
    """The median over the seeds, if no seed lacks it."""
    values = value if isinstance(value, list) else [value]
    return None if None in values else statistics.median(values)


def shares_table(shares: Shares, name: str) -> Html:
    lags = sorted({lag for steps in shares.values() for lag in steps})
    body = [[tag("td", cell), *(_share(cell, lag, steps) for lag in lags)] for cell, steps in shares.items()]
    return grid(["cell", *(f"lag {lag:,}" for lag in lags)], body, f"Seeds that solved {name}")


def _share(cell: str, lag: int, steps: dict[int, list[int | None]]) -> Html:
    return tag("td", report.solved(steps[lag]) if lag in steps else "-", data_cell=cell, data_lag=lag)
