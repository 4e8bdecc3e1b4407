"""The words and the table that a run ends with, from its summary alone."""

import statistics
from typing import Any

Row = dict[str, Any]
COLUMNS = ("cell", "lr", "params", "solved", "updates to solve", "final loss", "/ baseline", "ms/update", "seconds")


def report(summary: dict[str, Any]) -> str:
    """Header, table and remarks."""
    env, rows = summary["env"], summary["results"]
    device = f"jax {env['jax']} on {env['device']} ({env['cpus']} CPUs)"
    head = f"{summary['task']}, lag {summary['lag']}, {summary['seeds']} seeds; {device}; {summary['seconds']:.0f} s"
    level = (
        f"baseline {summary['baseline']:.4f} (the best constant; {summary['evaluation_baseline']:.4f} on the evaluation batch)"
    )
    notes = [f"{name}: {text}." for name, text in {row["cell"]: row["description"] for row in rows}.items()]
    lines = [
        head,
        f"{level}; solved below {summary['solved_below']:g}",
        "",
        *table(rows, summary["baseline"]),
        "",
        *notes,
        "",
        *remarks(rows),
        *comparison(rows),
    ]
    if summary["status"] == "interrupted":
        lines.append("Interrupted: these are the results so far.")
    return "\n".join(lines)


def table(rows: list[Row], baseline: float) -> list[str]:
    """The lines of a table of the results."""
    return aligned([COLUMNS, *(line(row, baseline) for row in rows)])


def aligned(cells: list[tuple[str, ...]]) -> list[str]:
    """The lines of a table, of which the first is the head: right-aligned but for the first column."""
    widths = [max(len(entry) for entry in column) for column in zip(*cells, strict=True)]
    head, *body = cells
    return [
        "  ".join(e.ljust(w) if k == 0 else e.rjust(w) for k, (e, w) in enumerate(zip(c, widths, strict=True)))
        for c in (head, tuple("-" * width for width in widths), *body)
    ]


def line(row: Row, baseline: float) -> tuple[str, ...]:
    """A row of the table. Losses are medians over the seeds."""
    steps = [step for step in row["steps_to_solve"] if step is not None]
    loss = median(row["final_loss"])
    return (
        row["cell"],
        f"{row['learning_rate']:g}",
        f"{row['parameters']:,}",
        f"{len(steps)}/{len(row['steps_to_solve'])}",
        f"{statistics.median(steps):,.0f} ({min(steps):,}-{max(steps):,})" if steps else "-",
        not_finished(row) if loss is None else f"{loss:.5f}",
        "-" if loss is None else f"{loss / baseline:.4f}",
        "-" if row["ms_per_update"] is None else f"{row['ms_per_update']:.1f}",
        f"{row['seconds']:.0f}",
    )


def median(values: list[float | None]) -> float | None:
    """The median; None counts as the largest, and is the result where most are None."""
    ordered = sorted(values, key=lambda v: float("inf") if v is None else v)
    return ordered[len(ordered) // 2]


def not_finished(row: Row) -> str:
    return "nan" if row["finished"] else "-"


def remarks(rows: list[Row]) -> list[str]:
    """A sentence for each cell with seeds that have not solved the task."""
    lines = []
    for row in rows:
        label, seeds = f"{row['cell']} (learning rate {row['learning_rate']:g})", len(row["steps_to_solve"])
        lost = [step for step in row["not_finite_at"] if step is not None]
        unsolved = seeds - sum(step is not None for step in row["steps_to_solve"])
        if lost:
            lines.append(f"{label}: the loss of {len(lost)} of {seeds} seeds was NaN or infinite after {min(lost):,} updates.")
        if unsolved:
            seeds = (
                f"{unsolved} of {seeds} seeds not solved in {row['steps']:,} updates at this learning rate and initialisation."
            )
            lines.append(f"{label}: {seeds}")
    return lines


def comparison(rows: list[Row]) -> list[str]:
    """One line that holds the first GRU against the first LSTM, where there are both."""
    timed = [row for row in rows if row["ms_per_update"] is not None]
    gru, lstm = (next((row for row in timed if row["cell"].startswith(kind)), None) for kind in ("gru", "lstm"))
    if gru is None or lstm is None:
        return []
    size, cost = (gru[k] / lstm[k] for k in ("parameters", "ms_per_update"))
    text = f"LSTM or GRU? {gru['cell']} has {size:.2f} times the parameters of {lstm['cell']} and takes {cost:.2f} times as long"
    text += " per update"
    fast, slow = gru["steps_to_solve"], lstm["steps_to_solve"]
    if None not in fast + slow:
        text += f"; it solved the task in {statistics.median(fast):,.0f} updates, against {statistics.median(slow):,.0f}"
    return [text + "."]
