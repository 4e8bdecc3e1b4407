"""The command `online`: learns along streams, and measures gradients forward in time."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from experiments.cells import CELLS
from experiments.online import cosines, learners
from experiments.online.config import PARTS, OnlineConfig
from experiments.online.streams import STREAMS
from experiments.report import figures
from experiments.report.prose import aligned
from experiments.training import folder

Row = dict[str, Any]
HIDDEN = ("losses", "tried")  # in the lines that say how far it is


def run(config: OnlineConfig) -> dict[str, Any]:
    """Measures in a folder of its own, which is written after each row, and prints what came of it.

    Returns:
        What summary.json holds, by measure: of learning for each stream and learner the best
        learning rate, the losses of those `tried`, the `losses` along the stream over the best
        constant's [seeds][parts] and the seconds; of cosines and stacks those to the exact
        gradient; of cost microseconds a step and bytes of temporaries.
    """
    results: dict[str, Any] = {}
    with folder.opened("online", config) as path:
        print(f"writing {path}", flush=True)
        for measure in config.measures:
            results[measure] = []
            for row in MEASURES[measure](config):
                results[measure].append(row)
                folder.write_json(path / "summary.json", results)
                print("  ".join(f"{k} {v}" for k, v in row.items() if k not in HIDDEN), flush=True)
        if "learning" in results:
            folder.write(path / "losses.png", figures.save(figure(config, results["learning"])))
    print(f"\n{report(results)}\n\nwritten: {path}")
    return results


def _learning(config: OnlineConfig) -> Any:
    for stream in config.streams:
        for learner in config.learners:
            yield learn(config, stream, learner)


def learn(config: OnlineConfig, stream: str, learner: str) -> Row:
    """One learner on one stream: the best rate by a seed of its own, then all seeds."""
    network, lag = config.of(stream)
    cell = CELLS[network].make(config.hidden_size, lag)

    def one(key: jax.Array, rate: jax.Array) -> jax.Array:
        k_stream, k_network = jax.random.split(key)
        drawn = STREAMS[stream](k_stream, config.steps, config.batch_size, lag)
        found = learners.losses(cell, config, learner, drawn, k_network, rate)
        return found / drawn.baseline

    began = time.perf_counter()
    train = jax.jit(one)
    first = jax.random.key(config.seed + 10_000)
    tried = try_rates(
        lambda rate: last_quarter(np.asarray(train(first, np.float32(rate)))), config.learning_rates
    )
    best = best_of(tried)
    keys = [jax.random.key(config.seed + k) for k in range(config.seeds)]
    losses = [np.asarray(train(key, np.float32(best))).tolist() for key in keys]
    return {
        "stream": stream,
        "cell": network,
        "lag": lag,
        "learner": learner,
        "learning_rate": best,
        "tried": {f"{rate:g}": folder.finite(loss, 4) for rate, loss in sorted(tried.items())},
        "losses": [[folder.finite(value, 4) for value in seed] for seed in losses],
        "seconds": round(time.perf_counter() - began),
    }


def try_rates(loss: Callable[[float], float], rates: tuple[float, ...]) -> dict[float, float]:
    """The loss at each rate, and where the best is the first or the last one, at up to three more
    beyond it."""
    tried = {rate: loss(rate) for rate in rates}
    for _ in range(3):
        best = best_of(tried)
        if best not in (min(tried), max(tried)):
            break
        beyond = float(f"{best / 3 if best == min(tried) else best * 3:.2g}")
        tried[beyond] = loss(beyond)
    return tried


def best_of(tried: dict[float, float]) -> float:
    return min(tried, key=lambda rate: tried[rate] if np.isfinite(tried[rate]) else np.inf)


def last_quarter(losses: np.ndarray) -> float:
    return float(np.mean(losses[-(PARTS // 4) :]))


def _cosines(config: OnlineConfig) -> Any:
    for name in config.cells:
        yield from cosines.cosines(config, name)


MEASURES: dict[str, Callable[[OnlineConfig], Any]] = {
    "learning": _learning,
    "cosines": _cosines,
    "stacks": cosines.stacks,
    "cost": cosines.costs,
}


def report(results: dict[str, Any]) -> str:
    """The results as tables."""
    parts = [TABLES[measure](rows) for measure, rows in results.items()]
    return "\n\n".join("\n".join(aligned(part)) for part in parts)


def _losses(rows: list[Row]) -> list[tuple[str, ...]]:
    """The loss in the last quarter over that of the best constant: median, and range of seeds."""
    table: list[tuple[str, ...]] = [("stream", "lag", "cell", "learner", "rate", "loss", "seeds")]
    for row in rows:
        ends = [last_quarter(np.array(seed, float)) for seed in row["losses"]]
        spread = f"{min(ends):.3f}-{max(ends):.3f}"
        rate = f"{row['learning_rate']:.3g}"
        names = (row["stream"], f"{row['lag']}", row["cell"], row["learner"])
        table.append((*names, rate, f"{np.median(ends):.3f}", spread))
    return table


def _by_lag(rows: list[Row]) -> list[tuple[str, ...]]:
    lags = sorted({row["lag"] for row in rows})
    table: list[tuple[str, ...]] = [("cell", "method", *map(str, lags))]
    for key in dict.fromkeys((row["cell"], row["method"]) for row in rows):
        own = {row["lag"]: row["cosines"] for row in rows if (row["cell"], row["method"]) == key}
        table.append((*key, *(f"{np.median(own[lag]):.2f}" for lag in lags)))
    return table


def _cost(rows: list[Row]) -> list[tuple[str, ...]]:
    names = ("rtrl_us", "bptt_us", "rtrl_bytes", "bptt_bytes")
    table: list[tuple[str, ...]] = [("cell", "H", "B", *names, "time")]
    for row in rows:
        numbers = [f"{row[name]:,}" for name in names]
        table.append(
            (
                row["cell"],
                f"{row['hidden_size']}",
                f"{row['batch']}",
                *numbers,
                f"{row['ratio'][0]:.2f}",
            )
        )
    return table


TABLES = {"learning": _losses, "cosines": _by_lag, "stacks": _by_lag, "cost": _cost}


def figure(config: OnlineConfig, rows: list[Row]) -> Figure:
    """The loss along each stream: the median of the seeds, and their range."""
    fig, axes = figures.figure(1, len(config.streams), (4.2 * len(config.streams), 3.8))
    steps = (np.arange(PARTS) + 0.5) * config.steps / PARTS / 1000
    for ax, stream in zip(axes[0], config.streams, strict=True):
        own = [row for row in rows if row["stream"] == stream]
        for k, row in enumerate(own):
            losses = np.array(row["losses"], float)
            ax.plot(steps, np.median(losses, axis=0), color=f"C{k}", label=row["learner"])
            ax.fill_between(steps, losses.min(0), losses.max(0), color=f"C{k}", alpha=0.2, lw=0)
        network, lag = config.of(stream)
        ax.set(title=f"{stream}, lag {lag}, {network}", xlabel="steps (thousands)", yscale="log")
        ax.axhline(1, color="0.35", linestyle="--", linewidth=0.9, zorder=1)
    axes[0, 0].set_ylabel("loss over the best constant's")
    handles, names = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, names, loc="outside lower center", ncols=6, frameon=False)
    fig.suptitle(f"learning along streams: median and range of {config.seeds} seeds")
    return fig
