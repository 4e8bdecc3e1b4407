"""The command line of the experiments.

    python -m experiments list                                  tasks, cells and presets
    python -m experiments run NAME [--config FILE] [--KEY VALUE ...]   train, as the preset NAME says
    python -m experiments gradients [--config FILE] [--KEY VALUE ...]  gradients against the lag
    python -m experiments bench [--quick] [--config FILE] [--KEY VALUE ...]  speed and memory against other libraries

After `run NAME`, `gradients` or `bench`: --help lists the keys, --print_config prints what would be run. Lists are written a,b,c.
"""

import dataclasses
import re
import sys
from argparse import ArgumentError
from typing import Any, TypeVar

from jsonargparse import ArgumentParser

from experiments.bench.config import BenchConfig
from experiments.cells import CELLS
from experiments.config import PRESETS, Config, GradientConfig, UsageError, choose, nearest
from experiments.tasks import TASKS

C = TypeVar("C", Config, GradientConfig, BenchConfig)


def main(arguments: list[str] | None = None) -> int:
    """Runs a command and returns its exit code: 0; 1 for what the system refuses, 2 for a usage error, 130 after Ctrl-C."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        return command(arguments)
    except UsageError as error:
        return _fail(str(error), 2)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}", 1)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


def command(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(__doc__)
        return 0 if arguments else 2
    name, *rest = arguments
    choose("command", name, COMMANDS)
    return COMMANDS[name](rest)


def list_all(arguments: list[str]) -> int:
    """`list`: one line for each task, cell and preset."""
    if arguments:
        raise UsageError(f"list takes no arguments, got {' '.join(arguments)}.")
    presets = {name: parse(Config, ["--config", str(path)]).description for name, path in PRESETS.items()}
    known = {
        "tasks": {name: task.description for name, task in TASKS.items()},
        "cells": {name: cell.description for name, cell in CELLS.items()},
        "presets": presets,
    }
    for kind, entries in known.items():
        print(kind)
        for name, text in entries.items():
            print(f"  {name:<20} {text}")
    return 0


def run(arguments: list[str]) -> int:
    """`run NAME`: trains."""
    if not arguments or arguments[0].startswith("--"):
        raise UsageError(f"run needs the name of a preset: {', '.join(PRESETS)}.")
    name, *rest = arguments
    choose("preset", name, PRESETS)
    config = parse(Config, ["--config", str(PRESETS[name]), *rest], f"run {name}")
    from experiments import folder, report, run
    from experiments.progress import live

    path = folder.create(name, config)
    print(f"writing {path}", flush=True)
    with live() as show:
        summary = run.run(config, path, show)
    print(f"\n{report.report(summary)}\n\nwritten: {path}")
    return 130 if summary["status"] == "interrupted" else 0


def gradients(arguments: list[str]) -> int:
    """`gradients`: measures."""
    config = parse(GradientConfig, arguments, "gradients")
    from experiments import folder
    from experiments import gradients as module
    from experiments.progress import live

    path = folder.create("gradients", config)
    print(f"writing {path}", flush=True)
    with live() as show:
        summary = module.run(config, path, show)
    print(f"\n{module.report(summary)}\n\nwritten: {path}")
    return 0


def bench(arguments: list[str]) -> int:
    """`bench`: times jaxrnn and its peers."""
    config = parse(BenchConfig, ["--quick=true" if a == "--quick" else a for a in arguments], "bench")
    from experiments import folder
    from experiments.bench import figure, report, run

    run.use_device(config.device, config.cpu_devices)
    path = folder.create("bench", config)
    print(f"writing {path}", flush=True)
    if config.every_cell:
        from experiments.bench import every_cell

        print(f"\n{every_cell.report(every_cell.run(config, path, lambda line: print(line, flush=True)))}\n\nwritten: {path}")
        return 0
    results = run.run(config, path, lambda line: print(line, flush=True))
    figure.draw(path)
    print(f"\n{report.report(results)}\n\nwritten: {path}")
    return 130 if results["status"] == "interrupted" else 0


COMMANDS = {"list": list_all, "run": run, "gradients": gradients, "bench": bench}


def parse(kind: type[C], arguments: list[str], name: str = "") -> C:
    """The configuration that the arguments say; files and options count in their order.

    Raises:
        UsageError: an unknown or ill-typed key, with the nearest that is known.
    """
    parser = ArgumentParser(prog=f"python -m experiments {name}", exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="a YAML file of the keys below")
    parser.add_class_arguments(kind)
    try:
        values = parser.parse_args(_with_lists(kind, arguments)).as_dict()
    except ArgumentError as error:
        raise UsageError(explain(str(error), [field.name for field in dataclasses.fields(kind)])) from None
    return kind(**{key: value for key, value in values.items() if key != "config"})


def _with_lists(kind: type, arguments: list[str]) -> list[str]:
    """Puts brackets around the value of an option that is a list, so that `--cells lstm,gru` may be written."""
    lists = {f"--{field.name}" for field in dataclasses.fields(kind) if isinstance(field.default, tuple)}
    done: list[str] = []
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if done and done[-1] in lists:
            option, equals, value = done.pop(), "=", argument
        wrap = option in lists and equals and not value.startswith("[")
        done.append(f"{option}=[{value}]" if wrap else f"{option}{equals}{value}" if equals else argument)
    return done


def explain(message: str, keys: list[str]) -> str:
    """jsonargparse's message in one line, with the nearest known key."""
    message = " ".join(message.split())
    if found := re.search(r"Parser key \"(\w+)\": Expected an? <class '(\w+)'>\. Got value: (.*)", message):
        key, wanted, value = found.groups()
        return f"{key} must be of type {wanted}, got {value!r}."
    if found := re.search(r"unrecognized arguments: (?:--)?([^\s=]+)|Option '([^']+)' is not accepted", message):
        unknown: Any = found.group(1) or found.group(2)
        return f"unknown key {unknown!r}{nearest(unknown, keys)} Known: {', '.join(keys)}."
    return message
