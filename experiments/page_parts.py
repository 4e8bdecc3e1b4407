"""The parts of a page: figures and tables.

Figures are SVG in the colours of the page, with words for who does not see them. Each number of a table says where in
summary.json it comes from: a run, a row of its results, a key.
"""

import html
import io
import re
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from experiments import figures, report

WIDTH = 4.2  # inches: at the width of a phone, letters of 10 points are about as large as those of the page
# What matplotlib writes, and what it becomes: the colours of page.css, which has one set for light and one for dark.
PAGE_COLOURS = {c.lower(): f"var(--c{c[1:].lower()})" for c in (*figures.COLOURS, *(c for c, _ in figures.STYLES.values()))}
PAGE_COLOURS |= {"#000000": "currentColor", "#ebebeb": "var(--line)", "#595959": "var(--soft)"}
SETTINGS = {"svg.fonttype": "none", "text.parse_math": False, "font.size": 10, "legend.fontsize": 9.5, "axes.titlesize": 10}
BOTH = ("solved", "loss_ratio", "steps_to_solve", "parameters", "ms_per_update")  # what is compared
Shares = dict[str, dict[int, list[int | None]]]  # {cell: {lag: when each seed has solved the task}}


class Html(str):
    """Markup; any other text is escaped when it gets into a page."""


def tag(name: str, *children: str, **attributes: Any) -> Html:
    """An element. Attributes are written with _ for -, and `class_` for class."""
    inside = "".join(child if isinstance(child, Html) else html.escape(child) for child in children)
    words = "".join(f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"' for key, value in attributes.items())
    return Html(f"<{name}{words}>{inside}</{name}>")


def svg(panel: figures.Panel, name: str, height: float) -> Html:
    """A figure of one panel, so that a narrow page can put them one below another; `name` keeps its ids its own."""
    file = io.StringIO()
    with matplotlib.rc_context({**SETTINGS, "svg.hashsalt": name}):
        fig, (label,) = figures.together([panel], 1, (WIDTH, height))
        fig.savefig(file, format="svg", transparent=True)
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", file.getvalue(), flags=re.DOTALL)
    text = re.sub(r'( id="|url\(#|xlink:href="#)', rf"\g<1>{name}-", text[text.index("<svg") :])
    text = re.sub(r"#[0-9a-f]{6}\b(?=[;\"])", lambda found: PAGE_COLOURS[found[0]], text)
    start = f'<svg role="img" aria-label="{html.escape(label)}"'
    return Html(re.sub(r'<svg( xmlns:xlink="\S+")? width="\S+" height="\S+"', lambda _: start, text, count=1))


def cost(run: report.Run) -> list[figures.Panel]:
    """Parameters and time per update as bars, a panel for each."""
    panels = []
    for key, title, form in (("parameters", "parameters", ",.0f"), ("ms_per_update", "ms per update, all seeds", ",.1f")):
        values = {name: row[key] for name, row in zip(report.names(run), run.results, strict=True) if row[key]}
        panels += [partial(_bars, values, title, form)] if values else []
    return panels


def _bars(values: dict[str, float], title: str, form: str, ax: Axes) -> str:
    words = {cell: f"{value:{form}}" for cell, value in values.items()}
    ax.bar_label(ax.barh(list(values), list(values.values()), height=0.6, color=figures.COLOURS[0]), [*words.values()], padding=3)
    ax.set(title=title, xlim=(0, 1.2 * max(values.values())), ylim=(len(values) - 0.4, -0.6), axisbelow=True)
    ax.grid(False, axis="y")
    return f"{title}: {'; '.join(map(' '.join, words.items()))}."


def success(shares: Shares, ax: Axes) -> str:
    """The share of seeds solved against the lag."""
    lags, words = sorted({lag for steps in shares.values() for lag in steps}), []
    for n, (cell, steps) in enumerate(shares.items()):
        shift = 0.4 * ((n + 0.5) / len(shares) - 0.5)  # so that equal shares do not hide one another
        ys = [100 * (1 - seeds.count(None) / len(seeds)) for seeds in steps.values()]
        figures.curve(ax, cell.split()[0], [lags.index(lag) + shift for lag in steps], ys, marker="osD^vP"[n % 6], label=cell)
        words.append(f"{cell} {', '.join(f'{report.solved(seeds)} at lag {lag}' for lag, seeds in steps.items())}")
    ax.set(xlabel="lag (steps)", ylabel="seeds solved (%)", ylim=(-6, 106), xlim=(-0.4, len(lags) - 0.6))
    ax.set_xticks(range(len(lags)), [f"{lag:,}" for lag in lags])
    return f"Seeds that solved the task: {'; '.join(words)}."


def grid(head: Iterable[str], body: Iterable[Sequence[Html]], label: str) -> Html:
    """A table that scrolls by itself where it is wider than the page."""
    top = tag("tr", *(tag("th", text, scope="col") for text in head))
    whole = tag("table", tag("thead", top), tag("tbody", *(tag("tr", *row) for row in body)))
    return tag("div", whole, class_="scroll", role="region", aria_label=label, tabindex=0)


def entry(k: int, run: report.Run, n: int, key: str) -> Html:
    """An entry of the n-th row of the results of a run, the k-th of the page."""
    text = report.entries(run.results[n], run.summary["baseline"])[key]
    return tag("td", text, data_run=k, data_row=n, data_key=key)


def results(k: int, run: report.Run) -> Html:
    metric = f"share correct ({run.summary['metric']})"
    columns = report.COLUMNS | dict(steps="updates made", final_metric=metric, description="what it is")
    return grid(columns.values(), [[entry(k, run, n, key) for key in columns] for n in range(len(run.results))], "Results")


def side_by_side(runs: Sequence[report.Run]) -> Html:
    """What differs in the configurations and places of two runs, and the results of the cells that both have."""
    labels, places = [run.label for run in runs], [run.config | run.env | {"argv": None, "resumed": None} for run in runs]
    keys = [key for key in places[0] | places[1] if places[0].get(key) != places[1].get(key)]
    body = [[tag("td", key), *(_setting(k, place, key) for k, place in enumerate(places))] for key in keys]
    differences = grid(["what differs", *labels], body, "Differences") if keys else tag("p", "They have the same configuration.")
    rows = [{name: n for n, name in enumerate(report.names(run))} for run in runs]
    both = [_compared(runs, name, [row[name] for row in rows], key) for name in rows[0] if name in rows[1] for key in BOTH]
    common = grid(["cell", "", *labels, "second / first"], both, "Results of the cells that both have")
    return tag("section", tag("h2", "Side by side"), differences, *([common] if both else []))


def _setting(k: int, place: dict[str, Any], key: str) -> Html:
    return tag("td", str(place.get(key, "-")), data_run=k, data_key=f"config.{key}")


def _compared(runs: Sequence[report.Run], name: str, rows: list[int], key: str) -> list[Html]:
    """A line for a quantity of a cell that both runs have; with a ratio, where both are numbers."""
    pairs = list(enumerate(zip(runs, rows, strict=True)))
    # A median over the seeds is NaN where a seed lacks it.
    a, b = (np.median(np.array(run.results[n].get(key), dtype=float)) for _, (run, n) in pairs)
    ratio = tag("td", f"{b / a:.2f}" if a > 0 and b > 0 else "-", data_cell=name, data_key=f"ratio.{key}")
    return [tag("td", name), tag("td", report.COLUMNS[key]), *(entry(k, run, n, key) for k, (run, n) in pairs), ratio]


def shares_table(shares: Shares, name: str) -> Html:
    lags = sorted({lag for steps in shares.values() for lag in steps})
    body = [[tag("td", cell), *(_share(cell, lag, steps) for lag in lags)] for cell, steps in shares.items()]
    return grid(["cell", *(f"lag {lag:,}" for lag in lags)], body, f"Seeds that solved {name}")


def _share(cell: str, lag: int, steps: dict[int, list[int | None]]) -> Html:
    return tag("td", report.solved(steps[lag]) if lag in steps else "-", data_cell=cell, data_lag=lag)
