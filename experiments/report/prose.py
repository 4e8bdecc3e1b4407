"""What runs have saved, said in words and tables."""

import statistics
from collections.abc import Iterable

from experiments.report.saved import Row, Run
from experiments.report.statistics import range_covers
from experiments.report.verdicts import ahead, edges

# The columns of a table of results: keys of `entries`, and titles. A terminal has room for fewer.
COLUMNS = dict(
    cell="cell",
    learning_rate="rate",
    parameters="parameters",
    solved="solved",
    steps_to_solve="updates to solve",
    first_below="first below",
    loss_ratio="loss/baseline",
    ms_per_update="ms/update",
    seconds="seconds",
)
FEWER = {key: title for key, title in COLUMNS.items() if key != "first_below"}
# entries that are a number of the row, and its form
PLAIN = dict(parameters=",", steps=",", ms_per_update=".1f", seconds=".0f")


def settings(config: Row) -> str:
    """What besides task, lag and cell decides how a training goes; what is seldom set,
    only where it is.
    """
    keys = [
        "parameters" if config.get("parameters") else "hidden_size",
        "batch_size",
        "clip",
        "learning_rates",
    ]
    keys += [
        key
        for key, usual in {"task_options": {}, "layers": 1}.items()
        if config.get(key, usual) != usual
    ]
    return ", ".join(f"{key} {config[key]}" for key in keys if key in config)


def names(run: Run) -> list[str]:
    """A name for each row of the results: the cell,
    with its learning rate where there are several.
    """
    several = len(run.config.get("learning_rates", [])) > 1
    return [
        f"{row['cell']} at {row['learning_rate']:g}" if several else row["cell"]
        for row in run.results
    ]


def report(summary: Row) -> str:
    """The words and the table that a run ends with, from its summary alone; each thing once."""
    env = summary["env"]
    rows = summary["results"]
    rates = {row["learning_rate"] for row in rows}
    # a rate that all have stands above the table
    keys = [key for key in FEWER if key != "learning_rate" or len(rates) != 1]
    lines = [line(row, summary["baseline"], keys) for row in rows]
    notes = dict.fromkeys(f"{row['cell']}: {row['description']}." for row in rows)
    cut = summary["status"] == "interrupted"
    parts = (
        [_head(summary, rates), _bar(summary)],
        aligned([tuple(FEWER[key] for key in keys), *lines]),
        notes,
        [*ranges(summary), *ahead(rows), *remarks(rows), *tuned(summary)],
        ["Interrupted: these are the results so far."] if cut else [],
        [
            f"jax {env['jax']} on {env['device']} ({env['cpus']} CPUs), "
            f"{summary['seconds']:.0f} s of training"
        ],
    )
    return "\n\n".join("\n".join(part) for part in parts if part)


def _head(summary: Row, rates: set[float]) -> str:
    """What was trained."""
    rate = f", learning rate {min(rates):g}" if len(rates) == 1 else ""
    seeds = f"{summary['seeds']} seed{'s' * (summary['seeds'] > 1)} of each cell"
    return f"{summary['task']}, lag {summary['lag']}: {seeds}{rate}"


def ranges(summary: Row) -> list[str]:
    """What numbers of updates stand for: a sentence, where there are some of several seeds."""
    seeds = summary["seeds"]
    solved = any(step for row in summary["results"] for step in row["steps_to_solve"])
    if seeds < 2 or not solved:
        return []
    return [
        "Updates: the median, and the range of the seeds that solved it. "
        f"The range of {seeds} seeds holds the median of all with {range_covers(seeds):.0%}."
    ]


def tuned(summary: Row) -> list[str]:
    """Where the best learning rate lies at the edge of those that were tried."""
    return edges([*summary["results"], *summary.get("selection", [])])


def _bar(summary: Row) -> str:
    """What counts as solved."""
    checks = summary["checks"]
    often = "once" if checks == 1 else f"at {checks} checks in a row"
    return (
        f"solved: a loss below {summary['solved_below']:g} on sequences held out, {often}; "
        f"the best constant has {summary['baseline']:.4f}, the baseline"
    )


def aligned(cells: list[tuple[str, ...]]) -> list[str]:
    """The lines of a table, of which the first is the head:
    right-aligned but for the first column.
    """
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    form = "  ".join(f"{{:{'>' if k else '<'}{width}}}" for k, width in enumerate(widths))
    rule = ("-" * width for width in widths)
    return [form.format(*line) for line in (cells[0], rule, *cells[1:])]


def line(row: Row, baseline: float, keys: Iterable[str]) -> tuple[str, ...]:
    """A row of a table with the columns `keys`."""
    return tuple(map(entries(row, baseline).__getitem__, keys))


def entries(row: Row, baseline: float) -> dict[str, str]:
    """What tables say of a row of the results, by key.
    Losses and shares are medians over the seeds.
    """
    loss = median(row["final_loss"])
    lost = loss is None and row["finished"]
    share = median(row["final_metric"])
    return {
        "cell": row["cell"],
        "description": row["description"],
        "learning_rate": f"{row['learning_rate']:g}",
        "solved": solved(row["steps_to_solve"]),
        "steps_to_solve": _updates(row["steps_to_solve"]),
        "first_below": _updates(row.get("first_below", [])),
        "loss_ratio": "nan" if lost else number(loss and loss / baseline, ".4f"),
        "final_metric": number(share, ".3f"),
        **{key: number(row[key], form) for key, form in PLAIN.items()},
    }


def _updates(steps: list[int | None]) -> str:
    """Median and range, of those that there are."""
    known = [step for step in steps if step is not None]
    if not known:
        return "-"
    return f"{statistics.median(known):,.0f} ({min(known):,}-{max(known):,})"


def solved(steps: list[int | None]) -> str:
    """How many seeds have solved the task: a share."""
    return f"{len(steps) - steps.count(None)}/{len(steps)}"


def number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def median(values: list[float | None]) -> float | None:
    """The median; None counts as the largest, and is the result where most are None."""
    ordered = sorted(values, key=lambda v: float("inf") if v is None else v)
    return ordered[len(ordered) // 2]


def remarks(rows: list[Row]) -> list[str]:
    """Sentences about each cell: losses that were not finite, and scores at other lags; and one
    about all: what it means that a seed has not solved the task.
    """
    lines = []
    unsolved = [row["steps"] for row in rows if None in row["steps_to_solve"]]
    if unsolved:
        lines.append(
            f"Not solved means: not in {max(unsolved):,} updates at this learning rate and "
            "initialisation."
        )
    for row in rows:
        label = f"{row['cell']} (learning rate {row['learning_rate']:g})"
        seeds = len(row["steps_to_solve"])
        if lost := [step for step in row["not_finite_at"] if step is not None]:
            lines.append(
                f"{label}: the loss of {len(lost)} of {seeds} seeds was NaN or infinite after "
                f"{min(lost):,} updates."
            )
        for lag, scores in row.get("tests", {}).items():
            found = sorted(score for score in scores["metric"] if score is not None)
            spread = f"{median(found):.3f} ({found[0]:.3f}-{found[-1]:.3f})" if found else "-"
            lines.append(f"{label}: tested at lag {lag}, the metric is {spread}.")
    return lines
