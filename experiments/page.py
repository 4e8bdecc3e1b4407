"""`report RUNS...`: one page of HTML from the folders of runs, with nothing to load from elsewhere and no script."""

import re
import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from string import Template

from experiments import figures, folder, report
from experiments.config import RunError
from experiments.page_parts import Html, Shares, cost, results, shares_table, side_by_side, success, svg, tag
from experiments.tasks import TASKS

LEARNING = f"""Training loss over that of the best constant: median (line) and range (band) of the seeds. Losses above
{figures.TOP:g} lie beyond the top. A dot marks the last update; a training ends when all of its seeds have solved the task."""
FLOW = "How much of the gradient is left after so many steps back: the median over seeds and sequences."
SPEED = "Parameters, and time per update of all seeds, without compilation. Times of different machines do not compare."


def write(folders: Sequence[Path], out: Path) -> None:
    """Writes the page of the runs, and of all runs of a sweep.

    Raises:
        UsageError: a folder holds no run, or one that cannot be read.
        RunError: a file was changed by hand, so that something is not where it belongs.
    """
    try:
        text = page(report.read(folders))
    except (AttributeError, LookupError, TypeError) as error:
        raise RunError(f"{', '.join(map(str, folders))}: a file lacks what belongs there ({error!r}).") from error
    folder.write(out, text)


def page(runs: list[report.Run]) -> str:
    """page.html with what is known of the runs."""
    two = len(runs) == 2 and all(run.config for run in runs)
    return Template(Path(__file__).with_name("page.html").read_text()).substitute(
        title=", ".join(dict.fromkeys(run.config.get("task", "gradients") for run in runs if run.config)),
        style=Path(__file__).with_name("page.css").read_text(),
        layout="two" if two else "one",
        verdicts="".join(verdict(k, run) for k, run in enumerate(runs)),
        comparison=side_by_side(runs) if two else "",
        success=against_lag(runs),
        articles="".join(article(k, run) for k, run in enumerate(runs) if run.config),
    )


def verdict(k: int, run: report.Run) -> Html:
    """What a run has shown, in words for who does not know it, with a link to more."""
    label = tag("a", run.label, href=f"#run-{k}") if run.config else tag("b", run.label)
    words = flow(run.gradients) if run.gradients else solved(run) if run.results else ""
    return tag("p", label, f": {words}", "" if run.status == "done" else f" Status: {run.status}.")


def flow(data: report.Row) -> str:
    """Which cell keeps most and which least of the gradient, before training."""
    lag = data["lag"] - 1
    ends = {cell: phases["before"]["jacobian"][lag] for cell, phases in data["curves"].items()}
    kept = sorted((0.0 if end is None else 10**end, cell) for cell, end in ends.items())
    (least, low), (most, high) = kept[0], kept[-1]
    return f"Over {lag} steps, {high} keeps at most {most:.1g} of the gradient at initialisation, and {low} {least:.1g}."


def solved(run: report.Run) -> str:
    """How many seeds of which cells have solved the task."""
    words = [re.split("[,:(]", row["description"])[0].strip() for row in run.results]
    groups: dict[str, list[str]] = {}
    for name, row in zip(words if len(set(words)) == len(words) else report.names(run), run.results, strict=True):
        groups.setdefault(report.solved(row["steps_to_solve"]).replace("/", " of "), []).append(name)
    parts = "; ".join(f"{count} of {', '.join(groups[count])}" for count in sorted(groups, reverse=True))
    task, steps = f"{run.config['task']} at lag {run.config['lag']}", max(row["steps"] for row in run.results)
    return f"Seeds that solved {task} within {steps:,} updates: {parts}."


def article(k: int, run: report.Run) -> Html:
    """All about one run, the k-th of the page."""
    config, name = run.config, f"run-{k}"
    facts = config.get("description"), config.get("task"), f"lag {config['lag']}", report.settings(config), run.env["device"]
    parts = [tag("h2", run.label), tag("p", " · ".join(filter(None, (*facts, f"{config['seeds']} seeds"))), class_="note")]
    if "task" in config:
        curves = figures.learning_panels(config, run.metrics) if run.metrics else []
        parts += verdict_table(k, run) if run.results else []
        parts += [tag("h3", "Learning curves"), figure(curves, f"{name}-learning", LEARNING, [run])]
        parts += [tag("h3", "Parameters and speed"), figure(cost(run), f"{name}-cost", SPEED, [run], 0.7 + len(run.results) / 4)]
    else:
        flows = figures.gradient_panels(run.gradients) if run.gradients else []
        parts += [tag("h3", "Gradient flow"), figure(flows, f"{name}-gradient", FLOW, [run])]
    return tag("article", *parts, id=name)


def verdict_table(k: int, run: report.Run) -> list[Html]:
    task, level, baseline = TASKS[run.config["task"]].description, run.summary["solved_below"], run.summary["baseline"]
    goal = f"The task: {task}. Solved means a mean training loss below {level:g}; the best constant has {baseline:.4f}."
    notes = (tag("li", line) for line in [*report.comparison(run.results), *report.remarks(run.results)])
    return [tag("p", goal), results(k, run), tag("details", tag("summary", "Remarks"), tag("ul", *notes), class_="note", open="")]


def against_lag(runs: list[report.Run]) -> Html:
    """Figures and tables of success against lag, each of runs that have the same task and sizes."""
    groups: dict[str, list[report.Run]] = {}
    for run in sorted((run for run in runs if run.results), key=lambda run: run.config["lag"]):
        groups.setdefault(f"{run.config['task']}, {report.settings(run.config)}", []).append(run)
    parts = []
    for n, (name, some) in enumerate(groups.items()):
        shares: Shares = {}
        for run in some:
            for cell, row in zip(report.names(run), run.results, strict=True):
                if row["finished"]:
                    shares.setdefault(cell, {}).setdefault(run.config["lag"], []).extend(row["steps_to_solve"])
        if some[0].config["lag"] < some[-1].config["lag"]:
            words = f"Share of seeds that solved {name}. Points of one lag stand side by side, so that none hides another."
            parts += [figure([partial(success, shares)], f"lag-{n}", words, some), shares_table(shares, name)]
    return tag("section", tag("h2", "Success against lag"), *parts) if parts else Html()


def figure(panels: Sequence[figures.Panel], name: str, caption: str, runs: list[report.Run], height: float = 3.1) -> Html:
    """The panels with a caption, and what reproduces them: command, configuration, versions and device of each run."""
    if not panels:
        return tag("p", "No numbers for this were kept.")
    parts = [tag("summary", "Reproduce this figure")]
    for run in runs:
        places = "\n".join(f"{key}: {value}" for key, value in run.env.items() if key != "argv")
        texts = shlex.join(run.env["argv"]), (run.folder / "config.yaml").read_text(), places
        parts += [tag("p", tag("b", run.label)), *(tag("pre", text.strip()) for text in texts)]
    svgs = tag("div", *(svg(panel, f"{name}-{k}", height) for k, panel in enumerate(panels)), class_="panels")
    return tag("figure", svgs, tag("figcaption", caption, tag("details", *parts)), class_=f"of-{len(panels)}")
