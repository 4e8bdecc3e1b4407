"""`report RUNS...`: one page of HTML from the folders of runs,
with nothing to load from elsewhere and no script.

The markup is in page.html and page_parts.html, which jinja2 fills in; here is what they say of the
runs.
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import jinja2
import numpy as np

from experiments.config import HERE, RunError
from experiments.report import figures, page_figures, prose, saved
from experiments.report.matrix import fields, matrix
from experiments.report.verdicts import ahead
from experiments.tasks import TASKS
from experiments.training import folder

# .html is escaped
TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(HERE / "report"), autoescape=jinja2.select_autoescape()
)
# a line that holds a statement alone leaves none in the text
TEMPLATES.trim_blocks = TEMPLATES.lstrip_blocks = True
TEMPLATES.undefined = jinja2.StrictUndefined
BOTH = ("solved", "loss_ratio", "steps_to_solve", "parameters", "ms_per_update")  # what is compared


BROKEN = (AttributeError, LookupError, TypeError, jinja2.UndefinedError)  # what damage shows as


def write(folders: Sequence[Path], out: Path) -> None:
    """Writes the page of the runs, and of all runs of a sweep.

    Raises:
        UsageError: a folder holds no run.
        RunError: a file is damaged, or was changed by hand, so that something is not where it
            belongs.
    """
    try:
        text = page(saved.read(folders))
    except BROKEN as error:
        places = [f for f in folders if len(folders) == 1 or _broken(f)] or folders
        raise RunError(
            f"{', '.join(map(str, places))}: a file lacks what belongs there ({error!r})."
        ) from error
    folder.write(out, text)


def _broken(path: Path) -> bool:
    """Whether a folder has no page by itself."""
    try:
        page(saved.read([path]))
    except BROKEN:
        return True
    return False


def page(runs: list[saved.Run]) -> str:
    """page.html with what is known of the runs."""
    kinds = dict.fromkeys(run.config.get("task", "gradients") for run in runs if run.config)
    several = f"{len(runs)} runs of {len(kinds)} tasks"
    title = several if len(kinds) > 3 else f"Runs: {', '.join(kinds)}"
    modules = {"prose": prose, "figures": figures, "page_figures": page_figures, "tasks": TASKS}
    said = {
        function.__name__: function
        for function in (verdict, origin, groups, shares, differences, pairs, ahead, matrix)
    }
    return TEMPLATES.get_template("page.html").render(runs=runs, title=title, **modules, **said)


def verdict(run: saved.Run) -> str:
    """What a run has shown, in words for who does not know it."""
    return _flow(run.gradients) if run.gradients else _solved(run) if run.results else ""


def _flow(data: saved.Row) -> str:
    """Which cell keeps most and which least of the gradient, before training."""
    lag = data["lag"] - 1
    ends = {cell: phases["before"]["jacobian"][lag] for cell, phases in data["curves"].items()}
    kept = sorted((0.0 if end is None else 10**end, cell) for cell, end in ends.items())
    least, low = kept[0]
    most, high = kept[-1]
    return (
        f"Over {lag} steps, {high} keeps at most {most:.1g} of the gradient at initialisation, "
        f"and {low} {least:.1g}."
    )


def _solved(run: saved.Run) -> str:
    """How many seeds of which cells have solved the task, each cell at its best learning rate."""
    found = fields(run.results)
    told = [run.results[field.row]["description"] for field in found.values()]
    words = [re.split("[,:(]", text)[0].strip() for text in told]
    names = words if len(set(words)) == len(words) else list(found)
    groups: dict[str, list[str]] = {}
    for name, field in zip(names, found.values(), strict=True):
        groups.setdefault(f"{field.solved} of {field.seeds}", []).append(name)
    parts = "; ".join(
        f"{count} of {', '.join(groups[count])}" for count in sorted(groups, reverse=True)
    )
    task = f"{run.config['task']} at lag {run.config['lag']}"
    steps = max(row["steps"] for row in run.results)
    best = ", each cell at its best learning rate" if len(found) < len(run.results) else ""
    return f"Seeds that solved {task} within {steps:,} updates{best}: {parts}."


def origin(run: saved.Run) -> list[str]:
    """What reproduces the figures of a run: its command, its configuration,
    and versions and device.
    """
    places = "\n".join(f"{key}: {value}" for key, value in run.env.items() if key != "argv")
    return [shlex.join(run.env["argv"]), (run.folder / "config.yaml").read_text().strip(), places]


def groups(runs: list[saved.Run]) -> dict[str, list[saved.Run]]:
    """The runs at several lags that have the same task and sizes, which are their name."""
    found: dict[str, list[saved.Run]] = {}
    for run in sorted((run for run in runs if run.results), key=lambda run: run.config["lag"]):
        found.setdefault(f"{run.config['task']}, {prose.settings(run.config)}", []).append(run)
    return {
        name: some for name, some in found.items() if some[0].config["lag"] < some[-1].config["lag"]
    }


def shares(runs: list[saved.Run]) -> page_figures.Shares:
    """When each seed of each cell has solved the task, at the lag of each run."""
    found: page_figures.Shares = {}
    for run in runs:
        for cell, row in zip(prose.names(run), run.results, strict=True):
            if row["finished"]:
                found.setdefault(cell, {}).setdefault(run.config["lag"], []).extend(
                    row["steps_to_solve"]
                )
    return found


def differences(runs: list[saved.Run]) -> list[tuple[str, list[str]]]:
    """What differs in the configurations and places of two runs: a key, and its values."""
    a, b = (run.config | run.env | {"argv": None, "resumed": None} for run in runs)
    return [
        (key, [str(place.get(key, "-")) for place in (a, b)])
        for key in a | b
        if a.get(key) != b.get(key)
    ]


def pairs(runs: list[saved.Run]) -> Iterator[tuple[str, list[int], str, str]]:
    """The name of each cell that both runs have, its row in each, a quantity, and the ratio,
    where both are numbers.
    """
    first, second = ({name: n for n, name in enumerate(prose.names(run))} for run in runs)
    for name in [name for name in first if name in second]:
        rows = [first[name], second[name]]
        for key in BOTH:
            # A median over the seeds is NaN where a seed lacks it.
            a, b = (
                np.median(np.array(run.results[n].get(key), dtype=float))
                for run, n in zip(runs, rows, strict=True)
            )
            yield name, rows, key, f"{b / a:.2f}" if a > 0 and b > 0 else "-"
