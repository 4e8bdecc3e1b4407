"""The command line of the experiments.

    python -m experiments list [KIND [WORD]]      tasks, cells, presets and tiers
    python -m experiments run NAME|FILE.yaml [--out DIR --resume] [--KEY VALUE ...]
                                                  train, as the preset or the file says
    python -m experiments sweep NAME|FILE.yaml --grid.KEY V,V,... [--retry] [--KEY VALUE ...]
                                                  runs over a grid and a list
    python -m experiments check TIER [--out DIR]  presets held against what they should show
    python -m experiments reproduce [CLAIM... | --all] [--seed N] [--out DIR]
                                                  published, committed, now: a verdict
    python -m experiments gradients [--config FILE] [--KEY VALUE ...]
                                                  gradients against the lag
    python -m experiments agents [--config FILE] [--KEY VALUE ...]
                                                  agents with a memory
    python -m experiments online [--config FILE] [--KEY VALUE ...]
                                                  learning along streams, gradients forward in time
    python -m experiments bench [--quick] [--config FILE] [--KEY VALUE ...]
                                                  speed and memory against other libraries
    python -m experiments report RUN... [--out FILE] [--csv FILE]
                                                  one page of runs and sweeps, report.html
    python -m experiments export RUN [--to onnx|c|safetensors|stablehlo] [--KEY VALUE ...]
                                                  what a run has trained, to run elsewhere

COMMAND --help tells more of each, with an example; after `run NAME`, `sweep NAME`, `gradients`,
`agents`, `online`, `bench` or `export`, --help explains every key, and --print_config prints what
would be run. Lists are written a,b,c. --import FILE anywhere runs a file of Python first, which
registers cells, tasks and loggers of its own. Exit codes: 0 done; 1 failed; 2 wrong usage; 75
interrupted, and the same command with --resume (or the same sweep) goes on; 130 interrupted, and to
be begun again; 141 who read the output has gone.
"""

import dataclasses
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from experiments import listing, manual, own, own_checks
from experiments.agents.config import AgentConfig
from experiments.arguments import parse, parse_all, take_out
from experiments.bench.config import BenchConfig
from experiments.config import (
    TIERS,
    Config,
    ExportConfig,
    GradientConfig,
    Launch,
    Points,
    RunError,
    UsageError,
    choose,
    preset,
)
from experiments.online.config import OnlineConfig
from experiments.report import prose
from experiments.training import dist, folder, progress

DONE = 0
FAILED = 1
USAGE = 2
RESUMABLE = 75
INTERRUPTED = 130
UNREAD = 141
CODES = {"done": DONE, "failed": FAILED, "interrupted": RESUMABLE}


def main(arguments: list[str] | None = None) -> int:
    """Runs a command and returns its exit code."""
    try:
        try:
            return _answered(sys.argv[1:] if arguments is None else arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # who read has gone, as `head` does: what is still to be written goes nowhere, and quietly
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD


def _answered(arguments: list[str]) -> int:
    """Gives help where it is asked for, and runs the command otherwise."""
    try:
        arguments = own.take_imports(arguments)
        if not arguments or arguments[0] in ("help", "-h", "--help"):
            return _help(arguments[1:], DONE if arguments else USAGE)
        if {"-h", "--help"} & {*arguments}:
            return _help(arguments, DONE)
        choose("command", arguments[0], COMMANDS)
        return COMMANDS[arguments[0]](arguments[1:])
    except BrokenPipeError:
        raise
    except (UsageError, RunError, ImportError) as error:
        # the data of some tasks come with packages of their own
        return _fail(str(error), USAGE if isinstance(error, UsageError) else FAILED)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}", FAILED)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)


def _help(arguments: list[str], code: int) -> int:
    """Prints help on all, or on the command that the arguments begin with."""
    print(manual.about(arguments[0], arguments[1:]) if arguments else __doc__)
    return code


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


def list_all(arguments: list[str]) -> int:
    """`list [KIND [WORD]]`: a line or more for each task, cell, preset and tier."""
    if len(arguments) > 2:
        raise UsageError(f"list takes a kind and a word, got {' '.join(arguments)}.")
    print(listing.text(*arguments))
    return DONE


def run(arguments: list[str]) -> int:
    """`run NAME`: trains."""
    name, rest = _preset("run", arguments)
    config, launch = parse_all((Config, Launch), rest, f"run {arguments[0]}")
    dist.join(launch)
    with dist.stopping() as stop:
        summary, path = train(name, config, launch, stop)
        if jax.process_index() == 0:
            print(f"\n{prose.report(summary)}\n\nwritten: {path}")
            if summary["status"] == "interrupted":
                imports = "".join(f" --import {file}" for file in own.FILES)
                print(
                    f"to go on: python -m experiments run {arguments[0]}{imports} --out {path} "
                    "--resume, with the same keys"
                )
            if summary["status"] == "failed":
                _fail(summary["failure"], FAILED)
    return CODES[summary["status"]]


def train(
    name: str, config: Config, launch: Launch, stop: Callable[[], bool]
) -> tuple[dict[str, Any], Path]:
    """Runs one configuration in a folder of its own,
    in this process and those that it is launched with.
    """
    from experiments.training.run import Hooks, run

    if launch.dist != "off" and config.out is None:
        raise UsageError("several processes need --out, the folder that they share.")
    own_checks.check(config)
    _ = config.make_task().levels  # where the package of its data is missing, nothing is written
    opened = folder.opened(name, config, launch.resume)
    with (
        dist.first_alone(opened, Path(config.out or "")) as path,
        progress.beside(path, _loggers(launch, config, path)) as (show, record),
    ):
        return folder.finished(path) or run(config, path, Hooks(show, stop, record)), path


def _loggers(launch: Launch, config: Config, path: Path) -> list[Any]:
    """What records the losses beside metrics.jsonl: context managers. Nothing does where the run is
    done already."""
    if folder.finished(path) or jax.process_index():
        return []
    board = [progress.board(path)] if launch.tensorboard else []
    own_ones = [
        progress.apart(
            getattr(begin, "__name__", str(begin)),
            functools.partial(begin, path, dataclasses.asdict(config)),
        )
        for begin in own.LOGGERS
    ]
    return [*board, *own_ones]


def sweep(arguments: list[str]) -> int:
    """`sweep NAME`: runs over a grid and a list."""
    name, rest = _preset("sweep", arguments)
    config, launch, chosen = parse_all((Config, Launch, Points), rest, f"sweep {arguments[0]}")
    from experiments.training import sweep as module

    points = module.points(name, config, launch, chosen)
    dist.join(launch)
    with dist.stopping() as stop:
        status, text = module.run(points, chosen.retry, functools.partial(train, name), stop)
    print(text)
    return CODES[status]


def check(arguments: list[str]) -> int:
    """`check TIER`: holds presets against what they should show."""
    out, rest = take_out(arguments)
    if len(rest) != 1:
        raise UsageError(f"check needs the name of one tier: {', '.join(TIERS)}.")
    choose("tier", rest[0], TIERS)
    from experiments.training import check as module

    with dist.stopping() as stop:
        status, text = module.run(
            rest[0], out or Path("runs/check"), functools.partial(train, stop=stop)
        )
    print(text)
    return CODES[status]


def reproduce(arguments: list[str]) -> int:
    """`reproduce CLAIM... | --all`: runs again what published claims rest on."""
    out, rest = take_out(arguments)
    seed, names = take_out(rest, "--seed")
    from experiments import reproduce as module

    if not names:
        print(module.committed())
        return DONE
    names = list(module.CLAIMS) if names == ["--all"] else names
    module.check_names(names)
    if seed is not None and not str(seed).isdecimal():
        raise UsageError(f"--seed must be a number, got {seed}.")
    first = None if seed is None else int(str(seed))
    with dist.stopping() as stop:
        train_one = functools.partial(train, stop=stop)
        status, text = module.run(names, out or Path("runs/reproduce"), first, train_one)
    print(text)
    return CODES[status]


def gradients(arguments: list[str]) -> int:
    """`gradients`: measures."""
    config = parse(GradientConfig, arguments, "gradients")
    from experiments.training import gradients as module

    with folder.opened("gradients", config) as path, progress.beside(path) as (show, _):
        summary = module.run(config, path, show)
    print(f"\n{module.report(summary)}\n\nwritten: {path}")
    return DONE


def agents(arguments: list[str]) -> int:
    """`agents`: trains agents."""
    config = parse(AgentConfig, arguments, "agents")
    from experiments.agents import command

    command.run(config)
    return DONE


def online(arguments: list[str]) -> int:
    """`online`: learns along streams."""
    config = parse(OnlineConfig, arguments, "online")
    from experiments.online import command

    command.run(config)
    return DONE


def bench(arguments: list[str]) -> int:
    """`bench`: times jaxrnn and its peers."""
    config = parse(BenchConfig, arguments, "bench")
    from experiments.bench import command

    return INTERRUPTED if command.run(config) == "interrupted" else DONE


def page(arguments: list[str]) -> int:
    """`report RUN...`: writes the page."""
    out, rest = take_out(arguments)
    csv, runs = take_out(rest, "--csv")
    unknown = [run for run in runs if run.startswith("--")]
    if unknown or not runs:
        needed = "report needs the folder of a run, or several."
        raise UsageError(f"unknown key {unknown[0]!r}." if unknown else needed)
    from experiments.report import page

    out = out or Path(runs[0] if len(runs) == 1 else "", "report.html")
    page.write([Path(run) for run in runs], out)
    if csv is not None:
        from experiments.report import rows

        rows.write([Path(run) for run in runs], csv)
    print(f"written: {out}" if csv is None else f"written: {out} and {csv}")
    return DONE


def ship(arguments: list[str]) -> int:
    """`export RUN`: writes a file that runs elsewhere."""
    if not arguments or arguments[0].startswith("--"):
        raise UsageError("export needs the folder of a run.")
    from experiments import shipping

    print(shipping.run(Path(arguments[0]), parse(ExportConfig, arguments[1:], "export")))
    return DONE


def _preset(command: str, arguments: list[str]) -> tuple[str, list[str]]:
    """The name of a preset, and all arguments of what is to be run."""
    if not arguments or arguments[0].startswith("--"):
        raise UsageError(
            f"{command} needs the name of a preset; `python -m experiments list presets` shows all."
        )
    path = preset(arguments[0])
    return path.stem, ["--config", str(path), *arguments[1:]]


COMMANDS = {
    "list": list_all,
    "run": run,
    "sweep": sweep,
    "check": check,
    "reproduce": reproduce,
    "gradients": gradients,
    "agents": agents,
    "online": online,
    "bench": bench,
    "report": page,
    "export": ship,
}
