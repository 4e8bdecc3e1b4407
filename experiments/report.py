"""The words and the table that a run ends with, from its summary alone."""

import statistics
from typing import Any

Row = dict[str, Any]
# The columns of the table: keys of `entries`, and titles.
COLUMNS = dict(cell="cell", learning_rate="rate", parameters="parameters", solved="solved", steps_to_solve="updates to solve")
COLUMNS |= dict(final_loss="final loss", loss_ratio="loss/baseline", ms_per_update="ms/update", seconds="seconds")


def report(summary: Row) -> str:
    """Header, table and remarks."""
    env, rows, baseline = summary["env"], summary["results"], summary["baseline"]
    device = f"jax {env['jax']} on {env['device']} ({env['cpus']} CPUs)"
    head = f"{summary['task']}, lag {summary['lag']}, {summary['seeds']} seeds; {device}; {summary['seconds']:.0f} s"
    level = f"baseline {baseline:.4f} (the best constant; {summary['evaluation_baseline']:.4f} on the evaluation batch)"
    notes = dict.fromkeys(f"{row['cell']}: {row['description']}." for row in rows)
    end = ["Interrupted: these are the results so far."] if summary["status"] == "interrupted" else []
    table = aligned([tuple(COLUMNS.values()), *(line(row, baseline) for row in rows)])
    parts = [head, f"{level}; solved below {summary['solved_below']:g}"], table, notes, [*remarks(rows), *comparison(rows), *end]
    return "\n\n".join("\n".join(part) for part in parts)


def aligned(cells: list[tuple[str, ...]]) -> list[str]:
    """The lines of a table, of which the first is the head: right-aligned but for the first column."""
    widths = [max(len(entry) for entry in column) for column in zip(*cells, strict=True)]
    head, *body = cells
    return [
        "  ".join(e.ljust(w) if k == 0 else e.rjust(w) for k, (e, w) in enumerate(zip(c, widths, strict=True)))
        for c in (head, tuple("-" * width for width in widths), *body)
    ]


def line(row: Row, baseline: float) -> tuple[str, ...]:
    """A row of the table."""
    words = entries(row, baseline)
    return tuple(words[key] for key in COLUMNS)


def entries(row: Row, baseline: float) -> dict[str, str]:
    """What tables say of a row of the results, by key. Losses and shares are medians over the seeds."""
    steps = [step for step in row["steps_to_solve"] if step is not None]
    loss, share = median(row["final_loss"]), median(row["final_metric"])
    return {
        "cell": row["cell"],
        "description": row["description"],
        "learning_rate": f"{row['learning_rate']:g}",
        "parameters": number(row["parameters"], ","),
        "solved": solved(row["steps_to_solve"]),
        "steps": number(row["steps"], ","),
        "steps_to_solve": f"{statistics.median(steps):,.0f} ({min(steps):,}-{max(steps):,})" if steps else "-",
        "final_loss": "nan" if loss is None and row["finished"] else number(loss, ".5f"),
        "loss_ratio": number(loss and loss / baseline, ".4f"),
        "final_metric": number(share, ".3f"),
        "ms_per_update": number(row["ms_per_update"], ".1f"),
        "seconds": number(row["seconds"], ".0f"),
    }


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
    """A sentence for each cell with seeds that have not solved the task, or whose loss was not finite."""
    lines = []
    for row in rows:
        label, seeds = f"{row['cell']} (learning rate {row['learning_rate']:g})", len(row["steps_to_solve"])
        if lost := [step for step in row["not_finite_at"] if step is not None]:
            lines.append(f"{label}: the loss of {len(lost)} of {seeds} seeds was NaN or infinite after {min(lost):,} updates.")
        if unsolved := row["steps_to_solve"].count(None):
            limit = f"in {row['steps']:,} updates at this learning rate and initialisation"
            lines.append(f"{label}: {unsolved} of {seeds} seeds not solved {limit}.")
    return lines


def comparison(rows: list[Row]) -> list[str]:
    """One line that holds the first GRU against the first LSTM, where there are both."""
    timed = [row for row in rows if row["ms_per_update"] is not None]
    gru, lstm = (next((row for row in timed if row["cell"].startswith(kind)), None) for kind in ("gru", "lstm"))
    if gru is None or lstm is None:
        return []
    size, cost = (f"{gru[key] / lstm[key]:.2f} times" for key in ("parameters", "ms_per_update"))
    a, b = gru["steps_to_solve"], lstm["steps_to_solve"]
    end = "" if None in a + b else f", and solved it in {statistics.median(a):,.0f} updates, against {statistics.median(b):,.0f}"
    text = f"{gru['cell']} has {size} the parameters of {lstm['cell']} and takes {cost} as long per update{end}"
    return [f"LSTM or GRU? {text}."]
