"""`report RUNS...`: one page of HTML from the folders of runs, with nothing to load from elsewhere and no script."""

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from experiments import folder, report
from experiments.page_figures import TOP, Html, cost, gradient, learning, levels, success, tag
from experiments.page_runs import Row, Run, read
from experiments.page_tables import COST, VERDICT, results, shares, shares_table, side_by_side
from experiments.tasks import TASKS

ENDS = {
    "interrupted": "The run was interrupted: these are its results so far.",
    "not ended": "The run has not ended: this is what it has so far.",
    "not begun": "The run has not begun.",
}
HINTS = {
    "Success against lag": ("needs runs at several lags", "python -m experiments sweep adding --grid.lag 50,100,200"),
    "Gradient flow": ("needs a run of", "python -m experiments gradients"),
}


def write(folders: Sequence[Path], out: Path) -> None:
    """Writes the page of the runs, and of all runs of a sweep.

    Raises:
        UsageError: a folder holds no run, or one that cannot be read.
    """
    folder.write(out, page(read(folders)))


def page(runs: list[Run]) -> str:
    title = heading(runs)
    names = [tag("a", run.label, href=f"#run-{k}") if run.config else tag("b", run.label) for k, run in enumerate(runs)]
    lines = [tag("p", *([name, ": "] if len(runs) > 1 else []), verdict(run)) for name, run in zip(names, runs, strict=True)]
    two, lags = len(runs) == 2 and all(run.config for run in runs), against_lag(runs)
    articles = tag("div", *(article(k, run) for k, run in enumerate(runs) if run.config), class_="runs")
    missing = [name for name, has in zip(HINTS, (lags, any(run.gradients for run in runs)), strict=True) if not has]
    hints = [tag("p", tag("b", name), f" {HINTS[name][0]}: ", tag("code", HINTS[name][1])) for name in missing]
    foot = [tag("section", tag("h2", "Not in this report"), *hints)] if hints else []
    header = tag("header", tag("h1", title), *lines)
    main = tag("main", header, *([side_by_side(*runs)] if two else []), *lags, articles, *foot, class_="two" if two else "one")
    meta = Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">')
    style = Html((Path(__file__).parent / "page.css").read_text())
    head = tag("head", meta, tag("title", title), tag("style", style))
    return f"<!DOCTYPE html>\n{tag('html', head, tag('body', main), lang='en')}\n"


def heading(runs: list[Run]) -> str:
    tasks: dict[str, set[int]] = {}
    for run in (run for run in runs if run.config):
        tasks.setdefault(run.config.get("task", "gradients"), set()).add(run.config["lag"])
    lags = (f"{name}, lag{'s' if len(some) > 1 else ''} {series(map(str, sorted(some)))}" for name, some in tasks.items())
    return "; ".join(lags) or "Runs"


def subject(run: Run) -> str:
    return f"{run.config.get('task', 'gradients')}, lag {run.config['lag']}"


def verdict(run: Run) -> str:
    """What a run has shown, in words for who does not know it."""
    words = ""
    if run.gradients:
        words = flow(run.gradients)
    elif run.summary.get("results"):
        words = solved(run.summary)
    end = f"The run failed{f': {run.failure}' if run.failure else ''}." if run.status == "failed" else ENDS.get(run.status, "")
    return f"{words} {end}".strip()


def flow(data: Row) -> str:
    """Which cell keeps most and which least of the gradient, before training."""
    lag = data["lag"] - 1
    ends = {cell: phases["before"]["jacobian"][lag] for cell, phases in data["curves"].items()}
    low, *_, high = sorted(ends, key=lambda cell: -1e9 if ends[cell] is None else ends[cell]) * 2
    words = {cell: "nothing" if end is None else f"{10**end:.1g}" for cell, end in ends.items()}
    return f"Over {lag} steps, {high} keeps at most {words[high]} of the gradient at initialisation, and {low} {words[low]}."


def solved(summary: Row) -> str:
    """How many seeds of which cells have solved the task."""
    groups: dict[int, list[Row]] = {}
    for row in summary["results"]:
        groups.setdefault(sum(step is not None for step in row["steps_to_solve"]), []).append(row)
    parts, seeds, task = [], summary["seeds"], f" solved {summary['task']} at lag {summary['lag']}"
    shares = {0: "none", seeds: f"all {seeds} seeds" if seeds > 1 else "its one seed"}
    for count, rows in sorted(groups.items(), reverse=True):
        words, did = cells(rows, summary["results"]), "" if parts else task
        limits = sorted({pick(row["steps"] for row in rows) for pick in (min, max)})
        limit = "" if count == seeds else f" within {'-'.join(f'{n:,}' for n in limits)} updates"
        share = shares.get(count, f"{count} of {seeds} seeds")
        parts.append(f"{words}{did} on {share}{limit}" if count or parts else f"No seed of {words}{did}{limit}")
    rates = sorted({row["learning_rate"] for row in summary["results"]})
    return f"{'; '.join(parts)} (learning rate{'s' if len(rates) > 1 else ''} {series(f'{rate:g}' for rate in rates)})."


def cells(rows: list[Row], every: list[Row]) -> str:
    """The cells of `rows` by what they are, where that tells them apart, with a learning rate if others are not in `rows`."""
    short = {row["cell"]: re.split("[,:(]", row["description"])[0].strip() or row["cell"] for row in every}
    if len(short) > 6:
        return f"{len(rows)} of {len(every)} {'cells' if len(short) == len(every) else 'trainings'}"
    words = short if len(set(short.values())) == len(short) else {cell: cell for cell in short}
    there, here = (Counter(row["cell"] for row in some) for some in (every, rows))
    rates = [("" if here[row["cell"]] == there[row["cell"]] else f" ({row['learning_rate']:g})") for row in rows]
    return series(dict.fromkeys(words[row["cell"]] + rate for row, rate in zip(rows, rates, strict=True)))


def series(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def article(k: int, run: Run) -> Html:
    """All about one run, the k-th of the page."""
    config, time = run.config, run.summary.get("seconds")
    facts = [config.get("description"), subject(run), f"{config['seeds']} seeds", f"H = {config['hidden_size']}", run.status]
    facts += [f"{time:,.0f} s" if time else None, f"on {run.env['device']}" if "device" in run.env else None]
    head = [tag("h2", run.label), tag("p", " · ".join(filter(None, facts)), class_="note")]
    if "task" in config:
        return tag("article", *head, *training(k, run), id=f"run-{k}")
    svgs = gradient(run, f"run-{k}") if run.gradients else []
    caption = "How much of the gradient is left after so many steps back: the median over seeds and sequences."
    flows = figure(svgs, caption, [run]) if svgs else tag("p", "No gradients were kept.")
    return tag("article", *head, tag("h3", "Gradient flow"), flows, id=f"run-{k}")


def training(k: int, run: Run) -> list[Html]:
    summary, bars, seeds = run.summary, cost(run, f"run-{k}"), run.config["seeds"]
    if not summary["results"]:
        return [tag("p", "There are no results and no losses yet.")]
    goal = (
        f"The task: {TASKS[summary['task']].description}. Solved means a mean training loss below {summary['solved_below']:g}; "
    )
    speed = f"Parameters, and time per update of all {seeds} seeds, without compilation. "
    return [
        tag("p", f"{goal}the best constant scores {summary['baseline']:.4f}."),
        results(k, run, VERDICT | {"final_metric": f"share correct ({summary['metric']})"}, "Verdict"),
        remarks(run),
        tag("h3", "Learning curves"),
        curves(k, run) if run.metrics else tag("p", "No losses were kept."),
        tag("h3", "Parameters and speed"),
        *([figure(bars, f"{speed}Times of different machines do not compare.", [run])] if bars else []),
        results(k, run, COST, "Parameters and speed"),
    ]


def remarks(run: Run) -> Html:
    """What the table does not say; where that is much, folded."""
    rows = run.summary["results"]
    lines = [*report.comparison(rows), *report.remarks(rows)]
    if left := sum(not row["finished"] for row in rows):
        lines.insert(0, f"{left} of {len(rows)} trainings were not evaluated at their end: their final losses are not known.")
    listed = tag("ul", *(tag("li", line) for line in lines), class_="note")
    return tag("details", tag("summary", f"{len(lines)} remarks"), listed) if len(lines) > 6 else listed


def curves(k: int, run: Run) -> Html:
    known = levels(run)
    caption = f"Training loss over that of the best constant: median (line) and range (band) of {run.config['seeds']} seeds. "
    caption += f"Dashed: {'; '.join(f'{text}, {level:.2g}' for text, level in known.items())}. "
    beyond = any((row["loss"] or 0) > TOP * run.summary["baseline"] for row in run.metrics)
    caption += f"Losses above {TOP:g} lie beyond the top. " if beyond else ""
    caption += "A dot marks the last update; a training ends when all of its seeds have solved the task."
    return figure(learning(run, f"run-{k}"), caption, [run])


def against_lag(runs: list[Run]) -> list[Html]:
    """Figure and table of success against lag, for all runs that differ in nothing else that is large."""
    groups: dict[str, list[Run]] = {}
    for run in (run for run in runs if run.summary.get("results")):
        sizes = ", ".join(f"{key} {run.config[key]}" for key in ("hidden_size", "batch_size", "clip"))
        groups.setdefault(f"{run.config['task']}, {sizes}", []).append(run)
    parts = []
    for n, (name, some) in enumerate(groups.items()):
        if found := shares(some) if len({run.config["lag"] for run in some}) > 1 else {}:
            words = f"Share of seeds that solved {name}. Points of one lag stand side by side, so that none hides another."
            parts += [figure(success(found, f"lag-{n}"), words, some), shares_table(found, name)]
    return [tag("section", tag("h2", "Success against lag"), *parts)] if parts else []


def figure(svgs: list[Html], caption: str, runs: list[Run]) -> Html:
    panels = tag("div", *svgs, class_="panels")
    return tag("figure", panels, tag("figcaption", caption, reproduce(runs)), class_="single" if len(svgs) == 1 else "several")


def reproduce(runs: list[Run]) -> Html:
    """Command, configuration, versions and device of the runs that a figure shows."""
    parts = [tag("summary", "Reproduce this figure")]
    for run in runs:
        command = shlex.join(run.env["argv"]) if "argv" in run.env else "(the command was not kept)"
        places = [f"{key}: {value}" for key, value in run.env.items() if key not in ("argv", "resumed")]
        places += [f"gone on with: {len(run.env['resumed'])} times"] if run.env.get("resumed") else []
        config = (run.folder / "config.yaml").read_text().strip()
        parts += [tag("p", tag("b", run.label)), *(tag("pre", text) for text in (command, config, "\n".join(places)))]
    return tag("details", *parts)
