"""The figures of a benchmark, drawn from bench.json."""

import json
from pathlib import Path
from typing import Any

import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.bench.peers import MODES
from experiments.bench.report import FAMILIES
from experiments.bench.tables import Row, columns, label, split_columns
from experiments.report import figures
from experiments.training import folder

STYLES = {  # one marker and colour per peer, those of jaxrnn's own kind in grey
    "jaxrnn": ("0.45", "o"),
    "jaxrnn_scan": ("0.45", "x"),
    "jaxrnn_carry": ("0.45", "<"),
    "jaxrnn_sqrt": ("0.45", ">"),
    "jaxrnn_cudnn": ("0.45", "h"),
    "jaxrnn_persistent": ("0.45", "p"),
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
INTERVALS = {"ratio": "interval", "split_ratio": "split_interval"}


def draw(path: Path) -> None:
    """Writes bench.png into the folder of a run, and where there are such results -strict,
    -16-bits and -split beside it.
    """
    results = json.loads((path / "bench.json").read_text())
    for family, variants in FAMILIES.items():
        rows = [row for row in results["rows"] if row["variant"] in variants]
        end = "" if family == "float32" else "-" + family.replace(" ", "-")
        title = f"{results['env']['device']}, {family}"
        alone = [row for row in rows if row.get("devices", 1) == 1]
        write(path / f"bench{end}.png", alone, columns(alone), "ratio", title)
        write(
            path / f"bench{end}-split.png",
            rows,
            split_columns(rows),
            "split_ratio",
            f"{title}, batch on two devices",
        )


def write(path: Path, rows: list[Row], peers: list[str], kind: str, title: str) -> None:
    """The figure of the ratios of one kind, where there are any."""
    rows = [row for row in rows if row.get(kind) is not None and label(row) in peers]
    if rows:
        folder.write(path, figures.save(ratio_figure(rows, peers, kind, title)))


def ratio_figure(rows: list[Row], peers: list[str], kind: str, title: str) -> Figure:
    """The ratio of each peer at each shape with its interval, a panel for each cell and mode,
    on a log axis.
    """
    cells = list(dict.fromkeys(row["cell"] for row in rows))
    shapes = list(dict.fromkeys(row["shape"] for row in rows))
    size = (2.2 + 3.6 * len(cells), 1.6 + 2 * (0.5 + (0.2 + 0.035 * len(peers)) * len(shapes)))
    fig, axes = figures.figure(len(MODES), len(cells), size, sharex=True, sharey=True)
    for mode, line in zip(MODES, axes, strict=True):
        for cell, ax in zip(cells, line, strict=True):
            shown = [row for row in rows if row["mode"] == mode and row["cell"] == cell]
            panel(ax, shown, shapes, peers, kind)
            ax.set_title(f"{cell}, {mode}", fontsize=10)
    ratios = [row[kind] for row in rows]
    base = "jaxrnn x2" if kind == "split_ratio" else "jaxrnn"
    for ax in axes[-1]:
        # intervals may be cut
        ax.set(xlabel=f"time of peer / time of {base}", xlim=(min(ratios) / 1.4, max(ratios) * 1.4))
    _legend(fig, axes, peers)
    fig.suptitle(f"{title}: right of the line, {base} is faster; median and 95 % interval")
    return fig


def _legend(fig: Figure, axes: np.ndarray, peers: list[str]) -> None:
    """One legend for all panels, of the peers that any of them shows, in their order."""
    handles = {
        name: handle
        for ax in axes.flat
        for handle, name in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    shown = [name for name in peers if name in handles]
    lines = [handles[name] for name in shown]
    fig.legend(lines, shown, loc="outside lower center", ncols=6, frameon=False)


def panel(ax: Axes, rows: list[Row], shapes: list[str], peers: list[str], kind: str) -> None:
    """Each peer a little below the one before, so that none hides another;
    every second shape on a grey band.
    """
    for k, name in enumerate(peers):
        mine: list[Any] = [row for row in rows if label(row) == name]
        if mine:
            ratios = np.array([row[kind] for row in mine])
            intervals = np.array([row[INTERVALS[kind]] for row in mine])
            shift = 0.8 * ((k + 0.5) / len(peers) - 0.5)
            places = [shapes.index(row["shape"]) + shift for row in mine]
            colour, marker = STYLES[name.removesuffix(" x2")]
            errors = np.abs(intervals.T - ratios)
            style = dict(color=colour, marker=marker, markersize=5, linestyle="none", elinewidth=1)
            ax.errorbar(ratios, places, xerr=errors, label=name, **style)
    for k in range(0, len(shapes), 2):
        ax.axhspan(k - 0.5, k + 0.5, color="0.96", linewidth=0, zorder=0)
    ax.axvline(1, color="0.2", linewidth=1.1, zorder=1.6)  # above the grid
    ax.set(
        xscale="log", yticks=range(len(shapes)), yticklabels=shapes, ylim=(len(shapes) - 0.5, -0.5)
    )
    ax.tick_params(axis="y", labelsize=8, length=0)
    ax.grid(visible=False, axis="y")
    ax.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    ax.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda v, _: f"{v:g}"))
