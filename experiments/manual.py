"""What the command line says of itself: each command in words with an example, and every option of
a configuration, from what the docstring of its class says."""

import dataclasses
import inspect
import json
import re
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from experiments.agents.config import AgentConfig
from experiments.arguments import parse_all
from experiments.bench.config import BenchConfig
from experiments.config import (
    Config,
    ExportConfig,
    GradientConfig,
    Launch,
    Points,
    UsageError,
    choose,
    preset,
)
from experiments.listing import columns_wide
from experiments.online.config import OnlineConfig

COMMANDS = {
    "list": """
        python -m experiments list [tasks|cells|presets|tiers [WORD]]

        Shows what there is, of one kind or of all, each with a line of what it is. WORD leaves
        what has it in its name or description.

        Example: python -m experiments list presets mnist
        """,
    "run": """
        python -m experiments run NAME [--KEY VALUE ...]

        Trains every cell of the preset NAME, which may be a file FILE.yaml, on its task, all seeds
        of a cell at once, and prints how many seeds solved it and after how many updates. It writes
        a new folder under runs/, or the one after --out; with --resume it goes on with the run that
        this holds.

        Example: python -m experiments run adding --lag 100 --cells lstm,gru

        `python -m experiments list presets` shows the presets, and
        `python -m experiments run NAME --help` every option, with its value in the preset.
        """,
    "sweep": """
        python -m experiments sweep NAME --grid.KEY V,V,... [--KEY VALUE ...]

        Runs the preset NAME, or FILE.yaml, once for each combination of values, and for each entry
        of a list of changes, every run in a folder of its own. The same command goes on with a
        sweep that was cut, and leaves out what is done; --retry runs again what failed. Several
        processes with the same --out share the runs of one sweep.

        Example: python -m experiments sweep adding --grid.lag 50,100,200 --out runs/lags

        `python -m experiments sweep NAME --help` shows every option, with its value in the preset.
        """,
    "check": """
        python -m experiments check TIER [--out DIR]

        Runs the presets of a tier and holds them against what they should show: how many seeds
        solve the task, or score so much. It writes a folder for each preset under runs/check, or
        under DIR, and goes on with those that are there. The exit code is 1 where one is wrong.

        Example: python -m experiments check fast

        `python -m experiments list tiers` shows the tiers.
        """,
    "reproduce": """
        python -m experiments reproduce [CLAIM... | --all] [--seed N] [--out DIR]

        Runs again what published claims rest on, as the committed runs were configured, and says
        for each cell what was published, what the committed run found, and what comes out now;
        --seed takes other seeds. It writes a folder for each claim under runs/reproduce, or under
        DIR, and goes on with those that are there. The exit code is 1 where a verdict has changed.
        Without a claim it lists them.

        Example: python -m experiments reproduce flip_flop
        """,
    "gradients": """
        python -m experiments gradients [--KEY VALUE ...]

        Measures how much of the gradient is left after so many steps back, before and after a
        short training on the adding task.

        Example: python -m experiments gradients --cells lstm,gru --lag 200
        """,
    "agents": """
        python -m experiments agents [--KEY VALUE ...]

        Trains agents with each cell by recurrent PPO in an environment that needs a memory, and
        holds what they earn against the best return, and the best without memory.

        Example: python -m experiments agents --environment t_maze --lengths 8,32 --cells gru,lstm
        """,
    "online": """
        python -m experiments online [--KEY VALUE ...]

        Learns along streams that do not end, by gradients forward in time and by truncated
        backpropagation; measures how near approximate gradients are to the exact one, and what they
        cost.

        Example: python -m experiments online --streams adding --learners rtrl,bptt_8
        """,
    "bench": """
        python -m experiments bench [--KEY VALUE ...]

        Times jaxrnn beside other libraries, forward and with the backward pass, all in one run,
        and measures memory.

        Example: python -m experiments bench --quick --cells lstm
        """,
    "report": """
        python -m experiments report RUN... [--out FILE] [--csv FILE]

        Makes one page of HTML of the folders of runs and sweeps, which loads nothing and runs no
        script: verdicts, tables, figures and configurations. It is written as report.html into the
        folder where one is named, and here where several are; --out names another file. --csv FILE
        writes a line for each seed of each cell too, for other programs.

        Example: python -m experiments report runs/adding runs/adding-2 --out both.html
        """,
    "export": """
        python -m experiments export RUN [--to onnx|c|safetensors|stablehlo] [--KEY VALUE ...]

        Writes what a run has trained, the seed with the lowest held-out loss, as a file that runs
        elsewhere, and a file beside it that says what goes in and out, and how far what comes out
        is from the model that was trained.

        Example: python -m experiments export runs/adding --to onnx --cell gru
        """,
}
# the options of a class under headings: each begins with the field that it names
HEADINGS: dict[type, dict[str, str]] = {
    Points: {"grid": "What a sweep runs"},
    Config: {
        "description": "What is trained",
        "batch_size": "How it is trained",
        "seed": "Which seeds, and where to",
    },
    GradientConfig: {"cells": "What is measured", "batch_size": "The training in between"},
    AgentConfig: {
        "environment": "What is trained",
        "environments": "How it is trained",
        "seed": "Which seeds, and where to",
    },
    OnlineConfig: {
        "measures": "What is measured",
        "hidden_size": "How it is trained",
        "seed": "Which seeds, and where to",
    },
    BenchConfig: {"cells": "What is measured", "rounds": "How long, and where"},
    ExportConfig: {"to": "What is written"},
    Launch: {"resume": "How it is started"},
}
KINDS: dict[str, tuple[type, ...]] = {
    "run": (Config, Launch),
    "sweep": (Points, Config, Launch),
    "gradients": (GradientConfig,),
    "agents": (AgentConfig,),
    "online": (OnlineConfig,),
    "bench": (BenchConfig,),
    "export": (ExportConfig,),
}
VALUES = """
    Each option stands here with the value that it has where it is not given. Lists are written
    a,b,c; --KEY alone sets what is false.
    """
GENERAL = """
Files and help
  --import FILE
      runs a file of Python first, which registers cells, tasks and loggers of
      its own (experiments/own.py); it may stand anywhere, and more than once.
  --config FILE
      reads keys from a YAML file; files and options count in their order, and
      the last one wins.
  --print_config
      prints the configuration that would be run, as such a file, and runs
      nothing."""


def about(command: str, rest: Sequence[str]) -> str:
    """Help on a command; with all of its options where they need no preset, or one is named.

    Args:
        command: its name.
        rest: what follows it on the command line.

    Returns:
        Lines no wider than the terminal.

    Raises:
        UsageError: there is no such command, or no such preset.
    """
    choose("command", command, COMMANDS)
    words = inspect.cleandoc(COMMANDS[command]).split("\n\n")
    values: dict[str, Any] = {}
    if command in ("run", "sweep") and rest and not rest[0].startswith("-"):
        values = vars(_configured(preset(rest[0]), f"{command} {rest[0]}"))
        words = [words[0].replace("NAME", rest[0]), f"{rest[0]}: {values['description']}."]
    elif command not in ("gradients", "agents", "online", "bench", "export"):
        return _filled(words)
    return f"{_filled([*words, VALUES])}\n\n{_options(KINDS[command], values)}\n{GENERAL}"


def _configured(path: Path, name: str) -> Config:
    """What a file says, which may say what a sweep runs too."""
    try:
        keys = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {' '.join(str(error).split())}") from None
    runs = isinstance(keys, dict) and {"grid", "list"} & keys.keys()
    kinds = (Config, Points) if runs else (Config,)
    return parse_all(kinds, ["--config", str(path)], name)[0]


def _filled(paragraphs: Sequence[str]) -> str:
    """Paragraphs no wider than the terminal."""
    return "\n\n".join(textwrap.fill(" ".join(p.split()), columns_wide()) for p in paragraphs)


def _options(kinds: Sequence[type], values: Mapping[str, Any]) -> str:
    """Every option of some classes, with its value, under their headings."""
    lines: list[str] = []
    for kind in kinds:
        told = meanings(kind)
        for field in dataclasses.fields(kind):
            if field.name in HEADINGS[kind]:
                lines += ["", HEADINGS[kind][field.name]]
            value = values.get(field.name, _default(field))
            lines += _wrapped(_written(field.name, value), 2)
            lines += _wrapped(told[field.name], 6)
    return "\n".join(lines[1:])


def meanings(kind: type) -> dict[str, str]:
    """What the docstring of a class says of each of its Args, of which others are named as options.

    Args:
        kind: a class whose docstring has a section Args, and no other behind it.

    Returns:
        By the name of the argument.
    """
    _, _, told = inspect.cleandoc(kind.__doc__ or "").partition("\nArgs:\n")
    found = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", told, flags=re.MULTILINE)
    return {name: re.sub(r"`(\w+)`", r"--\1", " ".join(text.split())) for name, text in found}


def _default(field: dataclasses.Field) -> Any:
    made = field.default_factory
    return field.default if isinstance(made, type(dataclasses.MISSING)) else made()


def _written(name: str, value: Any) -> str:
    """An option as it is written on the command line."""
    if name == "grid":
        return "--grid.KEY V,V,..."
    if value is None or value == "" or value == ():
        return f"--{name} (none)"
    if isinstance(value, tuple):
        return f"--{name} {','.join(f'{v:g}' if isinstance(v, float) else str(v) for v in value)}"
    if isinstance(value, bool | dict):
        return f"--{name} {shlex.quote(json.dumps(value))}"
    return f"--{name} {f'{value:g}' if isinstance(value, float) else shlex.quote(str(value))}"


def _wrapped(text: str, indent: int) -> list[str]:
    """Lines no wider than the terminal; a long list is cut behind its commas."""
    spaces = " " * indent
    wide = columns_wide()
    if len(text) + indent > wide and text.count(" ") == 1:
        lines = textwrap.wrap(text.replace(",", ", "), wide - indent - 4)
        return [spaces + "    " * (k > 0) + line.replace(", ", ",") for k, line in enumerate(lines)]
    return textwrap.wrap(text, wide, initial_indent=spaces, subsequent_indent=spaces)
