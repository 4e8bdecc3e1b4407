"""The figure of a benchmark, drawn from bench.json."""

import json
from pathlib import Path
from typing import Any

import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import figures, folder
from experiments.bench.candidate import MODES
from experiments.bench.report import FAMILIES, Row, columns, label

STYLES = {  # one marker and colour per peer, those of jaxrnn's own kind in grey
    "jaxrnn_scan": ("0.45", "x"),
    "hand_scan": ("0.45", "+"),
    "flax_nnx": ("#0072B2", "o"),
    "flax_linen": ("#56B4E9", "s"),
    "keras": ("#D55E00", "^"),
    "haiku": ("#009E73", "v"),
    "equinox": ("#CC79A7", "D"),
    "torch": ("#000000", "*"),
    "torch fp16": ("#000000", "P"),
    "cudnn": ("#E69F00", "h"),
}


def draw(path: Path) -> None:
    """Writes bench.png into the folder of a run, and bench-strict.png, bench-16-bits.png where there are such results."""
    results = json.loads((path / "bench.json").read_text())
    for family, variants in FAMILIES.items():
        rows = [row for row in results["rows"] if row["variant"] in variants and row["ratio"] is not None]
        if columns(rows):
            end = "" if family == "float32" else "-" + family.replace(" ", "-")
            folder.write(path / f"bench{end}.png", figures.save(ratio_figure(rows, f"{results['env']['device']}, {family}")))


def ratio_figure(rows: list[Row], title: str) -> Figure:
    """The ratio of each peer at each shape with its interval, a panel for each cell and mode, on a log axis."""
    cells = list(dict.fromkeys(row["cell"] for row in rows))
    shapes = list(dict.fromkeys(row["shape"] for row in rows))
    size = (2.2 + 3.6 * len(cells), 1.6 + 2 * (0.5 + 0.34 * len(shapes)))
    fig, axes = figures.figure(len(MODES), len(cells), size, sharex=True, sharey=True)
    for mode, line in zip(MODES, axes, strict=True):
        for cell, ax in zip(cells, line, strict=True):
            panel(ax, [row for row in rows if row["mode"] == mode and row["cell"] == cell], shapes, columns(rows))
            ax.set_title(f"{cell}, {mode}", fontsize=10)
    ratios = [row["ratio"] for row in rows]
    for ax in axes[-1]:
        ax.set(xlabel="time of peer / time of jaxrnn", xlim=(min(ratios) / 1.4, max(ratios) * 1.4))  # intervals may be cut
    handles = {name: handle for ax in axes.flat for handle, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    fig.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5, frameon=False)
    fig.suptitle(f"{title}: right of the line, jaxrnn is faster; median and 95 % interval")
    return fig


def panel(ax: Axes, rows: list[Row], shapes: list[str], peers: list[str]) -> None:
    """Each peer a little below the one before, so that none hides another."""
    for k, name in enumerate(peers):
        mine: list[Any] = [row for row in rows if label(row) == name]
        if mine:
            ratios, intervals = np.array([row["ratio"] for row in mine]), np.array([row["interval"] for row in mine])
            places = [shapes.index(row["shape"]) + 0.7 * ((k + 0.5) / len(peers) - 0.5) for row in mine]
            colour, marker = STYLES[name]
            errors = np.abs(intervals.T - ratios)
            style = dict(color=colour, marker=marker, markersize=5, linestyle="none", elinewidth=1)
            ax.errorbar(ratios, places, xerr=errors, label=name, **style)
    ax.axvline(1, color="0.2", linewidth=1.1, zorder=1.6)  # above the grid
    ax.set(xscale="log", yticks=range(len(shapes)), yticklabels=shapes, ylim=(len(shapes) - 0.5, -0.5))
    ax.tick_params(axis="y", labelsize=8)
    ax.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    ax.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda v, _: f"{v:g}"))
