"""The command `bench`."""

import functools

from experiments.bench import agents, calls, every_cell, figure, linear, report, shipped
from experiments.bench import run as bench
from experiments.bench.config import BenchConfig
from experiments.training import folder


def run(config: BenchConfig) -> str:
    """Measures what `config` says in a folder of its own, prints what came of it,
    and returns its status.
    """
    bench.use_device(config.device, config.cpu_devices)
    say = functools.partial(print, flush=True)
    with folder.opened("bench", config) as path:
        say(f"writing {path}")
        if config.every_cell:
            results = every_cell.run(config, path, say)
            text = every_cell.report(results)
        elif config.calls:
            results = calls.run(config, path, say)
            text = calls.report(results)
        elif config.agents:
            results = agents.run(config, path, say)
            text = agents.report(results)
        elif config.shipped:
            results = shipped.run(config, path, say)
            text = shipped.report(results)
        elif config.linear:
            results = linear.run(config, path, say)
            text = linear.report(results)
        else:
            results = bench.run(config, path, say)
            figure.draw(path)
            text = report.report(results)
    say(f"\n{text}\n\nwritten: {path}")
    return results.get("status", "done")
