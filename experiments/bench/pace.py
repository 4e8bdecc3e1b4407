"""How long an update of each cell of a sweep takes, side by side:
what makes "updates to solve" a time.

    python -m experiments.bench.pace experiments/results/lstm_or_gru lstm,gru_ub1

A sweep trains its cells one after the other, for minutes each, and what else the machine does
meanwhile falls on one of them. Here the programs of all cells of a run are compiled first, and then
take turns, in a random order in each round.
"""

import dataclasses
import os
import random
import sys
import time
from pathlib import Path

import jax
import numpy as np

from experiments.arguments import parse
from experiments.bench.stats import ratio
from experiments.config import CHUNK, Config
from experiments.training import folder, train

ROUNDS = 9


def measure(config: Config, rounds: int = ROUNDS) -> dict[str, dict[str, float]]:
    """Of every cell the milliseconds that an update takes with all seeds at one learning rate, and
    its ratio to the first cell's.

    Returns:
        By cell: `ms_per_update`, the median over the rounds; `ratio`, the median of the ratios
        within rounds; `low` and `high`, its bootstrap interval of 95 %.
    """
    rows = train.rows(config)
    active = np.full(config.seeds, True)
    jobs = {name: train.make_job(config, name) for name in config.cells}
    states = {name: train.start(job, rows) for name, job in jobs.items()}

    def once(name: str) -> float:
        began = time.perf_counter()
        train.advance(jobs[name], states[name], rows, active, 0)
        return (time.perf_counter() - began) * 1e3 / CHUNK

    for name in jobs:
        once(name)  # compiles
    order = random.Random(0)
    times = {name: [] for name in jobs}
    for _ in range(rounds):
        for name in order.sample(list(jobs), len(jobs)):
            times[name].append(once(name))
    first = times[config.cells[0]]
    found = {}
    for name, mine in times.items():
        middle, low, high = ratio(mine, first)
        found[name] = {
            "ms_per_update": float(np.median(mine)),
            "ratio": middle,
            "low": low,
            "high": high,
        }
    return found


def main(sweep: Path, cells: tuple[str, ...]) -> None:
    """Writes pace.json beside sweep.json: what `measure` gives for each run of the sweep, by the
    run's folder. Only `cells` are measured, since those that differ in how they begin have one
    program, and with one seed: seeds are trained one after another.
    """
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)  # as the training has them
    found = {}
    for run in folder.read_json(sweep / "sweep.json")["runs"]:
        config = parse(Config, ["--config", str(sweep / run["folder"] / "config.yaml")])
        found[run["folder"]] = measure(
            dataclasses.replace(
                config,
                cells=cells,
                seeds=1,
                select_seeds=0,
                learning_rates=config.learning_rates[:1],
            )
        )
        print(
            run["folder"],
            {name: round(pace["ratio"], 2) for name, pace in found[run["folder"]].items()},
            flush=True,
        )
    folder.write_json(sweep / "pace.json", {"env": folder.environment(), "runs": found})


if __name__ == "__main__":
    main(Path(sys.argv[1]), tuple(sys.argv[2].split(",")))
