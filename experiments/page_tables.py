"""The tables of a page. Each number says where in summary.json it comes from: a run, a row of its results, a key."""

import statistics
from collections.abc import Iterable
from typing import Any

from experiments import report
from experiments.page_figures import Html, tag
from experiments.page_runs import Row, Run

Shares = dict[str, dict[int, tuple[int, int]]]  # {cell: {lag: (seeds that solved the task, seeds)}}
# The keys of report.line, as far as there is one those of summary.json.
KEYS = ("cell", "learning_rate", "parameters", "solved", "steps_to_solve", "final_loss", "loss_ratio", "ms_per_update", "seconds")
VERDICT = {"cell": "cell", "learning_rate": "learning rate", "solved": "seeds solved", "steps": "updates made"}
VERDICT |= {"steps_to_solve": "updates to solve, median (range)", "loss_ratio": "final loss / baseline"}
COST = {"cell": "cell", "description": "what it is", "parameters": "parameters", "ms_per_update": "ms per update", "seconds": "s"}
BOTH = {"solved": "solved", "loss_ratio": "final loss", "steps_to_solve": "updates", "parameters": "parameters"}
BOTH |= {"ms_per_update": "ms"}
RATIOS = ("steps_to_solve", "parameters", "ms_per_update")


def texts(row: Row, baseline: float) -> dict[str, str]:
    """The entries of a row of results."""
    words = dict(zip(KEYS, report.line(row, baseline), strict=True))
    share = report.median(row["final_metric"])
    words |= {"description": row["description"], "steps": f"{row['steps']:,}"}
    words["final_metric"] = "-" if share is None else f"{share:.3f}"
    return words if row["parameters"] else words | {"parameters": "-"}  # 0: not known before the end


def entry(run: int, row: int, key: str, text: str) -> Html:
    return tag("td", text, data_run=run, data_row=row, data_key=key)


def results(k: int, run: Run, columns: dict[str, str], label: str) -> Html:
    """A row for each training of a run, the k-th of the page."""
    rows = [texts(row, run.summary["baseline"]) for row in run.summary["results"]]
    return grid(columns.values(), [[entry(k, n, key, row[key]) for key in columns] for n, row in enumerate(rows)], label)


def grid(head: Iterable[str], body: Iterable[Iterable[Html]], label: str) -> Html:
    """A table that scrolls by itself where it is wider than the page."""
    top = tag("tr", *(tag("th", text, scope="col") for text in head))
    whole = tag("table", tag("thead", top), tag("tbody", *(tag("tr", *row) for row in body)))
    return tag("div", whole, class_="scroll", role="region", aria_label=label, tabindex=0)


def side_by_side(first: Run, second: Run) -> Html:
    """What differs in the configurations and places of two runs, and the results of the cells that both have."""
    places = [{**run.config, **{k: v for k, v in run.env.items() if k not in ("argv", "resumed")}} for run in (first, second)]
    keys = [key for key in places[0] | places[1] if places[0].get(key) != places[1].get(key)]
    body = [[tag("td", key), *(_value(k, key, place.get(key)) for k, place in enumerate(places))] for key in keys]
    same = tag("p", "The configurations, versions and devices are the same.")
    differences = grid(("what differs", first.label, second.label), body, "Differences") if keys else same
    return tag("section", tag("h2", "Side by side"), differences, *_common(first, second))


def _value(run: int, key: str, value: Any) -> Html:
    words = ", ".join(map(str, value)) if isinstance(value, list) else "-" if value is None else str(value)
    return tag("td", words, data_run=run, data_key=f"config.{key}")


def _common(first: Run, second: Run) -> list[Html]:
    """The trainings of the same cell, at the same learning rate where a run has more than one."""
    runs, body = (first, second), []
    if not (first.summary and second.summary):
        return []
    single = all(len(run.config["learning_rates"]) == 1 for run in runs)
    places = [{(r["cell"], single or r["learning_rate"]): n for n, r in enumerate(run.summary["results"])} for run in runs]
    for key in places[0].keys() & places[1].keys():
        rows = [(place[key], run.summary["results"][place[key]], run.summary) for place, run in zip(places, runs, strict=True)]
        body.append((places[0][key], _pair(rows)))
    head = ["cell"]
    for key, text in BOTH.items():
        head += [f"{text}: {first.label}", second.label, *(["ratio"] if key in RATIOS else [])]
    words = "Seeds solved, final loss / baseline, updates to solve, parameters, ms per update. The ratios are second / first; "
    words += "of updates, where all seeds of both have solved the same task."
    table = grid(head, [cells for _, cells in sorted(body)], "Results of the cells that both have")
    return [table, tag("p", words, class_="note")] if body else [tag("p", "The runs have no cell in common.")]


def _pair(rows: list[tuple[int, Row, Row]]) -> list[Html]:
    """The cells of a line: both values of each key, and their ratio where both are numbers."""
    words = [texts(row, summary["baseline"]) for _, row, summary in rows]
    same = len({(summary["task"], summary["lag"]) for *_, summary in rows}) == 1
    cells = [tag("td", rows[0][1]["cell"])]
    for key in BOTH:
        cells += [entry(k, n, key, text[key]) for k, ((n, *_), text) in enumerate(zip(rows, words, strict=True))]
        if key in RATIOS:
            a, b = (_number(row, key) for _, row, _ in rows)
            ratio = f"{b / a:.2f}" if a and b and (same or key != "steps_to_solve") else "-"
            cells.append(tag("td", ratio, data_cell=rows[0][1]["cell"], data_key=f"ratio.{key}"))
    return cells


def _number(row: Row, key: str) -> float | None:
    if key != "steps_to_solve":
        return row[key]
    return None if None in row[key] else statistics.median(row[key])


def shares(runs: list[Run]) -> Shares:
    """How many seeds solve the task at each lag; trainings that have not ended do not count."""
    found: Shares = {}
    single = len({row["learning_rate"] for run in runs for row in run.summary["results"]}) == 1
    trainings = ((run, row) for run in runs for row in run.summary["results"])
    for lag, row in ((run.config["lag"], row) for run, row in trainings if row["finished"] or run.status == "done"):
        known = found.setdefault(row["cell"] if single else f"{row['cell']} at {row['learning_rate']:g}", {})
        solved, seeds = known.get(lag, (0, 0))
        steps = row["steps_to_solve"]
        known[lag] = solved + sum(step is not None for step in steps), seeds + len(steps)
    return found


def shares_table(found: Shares, name: str) -> Html:
    lags = sorted({lag for values in found.values() for lag in values})
    body = []
    for cell, values in found.items():
        counts = ("{}/{}".format(*values[lag]) if lag in values else "-" for lag in lags)
        marked = (tag("td", text, data_cell=cell, data_lag=lag) for lag, text in zip(lags, counts, strict=True))
        body.append([tag("td", cell), *marked])
    return grid(["cell", *(f"lag {lag:,}" for lag in lags)], body, f"Seeds that solved {name}")
