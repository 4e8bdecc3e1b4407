"""Figures, drawn from the saved results of a run and nothing else."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.ticker
import numpy as np
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.cells import CELLS
from experiments.folder import read_metrics
from experiments.tasks import TASKS

# One hue per family (Okabe & Ito's, which the colour-blind can tell apart), one shade and line style per initialisation.
DASHED, DOTTED = (0, (5, 2)), (0, (1, 1.5))
STYLES: dict[str, tuple[str, Any]] = {
    "rnn_orth": ("#D55E00", "-"),
    "rnn_glorot": ("#8C2D04", DASHED),
    "rnn_small": ("#F79646", DOTTED),
    "irnn": ("#CC79A7", "-"),
    "lstm": ("#0072B2", "-"),
    "lstm_fb0": ("#56B4E9", DASHED),
    "lstm_chrono": ("#0072B2", DOTTED),
    "gru": ("#009E73", "-"),
    "gru_chrono": ("#009E73", DOTTED),
}
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", DASHED, DOTTED, (0, (5, 2, 1, 2)), (0, (8, 2)))
FREE = [look for look in itertools.product(LINES, COLOURS) if look[::-1] not in STYLES.values()]
Save = Callable[[Path], None]


def style(name: str) -> tuple[str, Any]:
    """Colour and line of a cell, the same in every figure; those without one of their own take the combinations in turn."""
    if name in STYLES:
        return STYLES[name]
    others = [other for other in CELLS if other not in STYLES]  # a saved run may have a cell that there is no more
    line, colour = FREE[(others.index(name) if name in others else len(others)) % len(FREE)]
    return colour, line


def figure(rows: int, columns: int, size: tuple[float, float], **options: Any) -> tuple[Figure, np.ndarray]:
    """A figure and its axes [rows, columns], without the global state of pyplot."""
    fig = Figure(figsize=size, layout="constrained")
    axes = fig.subplots(rows, columns, squeeze=False, **options)
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(color="0.92", linewidth=0.8)
    return fig, axes


def save(fig: Figure) -> Save:
    return lambda path: fig.savefig(path, dpi=96)


def learning_curves(folder: Path) -> Save:
    """The loss of every cell against the updates, a panel for each learning rate: median and range over the seeds."""
    return save(learning_figure(folder))


def learning_figure(folder: Path) -> Figure:
    config, metrics = yaml.safe_load((folder / "config.yaml").read_text()), read_metrics(folder)
    rates, task = config["learning_rates"], TASKS[config["task"]](config["lag"])
    width = 4.6 + 3.2 * len(rates)
    columns = min(len(config["cells"]), 6, int(width / 1.8))
    size = (width, 4.2 + 0.22 * -(-len(config["cells"]) // columns))
    fig, axes = figure(1, len(rates), size, sharey=True, sharex=True)
    levels = {"best constant": 1.0, task.partial_label: task.partial / task.baseline, "solved": task.solved / task.baseline}
    for ax, rate in zip(axes[0], rates, strict=True):
        loss_panel(ax, config["cells"], [row for row in metrics if row["learning_rate"] == rate], task.baseline, levels)
        ax.set_title(f"Adam, learning rate {rate:g}")
    for text, level in levels.items():
        place = dict(xycoords=("axes fraction", "data"), va="center", fontsize=9, color="0.25")
        axes[0, -1].annotate(f" {text}", (1, level), **place)
    axes[0, 0].set_ylabel("training loss / baseline")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=columns, frameon=False, handlelength=3)
    fig.suptitle(f"{config['task']}, lag {config['lag']}: median and range of {config['seeds']} seeds, until all have solved it")
    return fig


def loss_panel(ax: Axes, cells: list[str], rows: list[dict[str, Any]], baseline: float, levels: dict[str, float]) -> None:
    """The curves of `cells` from lines of metrics.jsonl of one learning rate, and a dashed line for each level."""
    for name in cells:
        _curve(ax, name, [row for row in rows if row["cell"] == name], baseline)
    for level in levels.values():
        ax.axhline(level, color="0.35", linestyle="--", linewidth=0.9, zorder=1)
    ax.set(xlabel="updates", yscale="log")
    ax.yaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda v, _: f"{v:g}"))


def _curve(ax: Axes, name: str, rows: list[dict[str, Any]], baseline: float) -> None:
    """Median, range over the seeds, and a dot where the run ended."""
    steps = sorted({row["step"] for row in rows})
    if not steps:
        return
    losses = [[row["loss"] for row in rows if row["step"] == step] for step in steps]
    ratios = np.array(losses, dtype=float) / baseline  # [steps, seeds]; null became NaN
    colour, line = style(name)
    middle = np.median(ratios, axis=1)
    ax.fill_between(steps, np.min(ratios, axis=1), np.max(ratios, axis=1), color=colour, alpha=0.18, linewidth=0)
    ax.plot(steps, middle, color=colour, linestyle=line, linewidth=1.8, label=name)
    ax.plot(steps[-1:], middle[-1:], "o", color=colour, markersize=4)


MEASURES = {"loss": "gradient of the loss: ‖dL/ds(T-lag)‖ / ‖dL/ds(T)‖", "jacobian": "spectral norm: ‖ds(T)/ds(T-lag)‖"}


def gradient_figure(folder: Path) -> Figure:
    """Two measures of the gradient against the lag, before and after training, from gradients.json."""
    data = json.loads((folder / "gradients.json").read_text())
    words = phases(data)
    fig, axes = figure(len(words), 2, (9.5, 0.6 + 3.2 * len(words)), sharex=True, sharey=True)
    for row, phase in zip(axes, words, strict=True):
        for ax, (measure, title) in zip(row, MEASURES.items(), strict=True):
            gradient_panel(ax, data["curves"], phase, measure)
            ax.set_title(f"{title}\n{words[phase]}", fontsize=10)
        row[0].set_ylabel("median over seeds and sequences")
    for ax in axes[-1]:
        ax.set_xlabel("lag (steps)")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center", frameon=False, handlelength=3)
    return fig


def phases(data: dict[str, Any]) -> dict[str, str]:
    """The phases that gradients.json holds, in words."""
    words = {"before": "at initialisation", "after": f"after {data['steps']} updates"}
    return {phase: text for phase, text in words.items() if any(phase in curves for curves in data["curves"].values())}


def gradient_panel(ax: Axes, cells: dict[str, Any], phase: str, measure: str) -> None:
    """One measure of every cell against the lag: log10, a power of ten on the axis."""
    for name, curves in cells.items():
        values = np.array(curves[phase][measure], dtype=float)
        colour, line = style(name)
        ax.plot(np.arange(len(values)), values, color=colour, linestyle=line, linewidth=1.8, label=name)
    ax.axhline(0, color="0.35", linewidth=0.8, zorder=1)
    ax.yaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda v, _: power_of_ten(v)))


def power_of_ten(exponent: float) -> str:
    return f"10{f'{exponent:g}'.translate(str.maketrans('0123456789-.', '⁰¹²³⁴⁵⁶⁷⁸⁹⁻·'))}"
