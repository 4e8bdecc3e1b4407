"""The figures of a page: SVG in the colours of the page, with words for who does not see them."""

import html
import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import figures
from experiments.page_runs import Row, Run
from experiments.report import median
from experiments.tasks import TASKS

SIZE = (4.2, 3.5)  # inches: at the width of a phone, letters of 10 points are about as large as those of the page
CELLS = 6  # per panel
TOP = 10.0  # baselines; the first losses of some cells are thousands of them
# What matplotlib writes, and what it becomes: the colours of page.css, which has one set for light and one for dark.
PAGE_COLOURS = {"#000000": "currentColor", "#ebebeb": "var(--line)", "#595959": "var(--soft)", "#404040": "var(--soft)"}
SETTINGS = {"svg.fonttype": "none", "text.parse_math": False, "font.size": 10, "legend.fontsize": 9.5}


class Html(str):
    """Markup; any other text is escaped when it gets into a page."""


def tag(name: str, *children: str, **attributes: Any) -> Html:
    """An element. Attributes are written with _ for -, and `class_` for class."""
    inside = "".join(child if isinstance(child, Html) else html.escape(child) for child in children)
    words = "".join(f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"' for key, value in attributes.items())
    return Html(f"<{name}{words}>{inside}</{name}>")


def panels(size: tuple[float, float], count: int) -> list[tuple[Figure, Axes]]:
    """Figures of one panel each, so that a narrow page can put them one below another."""
    pairs = (figures.figure(1, 1, size) for _ in range(count))
    return [(fig, axes[0, 0]) for fig, axes in pairs]


def svg(fig: Figure, name: str, label: str) -> Html:
    """The figure as an element of the page; `name` keeps its ids apart from those of the others."""
    file = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({**SETTINGS, "svg.hashsalt": name}):
        fig.savefig(file, format="svg", transparent=True, metadata=nothing)
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", file.getvalue(), flags=re.DOTALL)
    text = re.sub(r'( id="|url\(#|xlink:href="#)', rf"\g<1>{name}-", text[text.index("<svg") :])
    text = re.sub(r"#[0-9a-f]{6}\b(?=[;\"])", lambda found: _page_colour(found[0]), text)
    words = f'<svg role="img" aria-label="{html.escape(label)}"'
    return Html(re.sub(r'<svg( xmlns:xlink="\S+")? width="\S+" height="\S+"', words, text, count=1))


def _page_colour(colour: str) -> str:
    known = {c.lower() for c in (*figures.COLOURS, *(pair[0] for pair in figures.STYLES.values()))}
    return PAGE_COLOURS.get(colour) or (f"var(--c{colour[1:]})" if colour in known else colour)


def legend(fig: Figure, ax: Axes) -> None:
    names = ax.get_legend_handles_labels()[1]
    columns = 2 if max(map(len, names), default=0) > 11 else 3
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=columns, frameon=False, handlelength=2.2)


def levels(run: Run) -> dict[str, float]:
    """Losses to compare with, over the baseline."""
    partial, solved = (run.summary[key] / run.summary["baseline"] for key in ("partial", "solved_below"))
    return {"best constant": 1.0, TASKS[run.config["task"]].partial_label: partial, "solved": solved}


def learning(run: Run, name: str) -> list[Html]:
    """Losses against updates, a panel for each learning rate and six cells."""
    summary, known = run.summary, levels(run)
    present = list(dict.fromkeys(row["cell"] for row in run.metrics))
    groups = [present[k : k + CELLS] for k in range(0, len(present), CELLS)]
    pairs = [(rate, group) for rate in dict.fromkeys(row["learning_rate"] for row in run.metrics) for group in groups]
    ratios = [row["loss"] / summary["baseline"] for row in run.metrics if row["loss"] is not None] or [1.0]
    limits = min(0.7 * max(min(ratios), 1e-6), known["solved"] / 2), min(max(2.0, 1.2 * max(ratios)), TOP)
    drawn = []
    with matplotlib.rc_context(SETTINGS):
        for k, ((fig, ax), (rate, group)) in enumerate(zip(panels(SIZE, len(pairs)), pairs, strict=True)):
            rows = [row for row in run.metrics if row["learning_rate"] == rate and row["cell"] in group]
            figures.loss_panel(ax, group, rows, summary["baseline"], known)
            ax.set(ylabel="training loss / baseline", ylim=limits, xlim=(0, 1.02 * max(row["step"] for row in run.metrics)))
            ax.set_title(f"learning rate {rate:g}", fontsize=10)
            place = dict(xycoords=("axes fraction", "data"), xytext=(3, 2), textcoords="offset points")
            ax.annotate("solved", (0, known["solved"]), fontsize=8.5, color="0.25", **place)
            legend(fig, ax)
            drawn.append(svg(fig, f"{name}-learning-{k}", _last_losses(rows, group, rate, summary["baseline"])))
    return drawn


def _last_losses(rows: list[Row], cells: list[str], rate: float, baseline: float) -> str:
    """What a panel of learning curves shows, in words."""
    words = []
    for cell in cells:
        last = max((row["step"] for row in rows if row["cell"] == cell), default=0)
        losses = [row["loss"] for row in rows if row["cell"] == cell and row["step"] == last]
        middle, known = median(losses) if losses else None, [loss / baseline for loss in losses if loss is not None]
        spread = (
            f"{middle / baseline:.2f} ({min(known):.2f} to {max(known):.2f})" if middle is not None else "not a finite number"
        )
        words.append(f"{cell} {spread} after {last:,} updates")
    return f"Training loss over baseline at learning rate {rate:g}, median and range of the seeds at the end: {'; '.join(words)}."


def gradient(run: Run, name: str) -> list[Html]:
    """Gradients against the lag, a panel for each measure and phase."""
    data, drawn = run.gradients or {}, []
    words, lag = figures.phases(data), run.config["lag"] - 1
    pairs = [(phase, measure) for phase in words for measure in figures.MEASURES]
    every = [v for c in data["curves"].values() for p in words for m in c[p].values() for v in m if v is not None]
    with matplotlib.rc_context(SETTINGS):
        for (fig, ax), (phase, measure) in zip(panels(SIZE, len(pairs)), pairs, strict=True):
            figures.gradient_panel(ax, data["curves"], phase, measure)
            title = f"{figures.MEASURES[measure]}\n{words[phase]}"
            ax.set(xlabel="lag (steps)", ylabel="median", ylim=(min(every) - 1, max(every) + 1))
            ax.set_title(title, fontsize=9.5)
            legend(fig, ax)
            values = ((cell, curves[phase][measure][lag]) for cell, curves in data["curves"].items())
            ends = "; ".join(f"{cell} {'zero' if v is None else f'10 to the {v:.1f}'}" for cell, v in values)
            text = f"{title.replace(chr(10), ', ')}. At lag {lag}: {ends}."
            drawn.append(svg(fig, f"{name}-gradient-{phase}-{measure}", text))
    return drawn


def cost(run: Run, name: str) -> list[Html]:
    """Parameters and time per update as bars, a panel for each; the median over learning rates."""
    rows: dict[str, list[Row]] = {}
    for row in run.summary["results"]:
        rows.setdefault(row["cell"], []).append(row)
    drawn = []
    for key, title, form in (("parameters", "parameters", "{:,.0f}"), ("ms_per_update", "ms per update, all seeds", "{:,.1f}")):
        pairs = ((cell, [row[key] for row in group if row[key]]) for cell, group in rows.items())
        values = {cell: float(np.median(known)) for cell, known in pairs if known}
        if values:
            drawn.append(_bars(values, title, form, f"{name}-{key}"))
    return drawn


def _bars(values: dict[str, float], title: str, form: str, name: str) -> Html:
    words = {cell: form.format(value) for cell, value in values.items()}
    with matplotlib.rc_context(SETTINGS):
        ((fig, ax),) = panels((SIZE[0], 0.7 + 0.25 * len(values)), 1)
        ax.barh(list(values), list(values.values()), height=0.6, color=figures.COLOURS[0])
        for k, (cell, value) in enumerate(values.items()):
            ax.annotate(words[cell], (value, k), xytext=(3, 0), textcoords="offset points", va="center", fontsize=9)
        ax.set(title=title, xlim=(0, 1.2 * max(values.values())), ylim=(len(values) - 0.4, -0.6))
        ax.title.set_fontsize(10)
        ax.grid(False, axis="y")
        ax.set_axisbelow(True)
        ax.tick_params(axis="y", length=0)
        return svg(fig, name, f"{title}: {'; '.join(f'{cell} {text}' for cell, text in words.items())}.")


def success(shares: dict[str, dict[int, tuple[int, int]]], name: str) -> list[Html]:
    """The share of seeds solved against the lag: {cell: {lag: (solved, seeds)}}."""
    lags, cells = sorted({lag for counts in shares.values() for lag in counts}), list(shares)
    groups: Sequence[list[str]] = [cells[k : k + CELLS] for k in range(0, len(cells), CELLS)]
    drawn = []
    with matplotlib.rc_context(SETTINGS):
        for k, ((fig, ax), group) in enumerate(zip(panels(SIZE, len(groups)), groups, strict=True)):
            for n, cell in enumerate(group):
                colour, line = figures.style(cell.split()[0])
                shift = 0.08 * (n - (len(group) - 1) / 2)  # so that equal shares do not hide one another
                xs = [lags.index(lag) + shift for lag in sorted(shares[cell])]
                ys = [100 * shares[cell][lag][0] / shares[cell][lag][1] for lag in sorted(shares[cell])]
                ax.plot(xs, ys, color=colour, linestyle=line, marker="osD^vP"[n], markersize=5, linewidth=1.5, label=cell)
            ax.set(xlabel="lag (steps)", ylabel="seeds solved (%)", ylim=(-6, 106), xlim=(-0.4, len(lags) - 0.6))
            ax.set_xticks(range(len(lags)), [f"{lag:,}" for lag in lags])
            legend(fig, ax)
            counts = ((cell, shares[cell]) for cell in group)
            text = "; ".join(f"{c} " + ", ".join(f"{s} of {n} at lag {lag}" for lag, (s, n) in v.items()) for c, v in counts)
            drawn.append(svg(fig, f"{name}-{k}", f"Seeds that solved the task: {text}."))
    return drawn
