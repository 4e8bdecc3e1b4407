"""Figures, drawn from the saved results of a run and nothing else: panels,
for pictures and for pages alike.
"""

import itertools
import textwrap
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.cells import CELLS
from experiments.report.saved import Row, by_step
from experiments.tasks import make
from experiments.training.folder import read_json, read_metrics

# Okabe & Ito's
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = dict(
    solid="-", dashed=(0, (5, 2)), dotted=(0, (1, 1.5)), mixed=(0, (5, 2, 1, 2)), long=(0, (8, 2))
)
STYLES: dict[str, tuple[str, Any]] = {
    name: (c.style[:7], LINES[c.style[8:]]) for name, c in CELLS.items() if c.style
}
FREE = [
    (colour, line)
    for line, colour in itertools.product(LINES.values(), COLOURS)
    if (colour, line) not in STYLES.values()
]
TOP = 3.0  # baselines; the first losses of some cells are thousands of them
LINE = 0.07  # of a text of 8.5 points in axes of two inches, of their height
MEASURES = {
    "loss": "gradient of the loss: ‖dL/ds(T-lag)‖ / ‖dL/ds(T)‖",
    "jacobian": "spectral norm: ‖ds(T)/ds(T-lag)‖",
}
Panel = Callable[[Axes], str]  # draws on the axes, and says in words what there is to see


def figure(
    rows: int, columns: int, size: tuple[float, float], **options: Any
) -> tuple[Figure, np.ndarray]:
    """A figure and its axes [rows, columns], without the global state of pyplot."""
    fig = Figure(figsize=size, layout="constrained")
    axes = fig.subplots(rows, columns, squeeze=False, **options)
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(color="0.92", linewidth=0.8)
    return fig, axes


def together(
    panels: Sequence[Panel], columns: int, size: tuple[float, float]
) -> tuple[Figure, list[str]]:
    """A figure of panels of a size, with one legend below, which adds to the height;
    and their words.
    """
    rows = len(panels) // columns
    fig, axes = figure(rows, columns, (size[0] * columns, size[1] * rows), sharex=True, sharey=True)
    words = [panel(ax) for panel, ax in zip(panels, axes.flat, strict=True)]
    for ax in axes.flat:
        ax.label_outer()
    handles, names = axes[0, 0].get_legend_handles_labels()
    if names:
        count = int(size[0] * columns / (0.5 + 0.08 * max(map(len, names))))
        fig.legend(
            handles, names, loc="outside lower center", ncols=count, frameon=False, handlelength=2.2
        )
        fig.set_figheight(fig.get_figheight() + 0.3 + 0.2 * (len(names) // count))
    return fig, words


def save(fig: Figure) -> Callable[[Path], None]:
    return lambda path: fig.savefig(path, dpi=96)


def learning_figure(folder: Path) -> Figure:
    """The losses of the run in a folder."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    panels = learning_panels(config, read_metrics(folder), most=100)
    fig, _ = together(panels, len(panels), (3.2 + 4.6 / len(panels), 4.2))
    fig.suptitle(
        f"{config['task']}, lag {config['lag']}: median and range of {config['seeds']} seeds"
        + (", each until it has solved it" if config.get("until", "solved") == "solved" else "")
    )
    return fig


def learning_panels(config: Row, metrics: list[Row], most: int = 6) -> list[Panel]:
    """The loss of every cell against the updates:
    a panel for each learning rate and at most `most` cells.
    """
    metrics = [row for row in metrics if not row.get("selection")]
    rates = sorted({*config["learning_rates"], *(row["learning_rate"] for row in metrics)})
    if config.get("select_seeds"):
        rates = [None]  # of each cell its best
    cells = list(dict.fromkeys(row["cell"] for row in metrics))
    groups = [cells[k : k + most] for k in range(0, len(cells) or 1, most)]
    return [partial(_losses, config, metrics, rate, group) for rate in rates for group in groups]


def _losses(config: Row, metrics: list[Row], rate: float | None, cells: list[str], ax: Axes) -> str:
    """Median, range over the seeds, and a dot where the run ended; None is each cell's own rate."""
    at = "each at its best learning rate" if rate is None else f"learning rate {rate:g}"
    task = make(config["task"], config["lag"], config.get("task_options", {})).levels
    words = []
    for name in cells:
        rows = [
            row for row in metrics if row["cell"] == name and rate in (None, row["learning_rate"])
        ]
        if not rows:
            continue
        steps, losses = by_step(rows)
        low, middle, high = np.quantile(_to_the_end(losses) / task.baseline, (0, 0.5, 1), axis=1)
        colour = curve(ax, name, steps, middle)
        ax.fill_between(steps, low, high, color=colour, alpha=0.18, linewidth=0)
        ax.plot(steps[-1:], middle[-1:], "o", color=colour, markersize=4)
        ends = f"{middle[-1]:.2f} ({low[-1]:.2f} to {high[-1]:.2f})"
        words.append(f"{name} {ends} after {steps[-1]:,} updates")
    levels = {"best constant": 1.0, "solved": task.solved / task.baseline}
    levels |= {task.partial_label: task.partial / task.baseline} if task.partial else {}
    for level in levels.values():
        ax.axhline(level, color="0.35", linestyle="--", linewidth=0.9, zorder=1)
    ax.set(
        xlabel="updates",
        ylabel="training loss / baseline",
        yscale="log",
        title=f"Adam, {at}",
    )
    ax.set(
        xlim=(0, 1.02 * max((row["step"] for row in metrics), default=1)),
        ylim=(levels["solved"] / 10, TOP),
    )
    ax.yaxis.set_major_formatter("{x:g}")
    _name_levels(ax, levels)
    return (
        f"Training loss over baseline, {at}, "
        f"median and range of the seeds at the end: {'; '.join(words)}."
    )


def _name_levels(ax: Axes, levels: dict[str, float]) -> None:
    """Names the levels to the right of the axes, where no curve goes: each beside its line, or
    below the name above where the lines are close.
    """
    bottom, top = np.log(ax.get_ylim())
    free = 1.1  # of the height of the axes, below the name above
    for text, level in sorted(levels.items(), key=lambda one: -one[1]):
        lines = textwrap.wrap(text, 14)
        height = LINE * len(lines)
        start = min((np.log(level) - bottom) / (top - bottom) + height / 2, free)
        ax.text(1.02, start, "\n".join(lines), transform=ax.transAxes, va="top", fontsize=8.5)
        free = start - height


def _to_the_end(losses: np.ndarray) -> np.ndarray:
    """The losses [steps, seeds] with the last of each seed in place of those after its end; NaN
    where, or once, they are not finite."""
    filled = losses.copy()
    for seed in filled.T:
        last = np.flatnonzero(~np.isnan(seed))[-1]
        seed[last + 1 :] = seed[last]
    return np.where(np.isfinite(filled), filled, np.nan)


def curve(ax: Axes, name: str, xs: Any, ys: Any, marker: str = "", label: str = "") -> str:
    """Draws a line in the style of a cell, and returns its colour."""
    colour, line = style(name)
    ax.plot(
        xs,
        ys,
        color=colour,
        linestyle=line,
        linewidth=1.8,
        marker=marker,
        markersize=5,
        label=label or name,
    )
    return colour


def style(name: str) -> tuple[str, Any]:
    """Colour and line of a cell; those without one have what is free, in their order."""
    if name in STYLES:
        return STYLES[name]
    others = [cell for cell in CELLS if cell not in STYLES]
    # a saved run may have a cell that there is no more
    return FREE[others.index(name) % len(FREE)] if name in others else FREE[-1]


def gradient_figure(folder: Path) -> Figure:
    """The gradients of the run in a folder."""
    return together(gradient_panels(read_json(folder / "gradients.json")), 2, (4.75, 3.2))[0]


def gradient_panels(data: Row) -> list[Panel]:
    """Two measures of the gradient against the lag, before and after training,
    from gradients.json.
    """
    phases = next(iter(data["curves"].values()), {})
    return [partial(_gradients, data, phase, measure) for phase in phases for measure in MEASURES]


def _gradients(data: Row, phase: str, measure: str, ax: Axes) -> str:
    """The log10 of a measure of every cell, a power of ten on the axis."""
    title = (
        MEASURES[measure],
        "at initialisation" if phase == "before" else f"after {data['steps']} updates",
    )
    every = np.array(
        [list(c.values()) for phases in data["curves"].values() for c in phases.values()],
        dtype=float,
    )
    words = []
    lag = data["lag"] - 1
    for name, phases in data["curves"].items():
        exponents = phases[phase][measure]
        curve(ax, name, range(len(exponents)), np.array(exponents, dtype=float))
        words.append(
            f"{name} {'zero' if exponents[lag] is None else f'10 to the {exponents[lag]:.1f}'}"
        )
    ax.axhline(0, color="0.35", linewidth=0.8, zorder=1)
    ax.set(xlabel="lag (steps)", ylabel="median over seeds and sequences", title="\n".join(title))
    ax.set_ylim(np.nanmin(every) - 1, np.nanmax(every) + 1)  # of all panels, so that they compare
    ax.yaxis.set_major_formatter(
        lambda value, _: (
            f"10{f'{value:g}'.translate(str.maketrans('0123456789-.', '⁰¹²³⁴⁵⁶⁷⁸⁹⁻·'))}"
        )
    )
    return f"{', '.join(title)}. At lag {lag}: {'; '.join(words)}."
