"""Cells as plain values, and back: dicts with the name of a class and its fields,
made of it only if it is on a list.
"""

import collections.abc
import dataclasses
import difflib
import functools
import math
import numbers
import operator
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax.numpy as jnp

from jaxrnn import cells, initializers, stack, wrappers
from jaxrnn.cell import Array, Cell, DType
from jaxrnn.interop.strict_json import FileFormatError
from jaxrnn.stack import Stack

# both directions counted: a few lines of nested bidirectional stacks would ask for millions
MOST_CELLS = 128
MOST_HEADS = 1024  # of all cells together: each is drawn for itself, in milliseconds of tracing
MOST_PIXELS = 4096  # of one kernel, which is visited one by one in tracing
MOST_SEEN = 1024  # steps that all convolutions in time together see: each is an array of the carry
MOST_MEMORY = 4096  # the side of a matrix that is computed whole
DEEPEST = 32


def _own_classes(module: types.ModuleType) -> dict[str, type]:
    values = ((name, value) for name, value in vars(module).items() if isinstance(value, type))
    return {name: value for name, value in values if dataclasses.is_dataclass(value)}


CLASSES = functools.reduce(operator.or_, map(_own_classes, (cells, wrappers, initializers, stack)))


def encode(cell: Cell) -> dict[str, Any]:
    """A cell as plain values: dicts, lists, strings, numbers, booleans and None.

    Raises:
        TypeError: no cell, or a field that has no plain value, such as a function.
        ValueError: two classes of one name, a number that is not finite, or more cells than
            `decode` accepts.
    """
    if not isinstance(cell, Cell) or not dataclasses.is_dataclass(cell):
        raise TypeError(f"only a cell that is a dataclass can be saved, got {cell!r}.")
    known = CLASSES | _named(outside(cell))
    config = _encode(cell, type(cell).__name__)
    if _encode(decode(config, known), "") != config:
        raise ValueError(
            f"{cell!r} changes when it is made anew from its fields, so it cannot be saved."
        )
    return config


def outside(cell: Cell) -> list[type]:
    """The classes in a cell that are not this library's own."""
    found = {type(part) for part in _parts(cell)}
    return sorted(found - set(CLASSES.values()), key=lambda c: c.__name__)


def decode(config: Any, known: Mapping[str, type]) -> Cell:
    """The cell of plain values that `encode` made.

    Args:
        config: the values; whatever a file holds.
        known: the classes that may be made, by name. Nothing else is called.

    Raises:
        FileFormatError: a class that is not known, a field that a class does not have or that is
            missing, a value of the wrong type, or one that the class refuses.
    """
    cell = _decode(config, known, "cell", DEEPEST)
    if not isinstance(cell, Cell):
        raise FileFormatError(f"cell must be a cell, got {cell!r}.")
    if count(cell, lambda part: 1) > MOST_CELLS:
        raise FileFormatError(f"cell has more than {MOST_CELLS} cells, both directions counted.")
    if count(cell, lambda part: option(part, "heads", 0)) > MOST_HEADS:
        raise FileFormatError(f"cell has more than {MOST_HEADS} heads, both directions counted.")
    if count(cell, _steps_seen) > MOST_SEEN:
        raise FileFormatError(f"cell sees more than {MOST_SEEN} inputs at once.")
    if any(option(part, "memory_size", 0) > MOST_MEMORY for part in _parts(cell)):
        raise FileFormatError(f"cell has a memory_size of more than {MOST_MEMORY}.")
    if any(math.prod(option(part, "kernel_size", ())) > MOST_PIXELS for part in _parts(cell)):
        raise FileFormatError(f"cell has a kernel_size of more than {MOST_PIXELS} pixels.")
    return cell


def with_own(classes: Mapping[str, type] | None) -> dict[str, type]:
    """The classes of this library and those of the user.

    Raises:
        ValueError: a class with the name of one of this library's own.
        TypeError: what is no frozen dataclass.
    """
    for name, value in (classes or {}).items():
        if not isinstance(value, type) or not dataclasses.is_dataclass(value):
            raise TypeError(f"classes must map names to frozen dataclasses, got {name}={value!r}.")
        if name in CLASSES and CLASSES[name] is not value:
            raise ValueError(
                f"classes has {name}, which is the name of a class of jaxrnn. Rename it."
            )
    return CLASSES | dict(classes or {})


def nearest(name: Any, known: Iterable[str]) -> str:
    """What an error message says of an unknown name."""
    known = list(known)
    near = difflib.get_close_matches(str(name)[:80], known, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."


def _named(classes: list[type]) -> dict[str, type]:
    for a in classes:
        if a.__name__ in CLASSES or any(a is not b and a.__name__ == b.__name__ for b in classes):
            raise ValueError(
                f"{a.__module__}.{a.__qualname__} has the name of another class, "
                "which a file cannot tell from it."
            )
    return {c.__name__: c for c in classes}


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple):
        for item in value:
            yield from _parts(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield value
        for field in dataclasses.fields(value):
            yield from _parts(getattr(value, field.name))


def _encode(value: Any, where: str) -> Any:
    if value is None or type(value) in (bool, str):
        return value
    if isinstance(value, numbers.Real):
        return _encode_number(value, where)
    if type(value) is tuple:
        return [_encode(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [f.name for f in dataclasses.fields(value) if f.init]
        fields = {name: _encode(getattr(value, name), f"{where}.{name}") for name in names}
        return {"class": type(value).__name__} | fields
    raise TypeError(
        f"{where} is {value!r}, which a file cannot hold. "
        "Use numbers, strings, tuples and frozen dataclasses."
    )


def _encode_number(value: numbers.Real, where: str) -> int | float:
    if isinstance(value, numbers.Integral):
        return int(value)
    if not math.isfinite(value):
        raise ValueError(f"{where} is {value!r}, which JSON cannot hold.")
    return float(value)


def _decode(value: Any, known: Mapping[str, type], where: str, depth: int) -> Any:
    if depth == 0:
        raise FileFormatError(f"the cell is nested more than {DEEPEST} deep.")
    if isinstance(value, list):
        return tuple(
            _decode(item, known, f"{where}[{i}]", depth - 1) for i, item in enumerate(value)
        )
    if not isinstance(value, dict):
        return value
    name = value.get("class")
    if not isinstance(name, str) or name not in known:
        hint = "A class of your own is passed as classes={name: class}."
        raise FileFormatError(
            f"{where} has the unknown class {str(name)[:80]!r}. {nearest(name, known)} {hint}"
        )
    cls: Any = known[name]
    given = {
        k: _decode(v, known, f"{where}.{k[:80]}", depth - 1)
        for k, v in value.items()
        if k != "class"
    }
    _check_fields(cls, given, where)
    try:
        return cls(**given)
    except (TypeError, ValueError, ArithmeticError) as e:
        raise FileFormatError(f"{where}: {e}") from e


def _check_fields(cls: Any, given: dict[str, Any], where: str) -> None:
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    for name in given:
        if name not in fields:
            raise FileFormatError(
                f"{where} has the key {name[:80]!r}, which {cls.__name__} has not. "
                f"{nearest(name, fields)}"
            )
    for name, field in fields.items():
        if name not in given and field.default is field.default_factory is dataclasses.MISSING:
            raise FileFormatError(f"{where} has no {name!r}, which {cls.__name__} needs.")
    hints = _hints(cls)
    for name, value in given.items():
        hint = hints.get(name, Any)
        if not _fits(value, hint):
            kind = hint.__name__ if isinstance(hint, type) else hint
            raise FileFormatError(f"{where}.{name} is {str(value)[:80]!r}, which is no {kind}.")


def _hints(cls: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls)
    except NameError:
        # a user's annotation in a string, of a name that only its own function knows: not checked
        return {}


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated type; of those that are not understood here,
    everything is.
    """
    origin = typing.get_origin(hint)
    arguments = typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, a) for a in arguments)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return isinstance(value, tuple) and all(_fits(item, arguments[0]) for item in value)
    if origin is collections.abc.Callable:
        return callable(value)
    return _is_a(value, origin or hint)


def _is_a(value: Any, kind: Any) -> bool:
    """Whether a value is of a class; everything is of what is no class."""
    if kind is Any:
        return True
    if kind in (int, float):
        return type(value) in ((int,) if kind is int else (int, float))
    return isinstance(value, kind) if isinstance(kind, type) else True


def count(value: Any, of: Callable[[Cell], int]) -> int:
    """The sum of a number of each cell inside, both directions counted; a stack is none."""
    if isinstance(value, Stack):
        return value.directions * sum(count(cell, of) for cell in value.cells)
    if isinstance(value, tuple):
        return sum(count(item, of) for item in value)
    inside = (
        [getattr(value, f.name) for f in dataclasses.fields(value)]
        if dataclasses.is_dataclass(value)
        else []
    )
    return (of(value) if isinstance(value, Cell) else 0) + sum(count(item, of) for item in inside)


def _steps_seen(part: Cell) -> int:
    return option(part, "width", 0) + (option(part, "conv", 0) or 0)


def option(part: Any, name: str, default: Any) -> Any:
    """A field of one of this library's own cells; `default` where it has none of that name,
    or is another's.
    """
    own = type(part) in CLASSES.values() and isinstance(part, Cell)
    return getattr(part, name, default) if own else default


def undrawn(value: Any) -> Any:
    """A cell with parameters of the same shapes, zeros where this library's own would draw:
    QR takes long to trace.
    """
    if isinstance(value, tuple):
        return tuple(map(undrawn, value))
    if not isinstance(value, Cell) or type(value) not in CLASSES.values():
        return value
    own: Any = value
    fields = {f.name: getattr(own, f.name) for f in dataclasses.fields(own) if f.init}
    cheap = {"input_init": _Zeros(), "recurrent_init": _Zeros(), "init_scheme": "jaxrnn"}
    # its own words
    kept = (
        isinstance(fields.get("recurrent_init"), str)
        and fields["recurrent_init"] not in initializers.NAMES
    )
    changed = {
        name: undrawn(part) if name not in cheap else cheap[name] for name, part in fields.items()
    }
    return dataclasses.replace(
        own, **changed | ({"recurrent_init": fields["recurrent_init"]} if kept else {})
    )


@dataclasses.dataclass(frozen=True)
class _Zeros:
    def __call__(self, key: Array, shape: tuple[int, ...], dtype: DType) -> Array:
        return jnp.zeros(shape, dtype)
