"""The command `agents`: trains agents with each cell at each length, and says what they earn."""

import functools
import math
import time
from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.agents import online, ppo
from experiments.agents.config import MEMORYLESS, PPO, AgentConfig
from experiments.agents.environments import ENVIRONMENTS, Environment
from experiments.cells import CELLS
from experiments.config import UsageError
from experiments.online.learners import FORWARD
from experiments.report import figures
from experiments.report.prose import aligned
from experiments.training import folder

NEAR = 0.01  # of the best return: an agent that near has found the optimum
TITLES = ("agent", "length", "return", "least", "at the optimum", "after updates", "seconds")


def run(config: AgentConfig) -> dict[str, Any]:
    """Trains in a folder of its own, which is written after each cell, and prints what came of it.

    Returns:
        What summary.json holds: of each cell and length the `returns` of the trained agents of all
        seeds, their `curves` in training [seeds][updates], None where no episode ended, and the
        `seconds` that it took, compilation included.
    """
    kind = ENVIRONMENTS[config.environment]
    levels = {"optimum": kind.optimum, "memoryless": kind.memoryless}
    head = {"environment": config.environment, "learner": config.learner}
    results: dict[str, Any] = {**head, **levels, "rows": []}
    for cell in config.cells:  # one that cannot be learned so is found before anything is written
        _learner(config, kind(config.lengths[0]), cell)
    with folder.opened(f"agents_{config.environment}", config) as path:
        print(f"writing {path}", flush=True)
        for length in config.lengths:
            for cell in config.cells:
                row = train(config, kind(length), cell)
                results["rows"].append(row)
                folder.write_json(path / "summary.json", results)
                earned = "  ".join(f"{value:.2f}" for value in row["returns"])
                print(f"{cell}  length {length}  return {earned}  {row['seconds']} s", flush=True)
        folder.write(path / "returns.png", figures.save(figure(config, results)))
    print(f"\n{report(results)}\n\nwritten: {path}")
    return results


def train(config: AgentConfig, environment: Environment, name: str) -> dict[str, Any]:
    """One row of the results: the agents of all seeds with one cell."""
    agent, learn = _learner(config, environment, name)

    def one(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        k_train, k_evaluate = jax.random.split(key)
        params, curve = learn(environment, agent, config, k_train)
        return curve, ppo.evaluate(agent, environment, params, k_evaluate)

    began = time.perf_counter()
    keys = jax.random.split(jax.random.key(config.seed), config.seeds)
    curves, returns = map(np.asarray, jax.jit(jax.vmap(one))(keys))
    return {
        "cell": name,
        "length": environment.length,
        "returns": [folder.finite(value, 4) for value in returns.tolist()],
        "curves": [[folder.finite(value, 3) for value in curve] for curve in curves.tolist()],
        "seconds": round(time.perf_counter() - began),
    }


def _learner(config: AgentConfig, environment: Environment, name: str) -> tuple[Any, Any]:
    """An agent with this cell, and what trains it."""
    actions = environment.actions
    size = config.hidden_size
    if name == MEMORYLESS:
        return ppo.Agent(actions, size, None), ppo.train
    cell = CELLS[name].make(size, environment.length)
    if config.learner == PPO:
        return ppo.Agent(actions, size, cell), ppo.train
    try:
        agent = online.Agent(FORWARD[config.learner](cell), actions, environment.features, size)
        agent.check()
    except ValueError as error:
        raise UsageError(f"cell {name!r}: {error}") from None
    return agent, online.train


def report(results: dict[str, Any]) -> str:
    """The results as a table, with what could be earned."""
    table: list[tuple[str, ...]] = [TITLES]
    for row in results["rows"]:
        returns = [-math.inf if value is None else value for value in row["returns"]]
        found = sum(value > results["optimum"] - NEAR for value in returns)
        table.append(
            (
                row["cell"],
                f"{row['length']}",
                f"{np.median(returns):.2f}",
                f"{min(returns):.2f}",
                f"{found}/{len(returns)}",
                _when(row["curves"], results),
                f"{row['seconds']}",
            )
        )
    bound = results["memoryless"]
    known = "not known" if bound is None else f"{bound:g}"
    head = (
        f"{results['environment']}: the best return is {results['optimum']:g}, "
        f"the best without memory {known}"
    )
    return "\n".join((head, "", *aligned(table)))


def _when(curves: list[list[float | None]], results: dict[str, Any]) -> str:
    """The median of the updates after which episodes in training, actions drawn, earned nine tenths
    of what lies between the bound, or nothing, and the optimum."""
    below = results["memoryless"] or 0.0
    bar = below + 0.9 * (results["optimum"] - below)
    first = [
        next((k + 1 for k, value in enumerate(curve) if value is not None and value > bar), None)
        for curve in curves
    ]
    known = [math.inf if k is None else k for k in first]
    middle = np.median(known)
    return f"{middle:,.0f}" if math.isfinite(middle) else "-"


def figure(config: AgentConfig, results: dict[str, Any]) -> Figure:
    """Returns against the length where there are several, and in training at the longest."""
    draw = [functools.partial(_learning, config, results)]
    if len(config.lengths) > 1:
        draw.insert(0, functools.partial(_returns, config, results))
    fig, axes = figures.figure(1, len(draw), (5.2 * len(draw), 4.2), sharey=True)
    for ax, panel in zip(axes[0], draw, strict=True):
        panel(ax)
        levels = {"optimum": results["optimum"], "best without memory": results["memoryless"]}
        for label, level in levels.items():
            if level is not None:
                ax.axhline(level, color="0.35", linestyle="--", linewidth=0.9, zorder=1)
                ax.annotate(label, (0.02, level), **_ABOVE)
    handles, names = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, names, loc="outside lower center", ncols=6, frameon=False)
    named = config.environment.replace("_", " ")
    fig.suptitle(f"{named}: median of {config.seeds} seeds, and each or their range", fontsize=11)
    return fig


_ABOVE: dict[str, Any] = dict(
    xycoords=("axes fraction", "data"),
    textcoords="offset points",
    xytext=(0, 3),
    ha="left",
    fontsize=8.5,
    color="0.35",
)


def _returns(config: AgentConfig, results: dict[str, Any], ax: Axes) -> None:
    for cell in config.cells:
        rows = [row for row in results["rows"] if row["cell"] == cell]
        lengths = [row["length"] for row in rows]
        returns = np.array([row["returns"] for row in rows], float).T
        colour = figures.curve(ax, cell, lengths, np.median(returns, axis=0))
        for seed in returns:
            ax.plot(lengths, seed, "o", color=colour, markersize=4, alpha=0.6)
    ax.set(xscale="log", xlabel="length", ylabel="return of the trained agent")
    ax.set_xticks(config.lengths, [f"{length}" for length in config.lengths])
    ax.minorticks_off()


def _learning(config: AgentConfig, results: dict[str, Any], ax: Axes) -> None:
    longest = max(config.lengths)
    for row in results["rows"]:
        if row["length"] == longest:
            curves = np.array(row["curves"], float)
            _range(ax, row["cell"], np.arange(1, curves.shape[1] + 1), curves)
    ax.set(xlabel=f"updates, length {longest}", ylabel="return of episodes in training")


def _range(ax: Axes, cell: str, xs: Any, ys: np.ndarray) -> None:
    """Median and range of `ys` [seeds, xs]."""
    known = ~np.isnan(ys).any(axis=0)
    xs = np.asarray(xs)[known]
    low, middle, high = np.quantile(ys[:, known], (0, 0.5, 1), axis=0)
    colour = figures.curve(ax, cell, xs, middle)
    ax.fill_between(xs, low, high, color=colour, alpha=0.1, linewidth=0)
