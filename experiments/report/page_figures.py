"""The figures of a page: SVG in the colours of the page, with words for who does not see them."""

import html
import io
import re
from functools import partial

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes

from experiments.report import figures, prose, saved
from experiments.report.statistics import share_interval

# inches: at the width of a phone, letters of 10 points are about as large as those of the page
WIDTH = 4.2
# What matplotlib writes, and what it becomes: the colours of page.css, which has one set for light
# and one for dark.
PAGE_COLOURS = {
    c.lower(): f"var(--c{c[1:].lower()})"
    for c in (*figures.COLOURS, *(c for c, _ in figures.STYLES.values()))
}
PAGE_COLOURS |= {"#000000": "currentColor", "#ebebeb": "var(--line)", "#595959": "var(--soft)"}
SETTINGS = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 10,
    "legend.fontsize": 9.5,
    "axes.titlesize": 10,
}
Shares = dict[str, dict[int, list[int | None]]]  # {cell: {lag: when each seed has solved the task}}


def svg(panel: figures.Panel, name: str, height: float) -> Markup:
    """A figure of one panel, so that a narrow page can put them one below another;
    `name` keeps its ids its own.
    """
    file = io.StringIO()
    with matplotlib.rc_context({**SETTINGS, "svg.hashsalt": name}):
        fig, (label,) = figures.together([panel], 1, (WIDTH, height))
        fig.savefig(file, format="svg", transparent=True)
    text = re.sub(
        r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->",
        "",
        file.getvalue(),
        flags=re.DOTALL,
    )
    text = re.sub(r'( id="|url\(#|xlink:href="#)', rf"\g<1>{name}-", text[text.index("<svg") :])
    text = re.sub(r"#[0-9a-f]{6}\b(?=[;\"])", lambda found: PAGE_COLOURS[found[0]], text)
    start = f'<svg role="img" aria-label="{html.escape(label)}"'
    return Markup(
        re.sub(
            r'<svg( xmlns:xlink="\S+")? width="\S+" height="\S+"', lambda _: start, text, count=1
        )
    )


def cost(run: saved.Run) -> list[figures.Panel]:
    """Parameters and time per update as bars, a panel for each."""
    panels = []
    for key, title, form in (
        ("parameters", "parameters", ",.0f"),
        ("ms_per_update", "ms per update, all seeds", ",.1f"),
    ):
        values = {
            name: row[key]
            for name, row in zip(prose.names(run), run.results, strict=True)
            if row[key]
        }
        panels += [partial(_bars, values, title, form)] if values else []
    return panels


def _bars(values: dict[str, float], title: str, form: str, ax: Axes) -> str:
    words = {cell: f"{value:{form}}" for cell, value in values.items()}
    ax.bar_label(
        ax.barh(list(values), list(values.values()), height=0.6, color=figures.COLOURS[0]),
        [*words.values()],
        padding=3,
    )
    ax.set(
        title=title,
        xlim=(0, 1.2 * max(values.values())),
        ylim=(len(values) - 0.4, -0.6),
        axisbelow=True,
    )
    ax.grid(False, axis="y")
    return f"{title}: {'; '.join(map(' '.join, words.items()))}."


def success(shares: Shares) -> list[figures.Panel]:
    """The share of seeds solved against the lag."""
    return [partial(_success, shares)]


def _success(shares: Shares, ax: Axes) -> str:
    lags = sorted({lag for steps in shares.values() for lag in steps})
    words = []
    for n, (cell, steps) in enumerate(shares.items()):
        # so that equal shares do not hide one another
        shift = 0.4 * ((n + 0.5) / len(shares) - 0.5)
        ys = [100 * (1 - seeds.count(None) / len(seeds)) for seeds in steps.values()]
        xs = [lags.index(lag) + shift for lag in steps]
        colour = figures.curve(ax, cell.split()[0], xs, ys, marker="osD^vP"[n % 6], label=cell)
        solved = ((len(seeds) - seeds.count(None), len(seeds)) for seeds in steps.values())
        low, high = 100 * np.array([share_interval(*counts) for counts in solved]).T
        ax.vlines(xs, low, high, color=colour, linewidth=1, alpha=0.5)
        words.append(
            f"{cell} "
            f"{', '.join(f'{prose.solved(seeds)} at lag {lag}' for lag, seeds in steps.items())}"
        )
    ax.set(
        xlabel="lag (steps)",
        ylabel="seeds solved (%)",
        ylim=(-6, 106),
        xlim=(-0.4, len(lags) - 0.6),
    )
    ax.set_xticks(range(len(lags)), [f"{lag:,}" for lag in lags])
    return f"Seeds that solved the task: {'; '.join(words)}."
