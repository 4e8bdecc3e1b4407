"""Command line and YAML files to configurations, by jsonargparse;
a wrong word is one line that names the right one.
"""

import dataclasses
import re
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from jsonargparse import ArgumentParser

from experiments.config import UsageError, nearest

C = TypeVar("C")


def parse(kind: type[C], arguments: Sequence[str], name: str = "") -> C:
    """The configuration that the arguments say; files and options count in their order.

    Raises:
        UsageError: an unknown or ill-typed key, with the nearest that is known.
    """
    return parse_all((kind,), arguments, name)[0]


def parse_all(kinds: Sequence[type], arguments: Sequence[str], name: str) -> Any:
    """The same for several kinds of configuration at once, whose keys differ."""
    parser = ArgumentParser(
        prog=f"python -m experiments {name}", exit_on_error=False, allow_abbrev=False
    )
    parser.add_argument("--config", action="config", help="a YAML file of the keys below")
    for kind in kinds:
        parser.add_class_arguments(kind)
    fields = [field for kind in kinds for field in dataclasses.fields(kind)]
    _check_files(arguments)
    try:
        values = parser.parse_args(_as_written(fields, arguments)).as_dict()
    except UnicodeDecodeError:
        raise UsageError("a file after --config is no text.") from None
    except ArgumentError as error:
        raise UsageError(explain(str(error), [field.name for field in fields], name)) from None
    return tuple(
        kind(**{field.name: values[field.name] for field in dataclasses.fields(kind)})
        for kind in kinds
    )


def take_out(arguments: Sequence[str], option: str = "--out") -> tuple[Path | None, list[str]]:
    """The value of an option among arguments that no configuration reads, and the others."""
    rest: list[str] = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        rest += [name, value] if equals and name == option else [argument]
    if option not in rest[:-1]:
        return None, rest
    k = rest.index(option)
    return Path(rest[k + 1]), rest[:k] + rest[k + 2 :]


def _check_files(arguments: Sequence[str]) -> None:
    """Raises UsageError where a file after --config refers to itself, which would be read for
    ever."""
    for option, following in zip(arguments, [*arguments[1:], ""], strict=False):
        name, equals, value = option.partition("=")
        path = Path(value if equals else following)
        if name != "--config" or not path.is_file():
            continue
        try:
            tree = yaml.safe_load(path.read_text())
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError, OSError):
            continue  # the parser says what is wrong with it
        if _refers_to_itself(tree, ()):
            raise UsageError(f"{path} refers to itself: an alias stands inside its anchor.")


def _refers_to_itself(tree: Any, above: tuple[int, ...]) -> bool:
    if id(tree) in above:
        return True
    parts = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return any(_refers_to_itself(part, (*above, id(tree))) for part in parts)


def _as_written(fields: list[dataclasses.Field], arguments: Sequence[str]) -> list[str]:
    """Brackets around lists, so that `--cells lstm,gru` may be written,
    and `true` after a flag without a value.
    """
    lists = _options(fields, lambda default: isinstance(default, tuple))
    flags = _options(fields, lambda default: default is False)
    done: list[str] = []
    for argument, following in zip(arguments, [*arguments[1:], "--"], strict=False):
        option, equals, value = argument.partition("=")
        if done and done[-1] in lists:  # whose value this is
            option = done.pop()
            equals = "="
            value = argument
        if option.startswith("--grid."):  # before the name of a key
            lists.add(option)
        if option in flags and not equals and following.startswith("--"):
            equals = "="
            value = "true"
        value = _bracketed(value) if equals and option in lists else value
        done.append(f"{option}{equals}{value}")
    return done


def _options(fields: list[dataclasses.Field], wanted: Callable[[Any], bool]) -> set[str]:
    """The options of the fields whose default is as wanted."""
    return {f"--{field.name}" for field in fields if wanted(field.default)}


def _bracketed(value: str) -> str:
    return value if value.startswith("[") else f"[{value}]"


def explain(message: str, keys: list[str], name: str) -> str:
    """jsonargparse's message in one line, with the nearest known keys of the command `name`."""
    message = " ".join(message.split())
    if found := re.search(
        r"Parser key \"(\w+)\": Expected an? <class '(\w+)'>\. Got value: (.*)", message
    ):
        return "{} must be of type {}, got {!r}.".format(*found.groups())
    if found := re.search(
        r"Parser key \"(\w+)\": Expected a typing.Literal\[(.*?)\]\. Got value: (.*)", message
    ):
        return "{} must be one of {}, got {!r}.".format(*found.groups())
    if found := re.search(
        r"unrecognized arguments: (?:--)?([^\s=]+)|Option '([^']+)' is not accepted", message
    ):
        unknown: Any = found.group(1) or found.group(2)
        every = f"`python -m experiments {name or 'run NAME'} --help` shows all."
        return f"unknown key {unknown!r}{nearest(unknown, keys)} {every}"
    return message
