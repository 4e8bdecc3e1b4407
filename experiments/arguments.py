"""Command line and YAML files to configurations, by jsonargparse; a wrong word is one line that names the right one."""

import dataclasses
import re
from argparse import ArgumentError
from collections.abc import Sequence
from typing import Any, TypeVar

from jsonargparse import ArgumentParser

from experiments.config import Launch, UsageError, nearest

C = TypeVar("C")


def parse(kind: type[C], arguments: Sequence[str], name: str = "") -> C:
    """The configuration that the arguments say; files and options count in their order.

    Raises:
        UsageError: an unknown or ill-typed key, with the nearest that is known.
    """
    return _parse((kind,), arguments, name)[0]


def parse_launch(kind: type[C], arguments: Sequence[str], name: str) -> tuple[C, Launch]:
    """The same, and how it is to be started."""
    return _parse((kind, Launch), arguments, name)


def take(option: str, arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Splits off an option, or all that begin with it where it ends with a dot: {what follows it: value}, and the others.

    Raises:
        UsageError: one of them has no value.
    """
    taken, others, rest = {}, [], list(arguments)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if not (name.startswith(option) if option.endswith(".") else name == option):
            others.append(name + equals + value)
            continue
        if not equals and (not rest or rest[0].startswith("--")):
            raise UsageError(f"{name} needs a value.")
        taken[name.removeprefix(option)] = value if equals else rest.pop(0)
    return taken, others


def _parse(kinds: tuple[type, ...], arguments: Sequence[str], name: str) -> Any:
    parser = ArgumentParser(prog=f"python -m experiments {name}", exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="a YAML file of the keys below")
    for kind in kinds:
        parser.add_class_arguments(kind)
    fields = [field for kind in kinds for field in dataclasses.fields(kind)]
    try:
        values = parser.parse_args(_as_written(fields, arguments)).as_dict()
    except ArgumentError as error:
        raise UsageError(explain(str(error), [field.name for field in fields])) from None
    return tuple(kind(**{field.name: values[field.name] for field in dataclasses.fields(kind)}) for kind in kinds)


def _as_written(fields: list[dataclasses.Field], arguments: Sequence[str]) -> list[str]:
    """Brackets around lists, so that `--cells lstm,gru` may be written, and `true` after a flag without a value."""
    lists = {f"--{field.name}" for field in fields if isinstance(field.default, tuple)}
    flags = {f"--{field.name}" for field in fields if field.default is False}
    done: list[str] = []
    for argument, following in zip(arguments, [*arguments[1:], "--"], strict=True):
        option, equals, value = argument.partition("=")
        if done and done[-1] in lists:
            option, equals, value = done.pop(), "=", argument
        if option in flags and not equals and following.startswith("--"):
            equals, value = "=", "true"
        wrap = option in lists and equals and not value.startswith("[")
        done.append(f"{option}=[{value}]" if wrap else f"{option}{equals}{value}" if equals else argument)
    return done


def explain(message: str, keys: list[str]) -> str:
    """jsonargparse's message in one line, with the nearest known key."""
    message = " ".join(message.split())
    if found := re.search(r"Parser key \"(\w+)\": Expected an? <class '(\w+)'>\. Got value: (.*)", message):
        key, wanted, value = found.groups()
        return f"{key} must be of type {wanted}, got {value!r}."
    if found := re.search(r"Parser key \"(\w+)\": Expected a typing.Literal\[(.*?)\]\. Got value: (.*)", message):
        key, choices, value = found.groups()
        return f"{key} must be one of {choices}, got {value!r}."
    if found := re.search(r"unrecognized arguments: (?:--)?([^\s=]+)|Option '([^']+)' is not accepted", message):
        unknown: Any = found.group(1) or found.group(2)
        return f"unknown key {unknown!r}{nearest(unknown, keys)} Known: {', '.join(keys)}."
    return message
