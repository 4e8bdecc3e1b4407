"""`list`: what there is, by kind, in columns that fit the terminal."""

import shutil
import textwrap
from collections.abc import Callable, Mapping

import yaml

from experiments.cells import CELLS
from experiments.config import PRESETS, TIERS, UsageError, choose
from experiments.tasks import TASKS

Entries = dict[str, str]  # {name: description}


def presets() -> dict[str, Entries]:
    """The presets, under the folders that they lie in."""
    groups: dict[str, Entries] = {}
    for name, path in PRESETS.items():
        text = yaml.safe_load(path.read_text())["description"]
        groups.setdefault(f"presets: {path.parent.name}", {})[name] = text
    return groups


# what there is of each kind, under its headings
KINDS: dict[str, Callable[[], dict[str, Entries]]] = {
    "tasks": lambda: {"tasks": {name: task.description for name, task in TASKS.items()}},
    "cells": lambda: {"cells": {name: cell.description for name, cell in CELLS.items()}},
    "presets": presets,
    "tiers": lambda: {"tiers": {name: ", ".join(tier) for name, tier in TIERS.items()}},
}


def text(kind: str = "", word: str = "") -> str:
    """What there is of a kind, or of all.

    Args:
        kind: one of KINDS; none means all of them.
        word: only what has it in its name or description.

    Raises:
        UsageError: there is no such kind, or nothing with the word.
    """
    if kind:
        choose("kind", kind, KINDS)
    found = {
        heading: {
            name: told for name, told in entries.items() if word.lower() in f"{name} {told}".lower()
        }
        for one in ([kind] if kind else KINDS)
        for heading, entries in KINDS[one]().items()
    }
    if not any(found.values()):
        every = f"`python -m experiments list {kind}` shows all."
        raise UsageError(f"no {kind[:-1]} has {word!r} in its name or description; {every}")
    parts = [f"{heading}\n{columns(entries)}" for heading, entries in found.items() if entries]
    return "\n".join(parts)


def columns(entries: Mapping[str, str]) -> str:
    """Names, and what they are, no wider than the terminal."""
    width = max(map(len, entries))
    lines = []
    for name, told in entries.items():
        first, *others = textwrap.wrap(told, columns_wide() - width - 4)
        lines += [f"  {name:<{width}}  {first}", *(f"{'':<{width + 4}}{line}" for line in others)]
    return "\n".join(lines)


def columns_wide() -> int:
    """The columns of the terminal; 80 where the output is none, and never fewer than 50."""
    return max(50, shutil.get_terminal_size((80, 24)).columns)
